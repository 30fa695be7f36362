"""What can be named in a recipe: entries of the registries with their parameters, and the shipped recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError, suggestion
from lingraft.recipe.registries import PLACES, entries_of, registry_of, said_of
from lingraft.recipe.shipped import shipped_recipes, summary

if TYPE_CHECKING:
    from lingraft.recipe.keys import Parameter

RECIPES = "recipes"
KINDS = (*PLACES, RECIPES)
"""What there are lists of."""


@dataclass(frozen=True)
class Entry:
    """A thing that can be named in a recipe: its name, one line about it, and where it comes from, if that is said."""

    name: str
    summary: str
    paper: str = ""


def list_entries(kind: str) -> list[Entry]:
    """Return what there is of a kind, by name; what only tests use is left out.

    Args:
        kind: "methods", "tuners", "objectives", "decoders", "suites", "engines", "metrics", "deciders", "mergers",
            "documents" or "recipes".

    Raises:
        UsageError: there is no such kind.
    """
    if kind == RECIPES:
        return [Entry(name, summary(text)) for name, text in sorted(shipped_recipes().items())]
    _check_kind(kind)
    found = entries_of(kind)
    return [_entry(name, entry) for name, entry in found.items() if getattr(entry, "listed", True)]


def describe_entry(kind: str, name: str) -> tuple[Entry, list[Parameter]]:
    """Return one entry of a kind and its parameters.

    Args:
        kind: as for `list_entries`, but "recipes".
        name: of the entry.

    Raises:
        UsageError: there is no such kind or entry, it needs a package that is not installed, or it is a shipped recipe.
    """
    from lingraft.recipe.keys import parameters
    from lingraft.recipe.schema_json import engines_in, schema_of  # the whole recipe's: a list needs none of it

    _check_kind(kind)
    if kind == RECIPES:
        known = shipped_recipes()
        if name not in known:
            raise UsageError(f"there is no recipe {name!r}{suggestion(name, known)}")
        raise UsageError(f"a recipe has no parameters; `lingraft show {name}` prints its keys")
    entry = registry_of(kind).get(name)
    schema = schema_of(entry.Params)
    engines_in(schema)
    return _entry(name, entry), parameters(schema, _word)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"there is no list of {kind!r}{suggestion(kind, KINDS)}")


def _entry(name: str, entry: Any) -> Entry:
    return Entry(name, said_of(entry), getattr(entry, "paper", ""))


def _word(name: str) -> str:
    """Return how words speak of a definition of the schema: "engine", "mapping"."""
    from lingraft.recipe.schema_json import CHOICES

    return "engine" if name == "JudgeChoice" else CHOICES.get(name, "mapping")
