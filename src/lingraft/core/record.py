"""Frozen records that go to and from JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

R = TypeVar("R", bound="Record")


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


@dataclass(frozen=True)
class Record:
    """Base of all records: `to_dict`/`from_dict` leave out fields that hold their default."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; fields that hold their default are left out."""
        out: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.default is not dataclasses.MISSING and value == field.default:
                continue
            if field.default_factory is not dataclasses.MISSING and value == field.default_factory():
                continue
            out[field.name] = _plain(value)
        return out

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls: type[R], values: Mapping[str, Any]) -> R:
        """Build the record; raises TypeError on unknown or missing fields."""
        hints = _hints(cast(Any, cls))
        return cls(**{key: _typed(value, hints.get(key)) for key, value in values.items()})

    @classmethod
    def from_json(cls: type[R], line: str) -> R:
        """Inverse of `to_json`."""
        return cls.from_dict(json.loads(line))


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(value: Any, hint: Any) -> Any:
    """Turn JSON values back into records and tuples, following the field's annotation."""
    if isinstance(value, str | int | float):
        return value
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, Mapping):
        return hint.from_dict(value)
    arguments = get_args(hint)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            if arguments[0] in (int, float, str):
                return tuple(value)
            return tuple(_typed(item, arguments[0]) for item in value)
        return tuple(_typed(item, kind) for item, kind in zip(value, arguments, strict=True))
    for argument in arguments:  # Optional[...] and unions
        if isinstance(value, Mapping | list) and argument is not type(None):
            return _typed(value, argument)
    return value


def check_types(record: Record) -> None:
    """Refuse a record of which a field holds something else than its annotation says: `from_dict` takes what it is
    given, and strangers may have written it.

    Raises:
        ValueError: one does.
    """
    for name, hint in _hints(cast(Any, type(record))).items():
        _check(name, getattr(record, name), hint)


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} is {type(value).__name__}")
        for one in value:
            _check(name, one, arguments[0])
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {type(value).__name__}")
        for one in value.values():
            _check(name, one, arguments[1])
    else:
        kinds = tuple(get_origin(kind) or kind for kind in ((hint,) if isinstance(hint, type) else arguments))
        if not isinstance(value, (*kinds, int) if float in kinds else kinds):
            raise ValueError(f"{name} is {type(value).__name__}")
        if isinstance(value, Record):
            check_types(value)
