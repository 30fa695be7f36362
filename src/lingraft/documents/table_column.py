"""A column of a table (CSV, TSV): all other cells, quotation marks, line ends and the byte order mark are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from lingraft.core.errors import DataError, UsageError, suggestion
from lingraft.data.tables import SEPARATOR_LINE
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.values import Value, ValueDocument, value_slots

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class _Cell:
    start: int
    end: int
    text: str
    quoted: bool


class TableDocument(ValueDocument):
    """A table. `rows`: its cells; `number`: of the column that is written, from 0."""

    def __init__(self, source: Decoded, values: Sequence[Value], rows: Sequence[Sequence[_Cell]], number: int) -> None:
        super().__init__(source, values)
        self._rows, self._number = rows, number

    def shape(self) -> Sequence[Hashable]:
        """Return all cells but those that are written, of all rows."""
        shown = [[one.text for number, one in enumerate(row) if number != self._number] for row in self._rows]
        return list(map(tuple, shown))


class TableColumn(DocumentFormat):
    """A table with a column of texts."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "a column of a table (CSV, TSV): `--column`; all other cells are kept"
    plain: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    class Params(DocumentFormat.Params):
        """Parameters of `csv`."""

        column: str = Field("", description="name of the column that is translated, or its number from 1; required")
        target_column: str = Field(
            "",
            description="column that the translations are written to, a new one at the end where there is none of the "
            "name; default: in place of the texts",
        )
        delimiter: str = Field(
            "", max_length=1, description="what stands between cells; default: as the first line says"
        )
        header: bool = Field(True, description="whether the first row names the columns")

    def parse(self, data: bytes, shown: str, source: str, target: str) -> TableDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        first = re.split(r"[\r\n]", file.text, maxsplit=1)[0]
        told = SEPARATOR_LINE.fullmatch(first)  # Excel's own line, which is no row
        bare = re.sub(r'"[^"]*"', "", first)
        delimiter = self.params.delimiter or (told[1] if told else max(_DELIMITERS, key=bare.count))
        rows = _rows(file, delimiter, shown)
        head = 1 if told else 0
        names = [cell.text for cell in rows[head]] if len(rows) > head else []
        number = self._number(self.params.column, names, shown)
        goal, new = number, False
        if self.params.target_column:
            new = self.params.target_column not in names and not self.params.target_column.isdecimal()
            goal = len(names) if new else self._number(self.params.target_column, names, shown)
        values = list[Value]()
        for place, row in enumerate(rows):
            if place < head or len(row) <= number:
                continue
            cell = row[number]
            if place == head and self.params.header:
                if new:
                    end = row[-1].end
                    name = delimiter + _plain(self.params.target_column, delimiter)
                    values.append(Value(end, end, "", (), lambda _, name=name: name, copied=True))  # type: ignore[misc]
                continue
            line = file.line_at(cell.start)
            slots = value_slots(cell.text, f"row {place + 1}", line)
            if new:
                end = row[-1].end
                lacking = delimiter * (len(names) - len(row) + 1)
                values.append(Value(end, end, cell.text, slots, _writer(False, delimiter, lacking), copied=True))
            elif goal < len(row):
                there = row[goal]
                write = _writer(there.quoted, delimiter)
                values.append(Value(there.start, there.end, cell.text, slots, write, copied=goal != number))
            elif slots:
                raise DataError(f"{shown}: line {line} has {len(row)} cells, and no column {goal + 1}; add it")
        return TableDocument(file, values, rows, goal)

    def _number(self, column: str, names: Sequence[str], shown: str) -> int:
        if not column:
            known = ", ".join(names[:12])
            raise UsageError(f"{shown} is a table: say which column is translated (--column); there are {known}")
        if self.params.header and column in names:
            return names.index(column)
        if column.isdecimal() and 1 <= int(column) <= len(names):
            return int(column) - 1
        raise UsageError(f"{shown}: there is no column {column!r}{suggestion(column, names)}")


def _rows(file: Decoded, delimiter: str, shown: str) -> list[list[_Cell]]:
    """Return the cells of a table with their places.

    Raises:
        DataError: a quotation mark is not closed.
    """
    text, rows, row, at = file.text, list[list[_Cell]](), list[_Cell](), 0
    plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while True:
                end = text.find('"', end)
                if end < 0:
                    raise DataError(f"{shown}: a quotation mark in line {file.line_at(at)} is not closed; correct it")
                if text[end + 1 : end + 2] != '"':
                    break
                end += 2
            inner = text[at + 1 : end].replace('""', '"')
            rest = plain.match(text, end + 1)
            last = rest.end() if rest else end + 1
            if last == end + 1:
                row.append(_Cell(at, last, inner, True))
            else:
                row.append(_Cell(at, last, text[at:last], False))
        else:
            found = plain.match(text, at)
            last = found.end() if found else at
            row.append(_Cell(at, last, text[at:last], False))
        at = last
        if text[at : at + 1] == delimiter:
            at += 1
            if at < len(text) and text[at] not in "\r\n":
                continue
            row.append(_Cell(at, at, "", False))
        at += 2 if text.startswith("\r\n", at) else 1
        rows.append(row)
        row = []
    return rows


def _plain(text: str, delimiter: str) -> str:
    """Return a cell, in quotation marks where it needs them."""
    needed = any(one in text for one in (delimiter, '"', "\n", "\r")) or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if needed else text


def _writer(quoted: bool, delimiter: str, before: str = "") -> Callable[[str], str]:
    def write(text: str) -> str:
        return before + ('"' + text.replace('"', '""') + '"' if quoted else _plain(text, delimiter))

    return write
