"""What can be named in a recipe: entries of the registries, and the shipped recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.registry import Registry
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS
from lingraft.metrics.base import METRICS
from lingraft.recipe.shipped import shipped_recipes
from lingraft.suites.base import SUITES
from lingraft.training.tuners import TUNERS

REGISTRIES: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "tuners": TUNERS,
    "suites": SUITES,
    "engines": ENGINES,
    "metrics": METRICS,
}
RECIPES = "recipes"


@dataclass(frozen=True)
class Entry:
    """A thing that can be named in a recipe: its name, one line about it, and where it comes from, if that is said."""

    name: str
    summary: str
    paper: str = ""


def list_entries(kind: str) -> list[Entry]:
    """Return what there is of a kind, by name.

    Args:
        kind: "methods", "tuners", "suites", "engines", "metrics" or "recipes".

    Raises:
        UsageError: there is no such kind, or an entry needs a package that is not installed.
    """
    if kind == RECIPES:
        return [Entry(name, text.lstrip("# ").splitlines()[0]) for name, text in sorted(shipped_recipes().items())]
    if kind not in REGISTRIES:
        raise UsageError(f"there is no list of {kind!r}{suggestion(kind, [*REGISTRIES, RECIPES])}")
    found = []
    for name in REGISTRIES[kind]:
        entry = REGISTRIES[kind].get(name)
        summary = getattr(entry, "summary", "") or (entry.__doc__ or "").strip().splitlines()[0]
        found.append(Entry(name, summary, getattr(entry, "paper", "")))
    return found
