"""Whether a text is a wording of a request for a translation, filled in, and with what. Standard library alone:
gateways copy it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_FIELD = re.compile(r"\{(source|source_name|target_name)\}")
_SPACES = re.compile(r"\s+")
LONGEST_NAME = 60
"""Characters of the name of a language."""


def filled_in(text: str, wordings: Iterable[str]) -> bool:
    """Say whether a text is one of the wordings with something in its fields.

    Case and the amount of white space do not count. A name of a language is anything short of letters, blanks and
    `-()`; a wording of the source alone fits nothing, since it would fit everything. Linear in the text.

    Args:
        text: of a user's turn.
        wordings: with the fields `{source}`, `{source_name}` and `{target_name}`, each at most a few times.
    """
    plain = _normal(text)
    return any(_fields(plain, wording) is not None for wording in wordings)


def fillings(text: str, wordings: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield, for each wording that a text is, filled in (see `filled_in`), what stands in its fields.

    The source is as it stands in the text, but for white space around it; names of languages are in small letters.

    Args:
        text: of a user's turn.
        wordings: as for `filled_in`.
    """
    plain = _normal(text)
    for wording in wordings:
        if (found := _fields(plain, wording)) is not None:
            values = {field: plain[begin:end] for field, (begin, end) in found.items()}
            if "source" in found:
                begin, end = found["source"]
                values["source"] = _as_written(text.strip(), begin, len(plain) - end)
            yield values


def _normal(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()


def _as_written(text: str, before: int, behind: int) -> str:
    """Return what stands in a text but for so many letters, counted as `_normal` leaves them, at either end."""
    end = len(text) - _letters(reversed(text), behind)
    return text[_letters(text, before) : end].strip()


def _letters(text: Iterable[str], normal: int) -> int:
    """Return how many letters at the beginning of a text become so many of `_normal`."""
    taken = given = 0
    blank = False
    for letter in text:
        if given >= normal:
            break
        taken += 1
        given += not blank if letter.isspace() else len(letter.casefold())
        blank = letter.isspace()
    return taken


def _fields(plain: str, wording: str) -> dict[str, tuple[int, int]] | None:
    """Return from where to where each field goes, the first of a name; None where the text is not the wording.

    What stands in a field stands in every other of its name. A text may hold what follows it in the wording: the last
    place where that stands ends it.
    """
    first, *rest = _FIELD.split(wording.replace("{{", "{").replace("}}", "}"))
    fields = rest[::2]
    literals = [_SPACES.sub(" ", part).casefold() for part in (first, *rest[1::2])]
    literals[0], literals[-1] = literals[0].lstrip(), literals[-1].rstrip()
    if not any(literal.strip(" .,:;?!") for literal in literals):
        return None
    found: dict[str, tuple[int, int]] = {}
    begin, end = len(literals[0]), len(plain) - len(literals[-1])
    if not (plain.startswith(literals[0]) and plain.endswith(literals[-1])):
        return None
    while fields:
        field, *others = fields
        seek = plain.rfind if field == "source" and field not in others else plain.find
        stop = seek(literals[1], begin + 1, end) if others else end
        if stop <= begin or not _may_be(plain[begin:stop], field):
            return None
        found[field] = begin, stop
        fields, literals = _known(field, plain[begin:stop], others, literals[1:])
        begin, end = stop + len(literals[0]), len(plain) - len(literals[-1])
        if not (plain.startswith(literals[0], stop) and plain.endswith(literals[-1])):
            return None
    return found if begin == len(plain) else None


def _known(name: str, value: str, fields: list[str], literals: list[str]) -> tuple[list[str], list[str]]:
    """Return the fields and what stands around them, once what stands in those of a name is known."""
    left, around = [], literals[:1]
    for field, literal in zip(fields, literals[1:], strict=True):
        if field == name:
            around[-1] += value + literal
        else:
            left.append(field)
            around.append(literal)
    return left, around


def _may_be(value: str, field: str) -> bool:
    """Whether a value may stand in a field."""
    if field == "source":
        return bool(value.strip())
    return len(value) <= LONGEST_NAME and all(letter.isalpha() or letter in " -()'" for letter in value)
