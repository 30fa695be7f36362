"""`lingraft init`: a shipped recipe to edit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.completion import recipes
from lingraft.core.errors import UsageError
from lingraft.core.printable import printable


def init(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A shipped recipe: `lingraft list recipes`.", autocompletion=recipes),
    ] = None,
    file: Annotated[Path | None, typer.Argument(help="Where to write it; by default NAME.yaml.")] = None,
) -> None:
    """Copy a shipped recipe to edit, comments included; a file that is there is left as it is."""
    if recipe is None:
        from lingraft.recipe.shipped import shipped_names

        raise UsageError(f"give the shipped recipe to copy: {', '.join(shipped_names())}")
    place = printable(api.init(recipe, file))
    print(place)
    print(f"Edit it, then: lingraft run {place} --dry-run", file=sys.stderr)
