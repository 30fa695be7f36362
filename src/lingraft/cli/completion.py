"""What a shell is offered for an argument: names of recipes, kinds and entries. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable

import typer

from lingraft.recipe.registries import PLACES, entries_of
from lingraft.recipe.shipped import shipped_names

RECIPES = "recipes"


def recipes(incomplete: str) -> list[str]:
    """Return the shipped recipes that begin so; where none does, the shell offers files."""
    return [name for name in shipped_names() if name.startswith(incomplete)]


def kinds(incomplete: str) -> list[str]:
    """Return what there are lists of."""
    return [kind for kind in (*PLACES, RECIPES) if kind.startswith(incomplete)]


def names_of(kind: str, *more: str) -> Callable[[str], list[str]]:
    """Return what offers the names of a kind ("methods"), and more."""

    def offered(incomplete: str) -> list[str]:
        return [name for name in (*_listed(kind), *more) if name.startswith(incomplete)]

    return offered


def entries(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the kind that stands before."""
    kind = context.params.get("kind")
    names = shipped_names() if kind == RECIPES else _listed(kind) if kind in PLACES else []
    return [name for name in names if name.startswith(incomplete)]


def _listed(kind: str) -> list[str]:
    return [name for name, entry in entries_of(kind).items() if getattr(entry, "listed", True)]
