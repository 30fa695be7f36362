"""The plain-text formats but tables: from an open file to raw rows, streaming.

Every function yields `Row(line, values)` or `Rejected`, holds at most one row, and knows nothing of pairs and prompts.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, BinaryIO

from lingraft.core.errors import DataError
from lingraft.data import reasons
from lingraft.data.files import CHUNK, MAX_LINE, RawRows, Row, SourcePlace, open_bytes, split_lines, text_lines
from lingraft.data.records import Rejected
from lingraft.language.characters import is_blank


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object, none of which may be lost because another one has its name."""
    values = dict(members)
    if len(values) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r:.80} twice in one object")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_SPACE = re.compile(r"[ \t\n\r]*")


def jsonl_rows(place: SourcePlace) -> RawRows:
    """Yield one object a line; blank lines are no rows."""
    return _objects(text_lines(place), place.shown)


def _objects(lines: Iterable[Row[str] | Rejected], shown: str) -> RawRows:
    for item in lines:
        if isinstance(item, Rejected):
            yield item
        elif item.record and not item.record.isspace():
            yield _object(item.record, shown, item.line)


def _object(text: str, shown: str, line: int) -> Row[dict[str, Any]] | Rejected:
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return Rejected(shown, line, reasons.MALFORMED, f"not JSON: {error}"[:200])
    if not isinstance(value, dict):
        return Rejected(shown, line, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")
    return Row(line, value)


def json_rows(place: SourcePlace) -> RawRows:
    """Yield the objects of a JSON array one by one; a file that does not start with "[" is read as JSON Lines.

    Raises:
        DataError: not UTF-8, not valid JSON, or an element of more than `MAX_LINE` characters.
    """
    with open_bytes(place) as stream:
        if not stream.peek().removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            yield from _objects(split_lines(stream, place.shown), place.shown)
            return
        for number, value in enumerate(_Array(stream, place), start=1):
            if isinstance(value, dict):
                yield Row(number, value)
            else:
                yield Rejected(place.shown, number, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")


class _Array:
    """The elements of a JSON array in a stream, of which at most one is held."""

    def __init__(self, stream: BinaryIO, place: SourcePlace) -> None:
        self._stream, self._place = stream, place
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended, self._row = "", 0, False, 0

    def __iter__(self) -> Iterator[Any]:
        self._next_mark()
        self._at += 1  # of the "["
        if self._next_mark() != "]":
            while True:
                self._row += 1
                yield self._element()
                mark = self._next_mark()
                if mark == "]":
                    break
                if mark != ",":
                    raise self._wrong("there is no comma or ] after it")
                self._at += 1
                self._next_mark()
        self._at += 1
        if self._next_mark():
            raise self._wrong("there is something after the array")

    def _next_mark(self) -> str:
        """Return the next character that is no white space, which the position then is at; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read(CHUNK)

    def _read(self, size: int) -> None:
        data = self._stream.read(size)
        self._ended = not data
        try:
            self._text, self._at = self._text[self._at :] + self._decode(data, self._ended), 0
        except UnicodeDecodeError as error:
            raise self._wrong("not UTF-8") from error

    def _element(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            except RecursionError as error:
                raise self._wrong("nested too deeply") from error
            except ValueError as error:
                if self._ended:
                    raise self._wrong(error.msg if isinstance(error, json.JSONDecodeError) else str(error)) from error
            held = len(self._text) - self._at
            if held > MAX_LINE:
                raise self._wrong(f"no end of it within {MAX_LINE:,} characters")
            self._read(max(CHUNK, held))  # twice as much, so that a long element is not parsed again and again

    def _wrong(self, problem: str) -> DataError:
        return DataError(
            f"{self._place.shown}: is not valid JSON (row {self._row:,}: {problem}); correct it, or "
            f"{self._place.read_as('jsonl', '.jsonl')} if it has one object a line"
        )


TABLE_LINES = 3
"""Lines at the beginning of a text file that all have the same tabs, from which it is taken for a table."""


def line_rows(place: SourcePlace, column: str) -> RawRows:
    """Yield each line that is not blank as {column: line}.

    Raises:
        DataError: the first lines are rows of a table, of which nobody said which column is meant.
    """
    tabs: list[int] = []
    for item in text_lines(place):
        if isinstance(item, Rejected):
            yield item
        elif not is_blank(item.record):
            if len(tabs) < TABLE_LINES:
                tabs.append(item.record.count("\t"))
                if len(tabs) == TABLE_LINES and min(tabs) == max(tabs) > 0:
                    raise DataError(
                        f"{place.shown}: each line has {tabs[0] + 1} cells with tabs between: {item.record[:80]!r}; is "
                        f"it a table? then {place.read_as('tsv', '.tsv')}, with a header that names one {column!r}"
                    )
            yield Row(item.line, {column: item.record})


def aligned_rows(place: SourcePlace, target: SourcePlace) -> RawRows:
    """Yield line n of two files as {"source": ..., "target": ...}.

    Raises:
        DataError: at the end, if the files have different numbers of lines.
    """
    counts = [0, 0]
    for left, right in zip_longest(text_lines(place), text_lines(target)):
        counts[0] += left is not None
        counts[1] += right is not None
        if left is None or right is None:
            continue
        if isinstance(left, Rejected):
            yield left
        elif isinstance(right, Rejected):
            yield right
        else:
            yield Row(left.line, {"source": left.record, "target": right.record})
    if counts[0] != counts[1]:
        raise DataError(
            f"{place.shown} has {counts[0]:,} lines but {target.shown} has {counts[1]:,}; "
            f"aligned files need the same number, line n of one being the translation of line n of the other"
        )
