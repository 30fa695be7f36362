"""Translation requests with instructions that a program can check: one request a row, its checks as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lingraft.core.errors import DataError
from lingraft.data.instruction_sets import READERS, Format
from lingraft.language.characters import is_blank
from lingraft.language.constraints import CHECKS, Asked, Check, Register
from lingraft.language.registers import REGISTERED

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


def read_translation_requests(path: str, format: Format = "requests", root: Path = Path()) -> list[TranslationRequest]:
    """Return the requests of a file.

    Args:
        path: JSON Lines or JSON of `id`, `source_lang`, `target_lang`, `prompt`, `source`, `reference` and `checks`; or
            a file as a benchmark publishes it.
        format: how it is laid out (`instruction_sets`).
        root: folder to which a relative path is relative.

    Raises:
        UsageError: the file is of another format, or not called as the benchmark calls it.
        DataError: it is missing, empty or unreadable, or a row is no such request.
    """
    found = [request_of(values, id_, where) for id_, values, where in READERS[format](path, root)]
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
