"""Text that tries to leave its place, and a walk that puts it into every text of a value."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel

POISON = '<script>alert(1)</script></pre></style><img src=x onerror=alert(1)>"\' onclick="x()" {{ 7*7 }}'


FIXED = {"", "base", "lingraft.scorecard/1", "exact", "ngram", "higher", "lower", "translation"}
"""Texts that the schema fixes."""


def poisoned(value: Any, keep: frozenset[str] = frozenset()) -> Any:
    """Append the poison to every text inside, keys included, except to those of `keep`."""
    if isinstance(value, str):
        return value if value in FIXED | keep else value + POISON
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return type(value)(**{info.alias or name: poisoned(getattr(value, name), keep) for name, info in fields})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: poisoned(getattr(value, f.name), keep) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {poisoned(key, keep): poisoned(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(item, keep) for item in value)
    return value
