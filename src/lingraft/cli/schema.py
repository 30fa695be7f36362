"""`lingraft schema`: what a recipe may hold, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft import api
from lingraft.core.streams import json_text


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference of keys, docs/recipe.md.")] = False,
) -> None:
    """Print the JSON Schema of recipes, with which editors complete, explain and check them.

    What is registered on this machine is in it, plugins included, with its parameters. How editors are told:
    docs/recipe.md.
    """
    if markdown:
        print(api.key_reference(), end="")
        return
    print(json_text(api.schema(), indent=1))
