"""Requests with who should answer them, graft or base, by which routing is measured: JSON Lines, one request a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import Ids
from lingraft.core.record import Record
from lingraft.data.files import locate, stem
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.records import Message, Rejected
from lingraft.language.characters import is_blank

_FORMATS = {"jsonl": jsonl_rows, "json": json_rows}
_ROUTES = ("graft", "base")
MOST_KINDS = 40
LONGEST_KIND = 40


@dataclass(frozen=True)
class LabelledRequest(Record):
    """A conversation, of which kind it is, and who should answer its last turn: "graft" or "base"."""

    id: str
    kind: str
    route: str
    messages: tuple[Message, ...]


def read_labelled(path: str, root: Path = Path()) -> list[LabelledRequest]:
    """Return the requests of a file: `messages`, `route` and, where there are any, `kind` and `id`.

    Args:
        path: JSON Lines or JSON.
        root: folder to which a relative path is relative.

    Raises:
        UsageError: the file is of another format.
        DataError: it is missing or unreadable, a row is no such request, or there is none of one route.
    """
    place = locate(path, "auto", root)
    if place.format not in _FORMATS:
        raise UsageError(f"{path}: requests with routes are read from {', '.join(_FORMATS)}; save them in one of these")
    ids = Ids(stem(path))
    found = []
    for row in _FORMATS[place.format](place):
        if isinstance(row, Rejected):
            raise DataError(f"{place.shown}:{row.line}: {row.reason} {row.detail}".rstrip() + "; mend or drop the row")
        values, where = row.record, f"{place.shown}:{row.line}"
        if values.get("route") not in _ROUTES:
            raise DataError(f"{where}: 'route' is {values.get('route')!r:.40}; give graft or base")
        kind = values.get("kind", "")
        if not isinstance(kind, str) or len(kind) > LONGEST_KIND or not kind.isprintable():
            raise DataError(
                f"{where}: 'kind' is no short text; name the kind of request in at most {LONGEST_KIND} letters"
            )
        messages = tuple(_messages(values.get("messages"), where))
        found.append(LabelledRequest(ids.unique(values.get("id"), row.line), kind, str(values["route"]), messages))
    for route in _ROUTES:
        if not any(one.route == route for one in found):
            raise DataError(f"{place.shown}: no request is for the {route}; give some of each route")
    if len({one.kind for one in found}) > MOST_KINDS:
        raise DataError(f"{place.shown}: there are more than {MOST_KINDS} kinds of requests; join some")
    return found


def _messages(given: Any, where: str) -> Iterator[Message]:
    remedy = "give 'messages', a list of objects with role and content that ends with the user's turn"
    if not isinstance(given, list) or not given or not isinstance(given[-1], dict) or given[-1].get("role") != "user":
        raise DataError(f"{where}: there is no conversation; {remedy}")
    for one in given:
        content = one.get("content") if isinstance(one, dict) else None
        if not isinstance(content, str) or is_blank(content) or one.get("role") not in ("system", "user", "assistant"):
            raise DataError(f"{where}: a message has no role or no text; {remedy}")
        yield Message(one["role"], content)
