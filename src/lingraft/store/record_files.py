"""Records in JSON Lines files, read when they are asked for: any number of rows in 8 to 24 bytes of memory a row.

Rows are read with positioned reads, not mapped, so that the pages of a large file are never counted as this process's
memory and processes share them through the system's cache.
"""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from lingraft.core.errors import StoreError
from lingraft.core.hashing import text_hash
from lingraft.core.record import Record

_CHUNK = 1 << 20
_ID = '{"id": "'
_DECODER = json.JSONDecoder()


R = TypeVar("R", bound=Record)


def line_offsets(path: Path) -> np.ndarray:
    """Return where each line of a file begins, and at the end the file's size: (lines + 1,) int64."""
    found = [np.zeros(1, np.int64)]
    base = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 0x0A)
            found.append(ends + (base + 1))
            base += len(chunk)
    offsets = np.concatenate(found)
    return offsets if offsets[-1] == base else np.append(offsets, base)


class RecordFile(Sequence[R]):
    """The records of a JSON Lines file as a sequence that holds 8 bytes a row; a slice shares them.

    It can be pickled: another process opens the file again. The file must not change while it is in use.

    Args:
        path: of a file with one record a line and no blank lines, as `store.write_lines` leaves it.
        kind: class of the records.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self.kind = path, kind
        self._offsets = line_offsets(path)
        self._rows = range(len(self._offsets) - 1)
        self._handle: int | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> RecordFile[R]: ...

    def __getitem__(self, index: int | slice) -> R | RecordFile[R]:
        if isinstance(index, slice):
            part: RecordFile[R] = object.__new__(RecordFile)
            part.__dict__.update(self.__dict__, _rows=self._rows[index], _handle=None)
            return part
        return self.kind.from_json(self.line(index))

    def __iter__(self) -> Iterator[R]:
        return map(self.kind.from_json, self.lines())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def line(self, index: int) -> str:
        """Return a row as it is written, without the end of the line.

        Raises:
            StoreError: the file was cut off since it was opened.
        """
        row = self._rows[index]
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
        data = os.pread(self._handle, end - begin, begin)
        if len(data) != end - begin:
            raise StoreError(f"{self.path} was cut off while it was in use; run again to rebuild it")
        return data.decode("utf-8").rstrip("\n")

    def lines(self) -> Iterator[str]:
        """Yield the rows as they are written."""
        if self._rows.step != 1:
            yield from map(self.line, range(len(self)))
            return
        with self.path.open("rb") as stream:
            stream.seek(int(self._offsets[self._rows.start]))
            for _ in self._rows:
                yield stream.readline().decode("utf-8").rstrip("\n")

    def ids(self) -> Iterator[str]:
        """Yield the ids of the rows, without reading the rest where the id comes first, as `Record.to_json` puts it."""
        for line in self.lines():
            yield _DECODER.raw_decode(line, len(_ID) - 1)[0] if line.startswith(_ID) else json.loads(line)["id"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def __del__(self) -> None:
        if self.__dict__.get("_handle") is not None:
            os.close(self._handle)  # type: ignore[arg-type]


def ids_of(rows: Sequence[Any]) -> Iterable[str]:
    """Return the ids of rows, the cheapest way there is."""
    return rows.ids() if isinstance(rows, RecordFile) else (row.id for row in rows)


class RecordsById(Mapping[str, R]):
    """The records of several JSON Lines files by their id, in 24 bytes a row: offset, hash of the id, and place.

    A row is found by the 64-bit hash of its id, then read and its id compared, so that equal hashes do no harm. Of rows
    with one id the first counts. Iteration is in the order of files and rows.

    Args:
        paths: the files, as for `RecordFile`.
        kind: class of the records; it has an `id`.
    """

    def __init__(self, paths: Iterable[Path], kind: type[R]) -> None:
        self._files = [RecordFile(path, kind) for path in paths]
        self._begins = [0]
        for file in self._files:
            self._begins.append(self._begins[-1] + len(file))
        hashes = np.frombuffer(array("Q", map(text_hash, self)), np.uint64)
        self._order = np.argsort(hashes, kind="stable").astype(np.int64)
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return self._begins[-1]

    def __iter__(self) -> Iterator[str]:
        return (id_ for file in self._files for id_ in file.ids())

    def __getitem__(self, key: str) -> R:
        wanted = np.uint64(text_hash(key))
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._order[place])
            file = bisect_right(self._begins, row) - 1
            record = self._files[file][row - self._begins[file]]
            if record.id == key:  # type: ignore[attr-defined]
                return record
            place += 1
        raise KeyError(key)

    def records(self) -> Iterator[R]:
        """Yield all records in order: cheaper than to look up each."""
        for file in self._files:
            yield from file
