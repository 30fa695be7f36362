"""The recipes that come with the package."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from lingraft.core.errors import UsageError


def shipped_names() -> list[str]:
    """Return the names of the shipped recipes, in order."""
    return sorted(_files())


def shipped_recipes() -> dict[str, str]:
    """Return the shipped recipes: name -> YAML text."""
    return {name: file.read_text("utf-8") for name, file in _files().items()}


def summary(text: str) -> str:
    """Return the first sentence of the comment at the top of a recipe."""
    comment = text.split("\n#\n", 1)[0]
    words = " ".join(line.lstrip("# ") for line in comment.splitlines() if line.startswith("#"))
    return re.split(r"(?<=\.) ", words, maxsplit=1)[0]


def copy_recipe(name: str, file: Path) -> None:
    """Write a shipped recipe as it is, comments included, into a new file.

    Args:
        name: of the recipe.
        file: to write; its folder exists.

    Raises:
        UsageError: there is no such recipe, or there is such a file already.
    """
    shipped = shipped_recipes()
    if name not in shipped:
        raise UsageError(f"there is no shipped recipe {name!r}; there are {', '.join(sorted(shipped))}")
    try:
        with file.open("x", encoding="utf-8", newline="\n") as handle:
            handle.write(shipped[name])
    except FileExistsError as error:
        raise UsageError(f"{file} is there already and is left as it is; give another name") from error


def _files() -> dict[str, Traversable]:
    folder = files("lingraft.shipped").joinpath("recipes")
    return {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
