"""Whether a text is a wording of a request for a translation, filled in. Standard library alone: gateways copy it."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
    return any(_fits(plain, wording) for wording in wordings)


def _normal(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()


def _fits(plain: str, wording: str) -> bool:
    first, *rest = _FIELD.split(wording.replace("{{", "{").replace("}}", "}"))
    fields = rest[::2]
    literals = [_SPACES.sub(" ", part).casefold() for part in (first, *rest[1::2])]
    literals[0], literals[-1] = literals[0].lstrip(), literals[-1].rstrip()
    if not any(literal.strip(" .,:;?!") for literal in literals):
        return False
    if not (plain.startswith(literals[0]) and plain.endswith(literals[-1])):
        return False
    begin, end = len(literals[0]), len(plain) - len(literals[-1])
    for number, field in enumerate(fields):
        inner = literals[number + 1] if number + 1 < len(fields) else ""
        stop = end if number + 1 == len(fields) else plain.find(inner, begin + 1, end)
        if stop <= begin or not _may_be(plain[begin:stop], field):
            return False
        begin = stop + len(inner)
    return begin <= end


def _may_be(value: str, field: str) -> bool:
    """Whether a value may stand in a field."""
    if field == "source":
        return bool(value.strip())
    return len(value) <= LONGEST_NAME and all(letter.isalpha() or letter in " -()'" for letter in value)
