"""The plain-text formats: from an open file to raw rows, streaming.

Every function yields `Row(line, values)` or `Rejected`, holds at most one row, and knows nothing of pairs and prompts.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, BinaryIO

from lingraft.data import reasons
from lingraft.data.files import CHUNK, MAX_LINE, Place, Row, open_bytes, split_lines, text_lines
from lingraft.data.records import Rejected
from lingraft.errors import DataError

RawRows = Iterator[Row[dict[str, Any]] | Rejected]

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def jsonl_rows(place: Place) -> RawRows:
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
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(shown, line, reasons.MALFORMED, f"not JSON: {error}"[:200])
    if not isinstance(value, dict):
        return Rejected(shown, line, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")
    return Row(line, value)


def json_rows(place: Place) -> RawRows:
    """Yield the objects of a JSON array one by one; a file that does not start with "[" is read as JSON Lines.

    Raises:
        DataError: not UTF-8, not valid JSON, or an element of more than `MAX_LINE` characters.
    """
    with open_bytes(place) as stream:
        if not stream.peek().removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            yield from _objects(split_lines(stream, place.shown), place.shown)
            return
        for number, value in enumerate(_Array(stream, place.shown), start=1):
            if isinstance(value, dict):
                yield Row(number, value)
            else:
                yield Rejected(place.shown, number, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")


class _Array:
    """The elements of a JSON array in a stream, of which at most one is held."""

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._stream, self._shown = stream, shown
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
            f"{self._shown}: is not valid JSON (row {self._row:,}: {problem}); correct it, or set `format: jsonl` "
            f"if it has one object a line"
        )


def tsv_rows(place: Place, columns: Sequence[str], is_header: Callable[[Sequence[str]], bool]) -> RawRows:
    """Yield the rows of a TSV file as {column: cell}.

    One row a line and no quoting, as parallel corpora are published: a quotation mark is text. A quoted table that is
    separated by tabs is read with `format: csv`.

    Args:
        place: the file.
        columns: names of the first columns when there is no header.
        is_header: says of the cells of the first row whether they are column names.
    """
    names: Sequence[str] | None = None
    for item in text_lines(place):
        if isinstance(item, Rejected):
            yield item
            continue
        cells = item.record.split("\t")
        if names is None:
            header = is_header(cells)
            names = [cell.strip() for cell in cells] if header else columns
            if header:
                continue
        if item.record:
            yield Row(item.line, dict(zip(names, cells, strict=False)))


class _LineFeed:
    """Lines for `csv.reader`, which is told only of the readable ones; keeps the rejected ones and the line number."""

    def __init__(self, place: Place) -> None:
        self.line = 0
        self.rejected: list[Rejected] = []
        self._lines = text_lines(place)

    def __iter__(self) -> Iterator[str]:
        for item in self._lines:
            self.line = item.line
            if isinstance(item, Rejected):
                self.rejected.append(item)
            else:
                yield item.record + "\n"


def csv_rows(place: Place, columns: Sequence[str], is_header: Callable[[Sequence[str]], bool]) -> RawRows:
    """Yield the rows of a CSV file as {column: cell}; a quoted cell may span lines (the row's place is its first).

    Separated by commas, or by semicolons or tabs if that makes its first row a header. Arguments as for `tsv_rows`.
    """
    feed = _LineFeed(place)
    lines = iter(feed)
    first = next(lines, "")
    splits = {mark: _first_cells(first, mark) for mark in ";\t"}
    delimiter = next((mark for mark, cells in splits.items() if len(cells) > 1 and is_header(cells)), ",")
    reader = csv.reader(chain([first] if first else [], lines), delimiter=delimiter)
    names: Sequence[str] | None = None
    while True:
        before = reader.line_num
        problem = ""
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells, problem = [], f"{error}; is a quotation mark not closed?"
        start = feed.line - (reader.line_num - before) + 1
        yield from feed.rejected
        feed.rejected.clear()
        if cells is None:
            return
        if problem:
            yield Rejected(place.shown, start, reasons.MALFORMED, problem)
        elif names is None:
            header = is_header(cells)
            names = [cell.strip() for cell in cells] if header else columns
            if header:
                continue
        if cells and names is not None:
            yield Row(start, dict(zip(names, cells, strict=False)))


def _first_cells(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:  # told when the line is read
        return []


def line_rows(place: Place, column: str) -> RawRows:
    """Yield each line that is not blank as {column: line}."""
    for item in text_lines(place):
        if isinstance(item, Rejected):
            yield item
        elif item.record.strip():
            yield Row(item.line, {column: item.record})


def aligned_rows(place: Place, target: Place) -> RawRows:
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
