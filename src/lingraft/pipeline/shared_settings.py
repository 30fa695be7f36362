"""What all rows of a bench have the same and their results do not tell: data, checks, and how long translations are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lingraft.core.machine_paths import values_without_paths
from lingraft.store.artefacts import RECORD
from lingraft.store.files import read_sealed

_WHICH_DATA = ("path", "target_path", "subset", "revision", "limit", "dev_share")


def shared_settings(root: Path) -> dict[str, Any]:
    """Return what a run was trained on and how it asked for translations, by dotted keys of its recipe.

    All rows of a bench have it the same, and results do not tell it. Files are there by the hash of their contents.

    Args:
        root: folder of a run; {} where it does not tell.
    """
    record = read_sealed(root / RECORD) or {}
    recipe, contents = record.get("recipe"), record.get("contents") or {}
    if recipe is None:
        return {}
    said = {key: recipe[key] for key in ("prompts", "checks", "text_checks") if key in recipe}
    said["pairs"] = {key: value for key, value in recipe.get("pairs", {}).items() if key != "test"}
    longest = recipe.get("evaluate", {}).get("translation", {}).get("max_new_tokens")
    said["evaluate"] = {"translation": {"max_new_tokens": longest}}
    known = {key: contents.get(key, value) for key, value in leaves(said) if not key.endswith(".name")}
    found: dict[str, Any] = values_without_paths(known)
    return found


def differing_setting(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the first key in which two `shared_settings` differ; "" where none does, or one of them is not known.

    A key that one of them lacks is of another version, unless it says which data are read.
    """
    if not one or not other:
        return ""
    for key in dict.fromkeys([*one, *other]):
        if key in one and key in other:
            if plain(one[key]) != plain(other[key]):
                return key
        elif key.rpartition(".")[2] in _WHICH_DATA:
            return key
    return ""


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value by its dotted key; an empty list or mapping is one, too."""
    inner: Any = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    if not inner:
        yield key, value
    for name, item in inner if value else ():
        yield from leaves(item, f"{key}.{name}" if key else str(name))


def plain(value: Any) -> Any:
    """Return a value so that what means the same is equal."""
    return None if value in ([], {}, ()) else value
