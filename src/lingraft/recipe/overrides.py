"""Dotted changes to a recipe on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.recipe.strict_yaml import plain_values

SOURCES = ("pairs.train", "pairs.test", "pairs.dev", "texts", "prompts")
"""Lists of files, of which a single one may be written, and changed, without the list."""
SINGLE = (*SOURCES, "stages")
"""Lists of which a single entry may be written without the list."""


def listed(value: Any, key: str) -> Any:
    """Return the list of which a value may be the single entry.

    Args:
        value: from YAML.
        key: the first that an entry has.

    Raises:
        ValueError: it is a text.
    """
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, str):
        raise ValueError(f"an entry is a mapping, and {value!r} is a text; write `{{{key}: {value}}}`")
    return value


def apply_override(values: Any, override: str) -> None:
    """Set one dotted key in plain YAML values.

    Raises:
        UsageError: it is not of the form `key.key=value`, or the key cannot be set.
    """
    key, found, text = override.partition("=")
    if not found or not key:
        raise UsageError(f"override {override!r} is not of the form key.key=value")
    value = plain_values(text, f"override {override!r}")
    parts, node = key.split("."), values
    for i, part in enumerate(parts):
        last, place = i == len(parts) - 1, ".".join(parts[: i + 1])
        index: Any = part
        if isinstance(node, list) and len(node) == 1 and ".".join(parts[:i]) in SOURCES and not part.isdecimal():
            node = node[0]  # `prompts.path` where the recipe has a list of one file
        if isinstance(node, list):
            if not (part.isdecimal() and len(part) < 6 and part == str(int(part)) and int(part) < len(node)):
                have = (
                    "the list is empty"
                    if not node
                    else "there is only 0"
                    if len(node) == 1
                    else (f"they are numbered from 0 to {len(node) - 1}")
                )
                raise UsageError(f"override {override!r}: {place} is not an entry; {have}")
            index = int(part)
        elif not isinstance(node, dict):
            raise UsageError(f"override {override!r}: {'.'.join(parts[:i])} holds a plain value, not settings")
        if last:
            node[index] = value
            return
        inner = node[index] if isinstance(node, list) else node.get(index)
        if parts[i + 1].isdecimal():
            if place in SINGLE and (inner is None or isinstance(inner, Mapping)):
                inner = node[index] = [inner or {}]
            elif inner is None and isinstance(node, dict):
                raise UsageError(
                    f"override {override!r}: the recipe has no {place}, and its default is not changed entry by entry; "
                    f"give the whole list: {place}=[...]"
                )
        if isinstance(inner, str):  # a short form such as `tuner: lora` grows into its long form
            inner = node[index] = {{"compare": "method", "grafts": "path"}.get(parts[0], "kind"): inner}
        elif inner is None:
            inner = node[index] = {}
        node = inner
