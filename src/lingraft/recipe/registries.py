"""The registries of what a recipe names, each imported when it is asked for: completion in a shell must be quick."""

from __future__ import annotations

import importlib
from typing import Any, cast

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.registry import Registry

PLACES = {
    "methods": "lingraft.methods.base:METHODS",
    "tuners": "lingraft.training.tuners:TUNERS",
    "objectives": "lingraft.training.objectives:OBJECTIVES",
    "decoders": "lingraft.decoders.base:DECODERS",
    "engines": "lingraft.engines.base:ENGINES",
    "suites": "lingraft.suites.base:SUITES",
    "metrics": "lingraft.metrics.base:METRICS",
    "deciders": "lingraft.routing.base:DECIDERS",
    "mergers": "lingraft.merging.base:MERGERS",
    "documents": "lingraft.documents.base:DOCUMENTS",
}


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind ("methods").

    Raises:
        UsageError: there is none.
    """
    if kind not in PLACES:
        raise UsageError(f"there is no list of {kind!r}{suggestion(kind, PLACES)}")
    module, _, name = PLACES[kind].partition(":")
    return cast(Registry[Any], getattr(importlib.import_module(module), name))


def entries_of(kind: str) -> dict[str, Any]:
    """Return what is registered of a kind ("methods") and can be imported here, by name."""
    registry, found = registry_of(kind), {}
    for name in registry:
        try:
            found[name] = registry.get(name)
        except UsageError:  # a plugin without the package that it needs: using it says which
            continue
    return found


def said_of(entry: Any) -> str:
    """Return the line that says what a registered thing is."""
    return str(getattr(entry, "summary", "") or (entry.__doc__ or "").strip().splitlines()[0])
