"""From what the user named to its bytes and lines: where a source is, pipes, and bounds on all of it.

Whatever a file holds, reading it ends and takes bounded memory: a line that cannot be read is rejected and reading goes
on; a file that cannot be read is a DataError.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from lingraft.core.errors import DataError, UsageError, in_command, setting
from lingraft.data import packed, reasons
from lingraft.data.packed import MAGIC_BYTES, BrokenFile, Unpacked, compression
from lingraft.data.records import Rejected

T = TypeVar("T")

MAX_LINE = 1_000_000
"""Longest line in characters; a longer one is rejected without being held in memory."""

MAX_SKIPPED = 64 * 1024**2
"""Bytes of one line after which the file is no longer taken for one of rows."""

PIPE_PATIENCE = 30.0
"""Seconds until a pipe into which nobody writes is given up."""

CHUNK = 256 * 1024

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".txt": "text",
    ".tmx": "tmx",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    **dict.fromkeys((".xliff", ".xlf", ".sdlxliff", ".mqxliff"), "xliff"),
    **dict.fromkeys((".po", ".pot"), "po"),
    ".xml": "wmt",
}

_SHEET = "is a spreadsheet; save it as CSV (UTF-8) and give that file"
_CATALOGUE = "is a file of translation tools that is not read; export TMX from them and give that file"
_DOCUMENT = "is a document, not a table of rows; extract its text into a file of lines (.txt), JSON Lines or TSV"
_ARCHIVE = "is an archive; unpack it and give the file in it"
UNSUPPORTED = {  # as rows; `translate` takes some of them as lines
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys(
        (
            ".mxliff",
            ".txlf",
            ".mo",
            ".tbx",
            ".sdltm",
            ".resx",
        ),
        _CATALOGUE,
    ),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pdf", ".epub", ".pptx", ".md", ".srt", ".vtt"), _DOCUMENT),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".ttml"), _DOCUMENT),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".tbz2", ".txz"), _ARCHIVE),
    **dict.fromkeys((".yaml", ".yml"), "is YAML, which holds no rows here; give JSON Lines, a table, TMX or Parquet"),
}
"""What to do with files whose names tell that they cannot be read."""

_FOREIGN = {
    b"PK\x03\x04": "is a ZIP archive or a spreadsheet, whatever its name; save it as CSV (UTF-8), or unpack it",
    b"PAR1": "is a Parquet file; {parquet}",
    b"%PDF": _DOCUMENT,
    b"\xd0\xcf\x11\xe0": _SHEET,
}
"""What the first bytes of a file tell that its name does not."""


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One row and its 1-based place: the line of a text file, else the number of the row.

    `short`: it ends before the last columns of its table, and so tells nothing of what these are called.
    """

    line: int
    record: T
    short: bool = False


RawRows = Iterator[Row[dict[str, Any]] | Rejected]
"""What a format yields: the fields of each row by their names, or why it cannot be used."""


def read_ahead(rows: Iterable[T], size: Callable[[], int]) -> Iterator[list[T]]:
    """Yield rows in lists, so that several can be judged together; an error of their source comes after the rows
    before it.

    Args:
        rows: from a source that may raise.
        size: says how many rows the next list may have at most; none ends it.
    """
    waiting = iter(rows)
    failure: Exception | None = None
    while failure is None:
        chunk: list[T] = []
        try:
            for row in islice(waiting, size()):
                chunk.append(row)
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        elif failure is None:
            return
    raise failure


@dataclass(frozen=True)
class SourcePlace:
    """Where a source was found. `shown` is the path as the user wrote it, used in messages and rejected rows; `key` is
    that of the format, where the user can set it (see `errors.setting`)."""

    shown: str
    path: Path
    format: str
    key: str = ""

    def read_as(self, format: str, suffix: str) -> str:
        """Return what to do to have it read in another format, for messages: "set `format: tsv`"."""
        return _read_as(self.key, format, suffix)


def _read_as(key: str, format: str, suffix: str) -> str:
    return f"set {setting(key, format)}" if key else f"let its name end in {suffix}"


CORPORA = ("opus:", "mtdata:")
"""Beginnings of the names of corpora that are fetched by mtdata."""
REMOTE = ("hub:", "sacrebleu:", *CORPORA)
"""Beginnings of the names of what is on no disk of the user's: it is neither opened nor counted before it is needed."""


def stem(path: str) -> str:
    """Return the name of a file without its folder and format suffix ("a/train.de-en.jsonl.gz" -> "train.de-en")."""
    name = path.rpartition(":")[2].rstrip("/").replace("\\", "/").rpartition("/")[2]
    name = name.removesuffix(packed.suffix(name))
    suffix = Path(name).suffix
    return (name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name) or "data"


def locate(path: str, format: str, root: Path, aligned: bool = False, key: str = "") -> SourcePlace:
    """Resolve `path` against `root` (or the shipped starter data, or the hub) and decide its format.

    Args:
        path: as the user wrote it; "starter:" and the beginnings in `REMOTE` name what is no file of theirs.
        format: such as "jsonl"; "auto" goes by the name.
        root: folder that a relative path starts from.
        aligned: whether the file is one side of two text files; "auto" then is text, whatever the name.
        key: under which the user can set the format, for messages; empty: the name alone tells it.

    Raises:
        DataError: missing, empty or unreadable file, or a folder that holds no data set.
        UsageError: `format` is "auto" and the name does not tell the format.
    """
    if path.startswith("sacrebleu:"):
        return SourcePlace(path, Path(), "sacrebleu")
    if path.startswith(CORPORA):
        return SourcePlace(path, Path(), "corpus")
    if path.startswith("hub:") or format == "hub":
        return SourcePlace("hub:" + path.removeprefix("hub:"), Path(), "hub")
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
            return SourcePlace(path, found, "arrow")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise DataError(f"{path}: is a device or a socket; name a file")
        if stat.S_ISREG(mode):  # a pipe can be read only once
            with found.open("rb") as stream:
                start = stream.read(MAGIC_BYTES)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if not start:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    if format == "auto":
        format = "text" if aligned else _guess(path, key)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and format not in ("tmx", "xliff", "wmt"):
        raise DataError(f"{path}: {UTF16}")
    for magic, what in _FOREIGN.items():
        if start.startswith(magic) and format != "parquet":
            raise DataError(f"{path}: {what.format(parquet=_read_as(key, 'parquet', '.parquet'))}")
    if format == "parquet" and compression(path, start):
        raise DataError(f"{path}: is compressed, as Parquet files are in themselves; unpack it")
    return SourcePlace(path, found, format, key)


def refuse_missing(path: str, root: Path = Path()) -> None:
    """Refuse the name of a file that is not there; what is in it is not looked at.

    Args:
        path: as `locate` takes it; what is not on this disk is not asked for.
        root: folder that a relative path starts from.

    Raises:
        DataError: it is not there.
    """
    if path.startswith(REMOTE):
        return
    try:
        (_starter(path) if path.startswith("starter:") else root / Path(path).expanduser()).stat()
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _starter(path: str) -> Path:
    folder = Path(str(files("lingraft.shipped"))) / "starter"
    name = path.removeprefix("starter:")
    known = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if name not in known:
        raise DataError(f"{path}: there is no such starter file; known: {', '.join(known) or 'none'}")
    return folder / name


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _guess(path: str, key: str) -> str:
    suffix = Path(path.removesuffix(packed.suffix(path))).suffix.lower()
    if suffix in UNSUPPORTED:
        raise UsageError(f"{path}: {UNSUPPORTED[suffix]}")
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    remedy = f"let it end in one of {', '.join(SUFFIXES)}"
    if key:
        remedy = f"set {setting(key)} to one of {', '.join(dict.fromkeys(SUFFIXES.values()))}"
    if key == "format":  # of pairs
        remedy += f"; the first of two aligned text files needs the other one: {setting('target_path')}"
    raise UsageError(f"{path}: the name does not tell the format; {remedy}")


def _unreadable(shown: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        where = "the current folder" if in_command() else "the recipe's folder"
        return DataError(f"{shown}: there is no such file; paths are relative to {where}")
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{shown}: cannot be read ({why}); check the path and its permissions")


def open_file(path: Path, shown: str) -> io.BufferedReader:
    """Open a file, or a pipe without waiting for ever for somebody to write into it.

    Raises:
        DataError: nobody writes into the pipe within `PIPE_PATIENCE`.
        OSError: as `open` does.
    """
    if not stat.S_ISFIFO(path.stat().st_mode):
        return io.BufferedReader(io.FileIO(path), CHUNK)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening it otherwise would wait for a writer
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    if not poller.poll(PIPE_PATIENCE * 1000):
        os.close(handle)
        raise DataError(f"{shown}: is a pipe into which nobody writes; name a file, or start what writes into it")
    os.set_blocking(handle, True)
    return io.BufferedReader(io.FileIO(handle), CHUNK)


@contextmanager
def open_bytes(place: SourcePlace) -> Iterator[io.BufferedReader]:
    """Open a file, decompressing it when its name or its first bytes say how; errors while reading become DataError."""
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(open_file(place.path, place.shown))
            if kind := compression(place.path.name, stream.peek(MAGIC_BYTES)):
                unpacked = Unpacked(stream, kind, place.shown)
                stream = stack.enter_context(io.BufferedReader(unpacked, CHUNK))  # type: ignore[arg-type]
            # No buffer around a buffer: filling one from another waits for a whole chunk, heeding no signals.
            yield stream
    except BrokenFile as error:
        raise DataError(f"{place.shown}: {error}") from error
    except OSError as error:
        raise _unreadable(place.shown, error) from error


def text_lines(place: SourcePlace) -> Iterator[Row[str] | Rejected]:
    """Yield the lines of a file without their ends, reading in bounded chunks; only LF and CRLF end a line.

    Raises:
        DataError: the file cannot be read, or a line has no end within `MAX_SKIPPED` bytes.
    """
    with open_bytes(place) as stream:
        yield from split_lines(stream, place.shown)


UTF16 = "the file is UTF-16; save it as UTF-8"


def refuse_carriage_returns(alone: int, lines: int, shown: str) -> None:
    """Refuse a text whose lines end as on a Macintosh before OS X: it would be read as one line.

    Args:
        alone: carriage returns so far that no line feed follows.
        lines: line feeds so far.
        shown: name of the text, for the message.

    Raises:
        DataError: there are carriage returns alone, and no line feed.
    """
    if alone and not lines:
        raise DataError(
            f"{shown}: its lines end in a carriage return alone (old Mac line ends); save it with line feeds (LF)"
        )


def split_lines(stream: io.BufferedReader, shown: str) -> Iterator[Row[str] | Rejected]:
    """Yield the lines of an open file, as `text_lines`.

    Raises:
        DataError: the text is UTF-16, its lines end in a carriage return alone, or a line has no end within
            `MAX_SKIPPED` bytes.
    """
    limit = 4 * MAX_LINE  # a character has at most 4 bytes
    line = returns = 0
    while data := stream.readline(limit + 2):
        line += 1
        if line == 1:
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(f"{shown}: {UTF16}")
            data = data.removeprefix(codecs.BOM_UTF8)
        if b"\r" in data:
            returns += data.count(b"\r") - data.endswith((b"\r\n", b"\r"))
            refuse_carriage_returns(returns, line - (not data.endswith(b"\n")), shown)
        size = len(data)
        too_long = size > limit
        while too_long and not data.endswith(b"\n") and (data := stream.readline(65536)):
            size += len(data)
            if size > MAX_SKIPPED:
                raise DataError(
                    f"{shown}: line {line:,} has more than {MAX_SKIPPED // 1024**2} MB; give a file of one row a line"
                )
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
