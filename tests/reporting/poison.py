"""Text that tries to leave its place, and a walk that puts it into every text of a value."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel

POISON = '<script>alert(1)</script></pre></style><img src=x onerror=alert(1)>"\' onclick="x()" {{ 7*7 }}'


def poisoned(value: Any) -> Any:
    """Append the poison to every text inside, keys included; the schema fixes two texts."""
    if isinstance(value, str):
        return value if value in {"", "base", "lingraft.scorecard/1"} else value + POISON
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return type(value)(**{info.alias or name: poisoned(getattr(value, name)) for name, info in fields})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: poisoned(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {poisoned(key): poisoned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(item) for item in value)
    return value
