"""Names of models: folders, and ids of the hub."""

from __future__ import annotations


def is_place(name: str) -> bool:
    """Whether a name can be that of a folder alone, and of no model of the hub."""
    return name.count("/") != 1 or name.startswith((".", "/", "~"))
