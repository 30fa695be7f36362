"""Entries of gettext catalogues (PO), with the places of their strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lingraft.core.errors import DataError
from lingraft.data.files import RawRows, Row, SourcePlace, open_bytes

MAX_BYTES = 100_000_000
"""Of a catalogue."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)\s*("(?:[^"\\]|\\.)*")\s*\Z')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"\s*\Z')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass
class Entry:
    """An entry. `strings`: number of the plural form (-1 for none) -> start, end and text; places are of the quotes."""

    line: int
    start: int
    texts: dict[str, str] = field(default_factory=dict)
    strings: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    flags: list[tuple[int, int]] = field(default_factory=list)
    before: list[tuple[int, int]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def fuzzy(self, text: str) -> bool:
        """Say whether its translation is a guess."""
        return any("fuzzy" in re.split(r"[,\s]+", text[start:end]) for start, end in self.flags)


def entries(text: str, shown: str) -> Iterator[Entry]:
    """Yield the entries of a catalogue; obsolete ones are none.

    Args:
        text: of the file.
        shown: its name, for messages.

    Raises:
        DataError: a line is of no entry.
    """
    entry, last = Entry(1, 0), ""
    for number, found in enumerate(_LINE.finditer(text), start=1):
        start, line = found.start(), found[0].rstrip("\r\n")
        bare = line.strip()
        begins = bare.startswith(("#", "msgctxt", "msgid ", 'msgid"'))
        if entry.strings and (not bare or begins):
            yield entry
            entry, last = Entry(number, found.end()), ""
        if not bare or bare.startswith("#~"):
            continue
        if not entry.texts:
            entry.start, entry.line = start, number
        if bare.startswith("#"):
            if bare.startswith("#,"):
                entry.flags.append((start, found.end()))
            elif bare.startswith("#|"):
                entry.before.append((start, found.end()))
            else:
                entry.comments.append(bare)
            continue
        keyword = _KEYWORD.match(bare)
        if keyword:
            name, form, string = keyword[1].partition("[")[0], keyword[2], keyword[3]
            place = start + line.index('"')
            last = keyword[1]
            if name == "msgstr":
                entry.strings[int(form) if form else -1] = place, place + len(string), _unquoted(string)
            elif name in entry.texts:
                raise DataError(f"{shown}: line {number}: a second {name} in one entry; correct it")
            else:
                entry.texts[name] = _unquoted(string)
        elif _STRING.match(bare) and last:
            if last.startswith("msgstr"):
                form = last.partition("[")[2].rstrip("]")
                key = int(form) if form else -1
                begin, _, before = entry.strings[key]
                entry.strings[key] = begin, start + line.rindex('"') + 1, before + _unquoted(bare)
            else:
                entry.texts[last] += _unquoted(bare)
        else:
            raise DataError(f"{shown}: line {number} is of no entry of a PO file ({bare[:60]!r}); correct it")
    if entry.strings or entry.texts:
        if not entry.strings:
            raise DataError(f"{shown}: line {entry.line}: the entry has no msgstr; is the file cut off?")
        yield entry


def _unquoted(string: str) -> str:
    return _ESCAPE.sub(lambda one: _ESCAPES.get(one[1], one[1]), string.strip()[1:-1])


def po_rows(place: SourcePlace) -> RawRows:
    """Yield the entries of a catalogue as {"source", "target", "id"}; `line` is that of the entry.

    Left out are fuzzy entries, and of plurals all forms but the first and the last, which are those of one and of many
    in most languages. An entry without a translation has an empty target, for which it is rejected.

    Args:
        place: the file, in UTF-8.

    Raises:
        DataError: it is not UTF-8, or a line is of no entry.
    """
    with open_bytes(place) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{place.shown}: holds more than {MAX_BYTES // 1_000_000} MB, as no catalogue does")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{place.shown}: is not UTF-8 (line {line}); convert it with `msgconv -t UTF-8`") from error
    for entry in entries(text, place.shown):
        single, plural = entry.texts.get("msgid", ""), entry.texts.get("msgid_plural")
        if not single or entry.fuzzy(text) or not entry.strings:
            continue
        forms = sorted(entry.strings)
        name = f"line {entry.line}"
        yield Row(entry.line, {"source": single, "target": entry.strings[forms[0]][2], "id": name})
        if plural is not None and len(forms) > 1:
            yield Row(entry.line, {"source": plural, "target": entry.strings[forms[-1]][2], "id": f"{name}, plural"})
