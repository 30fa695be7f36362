"""The recipes that come with the package."""

from __future__ import annotations

from importlib.resources import files


def shipped_recipes() -> dict[str, str]:
    """Return the shipped recipes: name -> YAML text."""
    folder = files("lingraft.shipped").joinpath("recipes")
    return {
        entry.name.removesuffix(".yaml"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }
