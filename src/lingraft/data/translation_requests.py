"""Translation requests with instructions that a program can check: one request a row, its checks as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import Ids
from lingraft.data.files import RawRows, locate, stem
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.records import Rejected
from lingraft.language.characters import is_blank
from lingraft.language.constraints import CHECKS, Asked, Check, Register
from lingraft.language.registers import REGISTERED

Format = Literal["requests"]
_TEXTS = ("source_lang", "target_lang", "prompt", "source", "reference")


@dataclass(frozen=True)
class TranslationRequest:
    """A request for a translation that says how.

    Attributes:
        id: unique in its file.
        prompt: all that is asked, instruction and source.
        reference: a translation that obeys.
        asked: source and languages.
        checks: what has to be obeyed.
    """

    id: str
    prompt: str
    reference: str
    asked: Asked
    checks: tuple[Check, ...]

    @property
    def direction(self) -> str:
        """Source and target language: "en-de"."""
        return f"{self.asked.source_lang}-{self.asked.target_lang}"


def read_translation_requests(path: str, format: str = "requests", root: Path = Path()) -> list[TranslationRequest]:
    """Return the requests of a file.

    Args:
        path: JSON Lines or JSON of `id`, `source_lang`, `target_lang`, `prompt`, `source`, `reference` and `checks`; or
            a file as a benchmark publishes it.
        format: one of `READERS`.
        root: folder to which a relative path is relative.

    Raises:
        UsageError: the file is of another format.
        DataError: it is missing, empty or unreadable, or a row is no such request.
    """
    found = list(READERS[format](path, root))
    if not found:
        raise DataError(
            f"{path} holds no request with an instruction that can be checked; give a file with at least one"
        )
    return found


def request_of(values: Mapping[str, Any], id_: str, where: str) -> TranslationRequest:
    """Return the request of a row.

    Args:
        values: what it holds.
        id_: its id.
        where: file and line, for messages.

    Raises:
        DataError: something is missing, or is no check.
    """
    for name in _TEXTS:
        if not isinstance(values.get(name), str) or is_blank(values[name]):
            raise DataError(f"{where}: there is no text under {name!r}; a request has {', '.join(_TEXTS)} and checks")
    try:
        checks = CHECKS.validate_python(values.get("checks"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: checks{'.' + place if place else ''}: {first['msg']}; mend the row") from error
    asked = Asked.model_validate({name: values[name] for name in Asked.model_fields})
    for check in checks:
        listed = isinstance(check, Register) and bool(check.has or check.lacks)
        if isinstance(check, Register) and not listed and asked.target_lang not in REGISTERED:
            raise DataError(
                f"{where}: formality is not known by itself in {asked.target_lang!r} (only in "
                f"{', '.join(sorted(REGISTERED))}); give the check `has` and `lacks`"
            )
    return TranslationRequest(id_, values["prompt"], values["reference"], asked, checks)


def object_rows(path: str, root: Path) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield place, line and fields of each row of JSON Lines or JSON.

    Raises:
        UsageError: the file is of another format.
        DataError: a row cannot be read.
    """
    place = locate(path, "auto", root)
    formats: Mapping[str, Callable[..., RawRows]] = {"jsonl": jsonl_rows, "json": json_rows}
    if place.format not in formats:
        raise UsageError(f"{path}: such requests are read from jsonl or json; save them in one of these")
    for row in formats[place.format](place):
        where = f"{place.shown}:{row.line}"
        if isinstance(row, Rejected):
            raise DataError(f"{where}: {row.reason} {row.detail}".rstrip() + "; mend or drop the row")
        yield where, row.line, row.record


def _own(path: str, root: Path) -> Iterator[TranslationRequest]:
    ids = Ids(stem(path))
    for where, line, values in object_rows(path, root):
        yield request_of(values, ids.unique(values.get("id"), line), where)


READERS: dict[str, Callable[[str, Path], Iterator[TranslationRequest]]] = {"requests": _own}
"""Readers by format."""
