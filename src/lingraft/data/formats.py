"""From a file to raw rows, streaming: where a source is, which format it has, and the plain-text formats.

Every function yields `Row(line, values)` or `Rejected`, holds at most one row (JSON arrays excepted), and knows
nothing of pairs and prompts. A line that cannot be read is rejected and reading goes on; a file that cannot be read
is a DataError.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

from lingraft.data import reasons
from lingraft.data.records import Rejected
from lingraft.errors import DataError, UsageError

T = TypeVar("T")

MAX_LINE = 1_000_000
"""Longest line in characters; a longer one is rejected without being held in memory."""

MAX_JSON_BYTES = 256 * 1024**2
"""Largest JSON array file, which has to be loaded whole."""

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".txt": "text",
    ".tmx": "tmx",
}


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One row and its 1-based place: the line of a text file, else the number of the row."""

    line: int
    record: T


RawRows = Iterator[Row[dict[str, Any]] | Rejected]


@dataclass(frozen=True)
class Place:
    """Where a source was found. `shown` is the path as the user wrote it, used in messages and rejected rows."""

    shown: str
    path: Path
    format: str


def stem(path: str) -> str:
    """Return the name of a file without its folder and format suffix ("a/train.de-en.jsonl.gz" -> "train.de-en")."""
    name = path.rpartition(":")[2].rstrip("/").replace("\\", "/").rpartition("/")[2].removesuffix(".gz")
    suffix = Path(name).suffix
    return (name.removesuffix(suffix) if suffix in SUFFIXES else name) or "data"


def locate(path: str, format: str, root: Path, aligned: bool = False) -> Place:
    """Resolve `path` against `root` (or the shipped starter data, or the hub) and decide its format.

    Raises:
        DataError: missing, empty or unreadable file, or a folder that holds no data set.
        UsageError: `format` is "auto" and the name does not tell the format.
    """
    if path.startswith("hub:") or format == "hub":
        return Place("hub:" + path.removeprefix("hub:"), Path(), "hub")
    start = b"?"
    try:
        found = _starter(path) if path.startswith("starter:") else root / Path(path).expanduser()
        mode = found.stat().st_mode
        if stat.S_ISDIR(mode):
            if format not in ("auto", "arrow") or not _is_dataset(found):
                raise DataError(
                    f"{path}: is a folder without a saved data set; name a file, or a folder written by "
                    f"`datasets.save_to_disk`"
                )
            return Place(path, found, "arrow")
        if stat.S_ISREG(mode):  # a pipe can be read only once
            with found.open("rb") as stream:
                start = stream.read(2)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if not start:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not path.endswith(".tmx"):
        raise DataError(f"{path}: the file is UTF-16; save it as UTF-8")
    if format == "auto":
        format = "text" if aligned else _guess(path)
    if format == "arrow":
        raise DataError(f"{path}: is a file, but the format arrow is a folder written by `datasets.save_to_disk`")
    return Place(path, found, format)


def _starter(path: str) -> Path:
    folder = Path(str(files("lingraft"))) / "recipes" / "starter"
    name = path.removeprefix("starter:")
    known = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if name not in known:
        raise DataError(f"{path}: there is no such starter file; known: {', '.join(known) or 'none'}")
    return folder / name


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _guess(path: str) -> str:
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: the name does not tell the format; set `format:` to one of "
            f"{', '.join(dict.fromkeys(SUFFIXES.values()))}"
        )
    return SUFFIXES[suffix]


def _unreadable(shown: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{shown}: there is no such file; paths are relative to the recipe's folder")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{shown}: cannot be read ({why}); check the path and its permissions")


@contextmanager
def open_bytes(place: Place) -> Iterator[BinaryIO]:
    """Open a file, decompressing it when its name ends in .gz; errors while reading become DataError."""
    try:
        if place.path.name.endswith(".gz"):
            with gzip.open(place.path, "rb") as stream:
                yield cast(BinaryIO, stream)
        else:
            with place.path.open("rb") as plain:
                yield plain
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{place.shown}: is not a whole gzip file ({error}); copy or compress it again") from error
    except OSError as error:
        raise _unreadable(place.shown, error) from error


def text_lines(place: Place) -> Iterator[Row[str] | Rejected]:
    """Yield the lines of a file without their ends, reading in bounded chunks; only LF and CRLF end a line."""
    with open_bytes(place) as stream:
        yield from _split_lines(stream, place.shown)


def _split_lines(stream: BinaryIO, shown: str) -> Iterator[Row[str] | Rejected]:
    limit = 4 * MAX_LINE  # a character has at most 4 bytes
    line = 0
    while data := stream.readline(limit + 2):
        line += 1
        if line == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        too_long = len(data) > limit
        while too_long and not data.endswith(b"\n") and (data := stream.readline(65536)):
            pass
        if not too_long:
            try:
                text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield Rejected(shown, line, reasons.NOT_UTF8, f"byte {error.start + 1} of the line")
                continue
            if len(text) <= MAX_LINE:
                yield Row(line, text)
                continue
        yield Rejected(shown, line, reasons.LINE_TOO_LONG, f"more than {MAX_LINE:,} characters")


def jsonl_rows(place: Place) -> RawRows:
    """Yield one object a line; blank lines are no rows."""
    for item in text_lines(place):
        if isinstance(item, Rejected):
            yield item
        elif item.record and not item.record.isspace():
            yield _object(item.record, place.shown, item.line)


def _object(text: str, shown: str, line: int) -> Row[dict[str, Any]] | Rejected:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(shown, line, reasons.MALFORMED, f"not JSON: {error}"[:200])
    if not isinstance(value, dict):
        return Rejected(shown, line, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")
    return Row(line, value)


def json_rows(place: Place) -> RawRows:
    """Yield the objects of a JSON array; a file that does not start with "[" is read as JSON Lines.

    Raises:
        DataError: the array is over MAX_JSON_BYTES, not UTF-8, or not valid JSON.
    """
    with open_bytes(place) as stream:
        head = stream.read(4096).removeprefix(codecs.BOM_UTF8)
        if not head.lstrip().startswith(b"["):
            array = None
        else:
            array = head + stream.read(MAX_JSON_BYTES)
    if array is None:
        yield from jsonl_rows(place)
        return
    if len(array) > MAX_JSON_BYTES:
        raise DataError(
            f"{place.shown}: a JSON array of over {MAX_JSON_BYTES // 1024**2} MB has to be loaded whole; "
            f"convert it to JSON Lines (one object a line)"
        )
    try:
        values = json.loads(array.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{place.shown}: is not valid JSON ({error}); correct it, or set `format: jsonl` "
            f"if it has one object a line"
        ) from error
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield Row(number, value)
        else:
            yield Rejected(place.shown, number, reasons.MALFORMED, f"a JSON {type(value).__name__}, not an object")


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
    splits = {mark: next(csv.reader([first], delimiter=mark), []) for mark in ";\t"}
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
