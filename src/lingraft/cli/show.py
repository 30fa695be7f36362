"""`lingraft show`: a recipe as it will be run."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import RecipeArgument


def show(
    recipe: RecipeArgument,
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes, e.g. stages.0.method=vanilla seed=2.")] = None,
) -> None:
    """Print a recipe as YAML with every default filled in and paths made absolute; `run` takes it as it is.

    Keys are explained in docs/recipe.md.
    """
    print(api.show(recipe, overrides or []), end="")
