"""Tables of cells, TSV and CSV: from an open file to raw rows, streaming; no cell is lost without a word.

A row must have exactly the columns that are known by name. Quoting is that of RFC 4180; a quotation mark that is not
closed costs the row in which it stands, not those behind it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lingraft.core.errors import DataError, setting
from lingraft.data import reasons
from lingraft.data.columns import Columns, HeaderProblem
from lingraft.data.files import RawRows, Row, SourcePlace, text_lines
from lingraft.data.headers import Look, looks_like_header
from lingraft.data.records import Rejected

MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What may separate the cells of a CSV file, the likeliest first."""

_SAMPLED_LINES = 100
_SAMPLED_CHARACTERS = 200_000
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
# A cell of which every quotation mark is doubled, within two: no text looks so.
_QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
_SPACED_QUOTE = re.compile(' +"')


def tsv_rows(place: SourcePlace, columns: Columns) -> RawRows:
    """Yield the rows of a TSV file as {column: cell}.

    One row a line and no quoting, as parallel corpora are published: a quotation mark is text, but in a cell whose
    marks are doubled as in CSV (`"He said ""yes""."`). A table whose header is quoted is read as CSV.

    Raises:
        DataError: the first row is no header and has other columns than are needed, or a header names one twice.
    """
    lines = _Lines(place)
    first = next((text for text in lines.sample() if text.strip()), "")
    cells = _split(first, "\t")
    quoted = len(cells) > 1 and cells != first.split("\t") and _header(columns, cells, place) is not None
    yield from _Table(place, columns, lines, _Dialect("\t", quoted=quoted)).rows()


def csv_rows(place: SourcePlace, columns: Columns) -> RawRows:
    """Yield the rows of a CSV file as {column: cell}; a quoted cell may span lines (the row's place is its first).

    Separated by what Excel's line `sep=;` says; else by the mark that makes the first row a header; else by the one
    that gives the needed columns. Spaces behind the mark are left out where the header has them.

    Raises:
        DataError: as for `tsv_rows`, or two marks would do.
    """
    lines = _Lines(place)
    given = lines.take_separator()
    dialect = _Dialect(given) if given else _dialect(lines.sample(), columns, place)
    yield from _Table(place, columns, lines, dialect).rows()


@dataclass(frozen=True)
class _Dialect:
    """How a table is written. `spaced`: spaces behind a mark are none of the cell."""

    mark: str
    spaced: bool = False
    quoted: bool = True


class _Lines:
    """The lines of a file, of which some can be looked at before they are taken, or given back."""

    def __init__(self, place: SourcePlace) -> None:
        self._rest = text_lines(place)
        self._ahead: deque[Row[str] | Rejected] = deque()

    def sample(self) -> list[str]:
        """Return the first lines that can be read, without taking them."""
        size = 0
        if not self._ahead:
            for item in islice(self._rest, _SAMPLED_LINES):
                self._ahead.append(item)
                size += len(item.record) if isinstance(item, Row) else 0
                if size > _SAMPLED_CHARACTERS:
                    break
        return [item.record for item in self._ahead if isinstance(item, Row)]

    def take_separator(self) -> str:
        """Take Excel's line that names the separator, if it is the first, and return the separator."""
        self.sample()
        first = self._ahead[0] if self._ahead else None
        named = SEPARATOR_LINE.fullmatch(first.record) if isinstance(first, Row) else None
        if named is None:
            return ""
        self._ahead.popleft()
        return named[1]

    def take(self) -> Row[str] | Rejected | None:
        """Take the next line; None at the end."""
        return self._ahead.popleft() if self._ahead else next(self._rest, None)

    def give_back(self, items: Sequence[Row[str] | Rejected]) -> None:
        """Have lines taken again, in their order."""
        self._ahead.extendleft(reversed(items))


class _Table:
    """The rows of one table."""

    def __init__(self, place: SourcePlace, columns: Columns, lines: _Lines, dialect: _Dialect) -> None:
        self._place, self._columns, self._lines, self._dialect = place, columns, lines, dialect
        self._names: list[str] | None = None
        self._torn = False  # a quotation mark may be the end of what was not begun

    def rows(self) -> RawRows:
        """Yield rows and rejected rows, each with the line at which it begins."""
        while (item := self._lines.take()) is not None:
            if isinstance(item, Rejected):
                yield item
                continue
            if not item.record or item.record.isspace():
                continue
            cells = self._cells(item)
            if isinstance(cells, Rejected):
                yield cells
                continue
            if self._names is None:
                self._names, is_header = self._first(cells)
                if is_header:
                    continue
            yield self._row(item.line, cells)

    def _cells(self, item: Row[str]) -> list[str] | Rejected:
        """Return the cells of the row that begins with a line; takes further lines for quoted cells."""
        line, dialect = item.record, self._dialect
        if not dialect.quoted:
            cells = line.split(dialect.mark)
            return [_unquoted(cell) for cell in cells] if '""' in line else cells
        if '"' not in line and "\r" not in line and len(line) < csv.field_size_limit():
            cells = line.split(dialect.mark)
            return [cell.lstrip(" ") for cell in cells] if dialect.spaced else cells
        taken: list[Row[str] | Rejected] = [item]
        problem = ""
        try:
            cells = next(
                csv.reader(self._feed(taken), delimiter=dialect.mark, skipinitialspace=dialect.spaced, strict=True)
            )
        except csv.Error as error:
            problem = f"{error}; is a quotation mark not closed?"
        if not problem:
            raw = "\n".join(one.record for one in taken if isinstance(one, Row))
            if self._torn and raw.count('"') % 2:
                problem = "a quotation mark without its partner"
            elif len(taken) > 1 and self._names is not None and len(cells) != len(self._names):
                problem = f"{_count(cells)} over {len(taken)} lines; is a quotation mark not closed?"
            elif any(map(_SPACED_QUOTE.match, cells)) and _opens_behind_space(raw, dialect.mark):
                problem = "a space before a quotation mark that opens a cell"
        if not problem:
            self._torn = False
            return cells
        self._torn = True
        self._lines.give_back(taken[1:])
        return Rejected(self._place.shown, item.line, reasons.MALFORMED, problem[:200])

    def _feed(self, taken: list[Row[str] | Rejected]) -> Iterator[str]:
        """Yield the lines of a row to `csv.reader`, which asks for as many as it needs; one that cannot be read ends
        them."""
        item: Row[str] | Rejected = taken[0]
        size = 0
        while isinstance(item, Row):
            size += len(item.record) + 1
            yield item.record + "\n"
            following = self._lines.take() if size <= csv.field_size_limit() else None
            if following is None:
                return
            taken.append(following)
            item = following

    def _first(self, cells: list[str]) -> tuple[list[str], bool]:
        """Return the names of the columns, and whether the first row is a header."""
        names = _header(self._columns, cells, self._place)
        below = self._below()
        most = max(
            _usual_width([*map(len, below)]), len(cells)
        )  # a first row that is short is one row, and not how the table is
        if self._columns.numbered(cells):
            given = [int(column) for column in self._columns.fields.values()]
            if wrong := [number for number in given if not 1 <= number <= most]:
                counted = "columns are counted from 1" if wrong[0] < 1 else f"rows have {most} cells"
                raise DataError(
                    f"{self._place.shown}: there is no column {wrong[0]}: {counted}; the first row is {_shown(cells)}"
                )
            numbers = [str(number) for number in range(1, most + 1)]
            known = names is not None or _above_numbers(cells, below[:5])
            return numbers, known or self._look(cells, below) == "names"
        if names is not None:
            return names, True
        needed = self._columns.needed
        if not self._columns.fields and len(cells) <= most == len(needed):
            if len(cells) == most and (look := self._look(cells, below)):
                raise DataError(f"{self._place.shown}: {self._unknown(cells, look)}")
            return list(needed), False
        raise DataError(f"{self._place.shown}: {self._nameless(cells)}")

    def _below(self) -> list[list[str]]:
        """Return the cells of the rows that are sampled behind the first one."""
        lines = [line for line in self._lines.sample() if line.strip()]
        if self._dialect.quoted:
            return _rows(lines, self._dialect.mark)
        return [line.split(self._dialect.mark) for line in lines]

    def _look(self, cells: Sequence[str], below: Sequence[Sequence[str]]) -> Look:
        """Say what the first row looks like, in the columns that are needed."""
        fields, needed = self._columns.fields, self._columns.needed
        given = [int(fields[name]) for name in needed if name in fields] or range(1, len(cells) + 1)

        def chosen(row: Sequence[str]) -> list[str]:
            return [row[number - 1] for number in given if number <= len(row)]

        return looks_like_header(chosen(cells), [*map(chosen, below)])

    def _unknown(self, cells: Sequence[str], look: Look) -> str:
        names = [cell.strip() for cell in cells]
        plain = all(re.fullmatch(r"[\w.-]+", name) for name in names)
        numbers = [str(number) for number, _ in enumerate(cells, start=1)]
        found = f"the first row looks like a header of which the names are not known: {_shown(cells)}"
        if not self._columns.key:
            return f"{found}; name the columns so: {', '.join(self._columns.needed)}"
        named, numbered = (
            setting(self._columns.key, f"{{{', '.join(map(': '.join, zip(self._columns.needed, one, strict=True)))}}}")
            for one in (names if plain else numbers, numbers)
        )
        return f"{found}; say which column holds what: {named}" + (
            f", or, if it is a row of text: {numbered}" if look == "words" else ""
        )

    def _nameless(self, cells: Sequence[str]) -> str:
        needed = self._columns.needed
        wanted = f"{len(needed)} columns" if len(needed) > 1 else "one column"
        other = next((mark for mark in MARKS if len(cells) == 1 and len(_split(cells[0], mark)) > 1), "")
        hint = ""
        if len(needed) > 1 and other:
            hint = f" (is it separated by {MARKS[other]}? then {self._place.read_as('csv', '.csv')})"
        examples = ", ".join(f"{name}: {number}" for number, name in enumerate(needed, start=1))
        said = ""
        if self._columns.key:
            said = f", or say which one holds what, by name or number: {setting(self._columns.key, f'{{{examples}}}')}"
        return (
            f"the first row has {_count(cells)} and no header that is known: {_shown(cells)}{hint}; name the columns "
            f"in a header ({', '.join(needed)}){said}; without names, a table has {wanted}"
        )

    def _row(self, line: int, cells: Sequence[str]) -> Row[dict[str, Any]] | Rejected:
        names = self._names or []
        if any(cell.strip() for cell in cells[len(names) :]):
            marks = MARKS.get(self._dialect.mark, repr(self._dialect.mark))
            detail = f"{_count(cells)} for {len(names)} columns, separated by {marks}: {_shown(cells)}"
            return Rejected(self._place.shown, line, reasons.MALFORMED, detail[:200])
        return Row(line, dict(zip(names, cells, strict=False)), short=len(cells) < len(names))


def _usual_width(counts: Sequence[int]) -> int:
    """Return how many cells most rows have, of the numbers of all; 0 if no number is that of most."""
    [(width, count)] = Counter(counts).most_common(1) or [(0, 0)]
    return width if 2 * count > len(counts) else 0


def _above_numbers(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Say whether a row is a header, whatever its names: it has a word above numbers."""
    return any(
        not _is_number(cell) and len(below) > 1 and all(len(row) > at and _is_number(row[at]) for row in below)
        for at, cell in enumerate(cells)
        if cell.strip()
    )


def _opens_behind_space(raw: str, mark: str) -> bool:
    """Say whether a cell of a row begins with spaces and a quotation mark, which is then a part of it."""
    cells = re.finditer(rf'("(?:[^"]|"")*"|[^{re.escape(mark)}]*)(?:{re.escape(mark)}|$)', raw)
    return any(_SPACED_QUOTE.match(cell[1]) for cell in cells)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r'\s*"?[-+]?[\d.,]*\d"?\s*', cell) is not None


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def _count(cells: Sequence[str]) -> str:
    return f"{len(cells)} cells" if len(cells) != 1 else "one cell"


def _shown(cells: Sequence[str]) -> str:
    """Return cells for a message, the long ones shortened."""
    some = [repr(cell if len(cell) <= 40 else f"{cell[:37]}...") for cell in cells[:8]]
    return ", ".join([*some, "..."] if len(cells) > 8 else some)


def _header(columns: Columns, cells: Sequence[str], place: SourcePlace) -> list[str] | None:
    try:
        return columns.header(cells)
    except HeaderProblem as problem:
        raise DataError(f"{place.shown}: {problem}") from problem


def _split(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:  # told when the line is read
        return []


def _dialect(lines: Sequence[str], columns: Columns, place: SourcePlace) -> _Dialect:
    """Return how a CSV file is written, told from its first lines.

    Raises:
        DataError: no header says it, and two marks give the needed columns equally well.
    """
    lines = [line for line in lines if line.strip()]
    first = lines[0] if lines else ""
    headers: list[tuple[int, int, _Dialect]] = []
    for rank, mark in enumerate(MARKS):
        cells = _split(first, mark)
        if len(cells) > 1 and (names := _header(columns, cells, place)) is not None:
            spaced = all(cell.startswith(" ") for cell in cells[1:])
            headers.append((len(set(columns.needed) & {*names}), -rank, _Dialect(mark, spaced)))
    if headers:
        return max(headers, key=lambda found: found[:2])[2]
    if len(columns.needed) < 2 or columns.fields:
        return _Dialect(_widest(lines))
    shares = {mark: _share(lines, mark, len(columns.needed)) for mark in MARKS}
    best = [mark for mark, share in shares.items() if share >= 0.5 and share == max(shares.values())]
    if len(best) > 1:  # text has spaces behind its commas and semicolons, tables have none
        best = [mark for mark in best if not _in_text(lines, mark)] or best
    if len(best) > 1:
        either = " or by ".join(MARKS[mark] for mark in best)
        raise DataError(
            f"{place.shown}: its cells may be separated by {either}, and no header tells: {first[:80]!r}; add a header "
            f"such as "
            f"{best[0].join(columns.needed)!r}, or the line 'sep={best[0]}' before the first"
        )
    return _Dialect(best[0]) if best else _Dialect(_widest(lines))


def _share(lines: Sequence[str], mark: str, wanted: int) -> float:
    """Return the share of rows with so many cells."""
    counts = [len(cells) for cells in _rows(lines, mark)]
    return sum(count == wanted for count in counts) / len(counts) if counts else 0.0


def _widest(lines: Sequence[str]) -> str:
    """Return the mark that gives every row, else three in four, equally many cells, and more than one; else a comma."""
    even: dict[str, tuple[bool, int]] = {}
    for mark in MARKS:
        counts = [len(cells) for cells in _rows(lines, mark)]
        width = _usual_width(counts)
        if width > 1 and 4 * counts.count(width) >= 3 * len(counts):
            even[mark] = (counts.count(width) == len(counts), width)
    return max(even, key=lambda mark: even[mark]) if even else ","


def _rows(lines: Sequence[str], mark: str) -> list[list[str]]:
    try:
        return [cells for cells in csv.reader([f"{line}\n" for line in lines], delimiter=mark) if cells]
    except csv.Error:
        return []


def _in_text(lines: Sequence[str], mark: str) -> bool:
    return all(line.count(mark) == line.count(f"{mark} ") for line in lines)
