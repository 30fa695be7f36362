"""Rendered examples on disk: written once in a stream, read by number, so that training holds none of them.

A folder with
  `rows.bin`     each row as one record: ids, runs of equal span and weight, the example's id, and its teacher's
                 positions, token ids and log-probabilities (8 bytes for each of the k most probable tokens)
  `offsets.npy`  (rows + 1,) int64, where each record begins
  `lengths.npy`, `supervised.npy`  (rows,) int32, tokens and supervised tokens of each row, to plan with
  `rows.json`    written last: number of rows, the kinds of rows (their losses and roles), the highest token id

A record is read with one positioned read: several processes share the system's cache of the file, and its pages are
not counted as memory of any of them. That the files are whole is for the artefact's manifest to say.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from struct import Struct
from typing import Any, overload

import numpy as np

from lingraft.errors import StoreError
from lingraft.rendered import Rendered, RenderedTeacher
from lingraft.store import explained, write_json

VERSION = 1
_HEAD = Struct("<6I")  # number of the kind, tokens, runs, bytes of the id, tokens with a teacher, distributions' size
_RUN = np.dtype([("tokens", "<u4"), ("span", "<i4"), ("weight", "<f8")])


def supervised_tokens(row: Rendered) -> int:
    """Return the number of tokens with a weight; the first has nothing before it to be predicted from."""
    return sum(weight > 0 for weight in row.weights[1:])


def _packed(row: Rendered, kind: int) -> bytes:
    runs = [
        (sum(1 for _ in same), span, weight)
        for (span, weight), same in groupby(zip(row.span_of, row.weights, strict=True))
    ]
    name = row.id.encode("utf-8", "surrogatepass")
    ids = array("i", row.input_ids)
    taught, k = (0, 0) if row.teacher is None else row.teacher.ids.shape
    parts = [
        _HEAD.pack(kind, len(ids), len(runs), len(name), taught, k),
        np.frombuffer(ids, "<i4").tobytes(),
        np.array(runs, _RUN).tobytes(),
        name,
    ]
    if row.teacher is not None:
        parts += [
            row.teacher.positions.astype("<i4").tobytes(),
            row.teacher.ids.astype("<i4").tobytes(),
            row.teacher.logprobs.astype("<f4").tobytes(),
        ]
    return b"".join(parts)


def _teacher(data: bytes, at: int, taught: int, k: int) -> RenderedTeacher | None:
    if not k:
        return None
    positions = np.frombuffer(data, "<i4", taught, at)
    at += positions.nbytes
    ids = np.frombuffer(data, "<i4", taught * k, at).reshape(taught, k)
    at += ids.nbytes
    logprobs = np.frombuffer(data, "<f4", taught * k, at).reshape(taught, k)
    return RenderedTeacher(positions.astype(np.int64), ids.astype(np.int64), logprobs.astype(np.float32))


def write_rendered(folder: Path, rows: Iterable[Rendered], written: Callable[[int], None] | None = None) -> int:
    """Write rows into a folder, which may hold what an interrupted call left; returns how many.

    Memory: 16 bytes a row.

    Args:
        written: called after each row with their number so far.
    """
    offsets, lengths, supervised = array("q", [0]), array("i"), array("i")
    kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    highest = -1
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.json").unlink(missing_ok=True)
        with (folder / "rows.bin").open("wb", buffering=1 << 20) as stream:
            for row in rows:
                kind = kinds.setdefault((row.losses, row.roles), len(kinds))
                data = _packed(row, kind)
                stream.write(data)
                offsets.append(offsets[-1] + len(data))
                lengths.append(len(row.input_ids))
                supervised.append(supervised_tokens(row))
                highest = max(highest, max(row.input_ids, default=-1))
                if written is not None:
                    written(len(lengths))
            stream.flush()
            os.fsync(stream.fileno())
        for name, values, kind_of in (
            ("offsets", offsets, "<i8"),
            ("lengths", lengths, "<i4"),
            ("supervised", supervised, "<i4"),
        ):
            np.save(folder / f"{name}.npy", np.frombuffer(values, kind_of), allow_pickle=False)
        write_json(
            folder / "rows.json",
            {
                "version": VERSION,
                "rows": len(lengths),
                "kinds": [{"losses": losses, "roles": roles} for losses, roles in kinds],
                "highest_id": highest,
            },
        )
    return len(lengths)


class RenderedRows(Sequence[Rendered]):
    """The rows that `write_rendered` wrote, as they were. A slice is a view; a pickled one is opened again.

    Attributes:
        lengths, supervised: (rows,) int32, mapped from the disk: tokens, and tokens with a weight, of each row.
        kinds: (losses, roles) of the spans of a row, as they occur. highest_id: largest token id of all rows.

    Raises:
        StoreError: the folder holds no rows, or such of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = json.loads((folder / "rows.json").read_text("utf-8"))
            if facts["version"] != VERSION:
                raise ValueError(f"version {facts['version']}")
            self.kinds = [(tuple(kind["losses"]), tuple(kind["roles"])) for kind in facts["kinds"]]
            self.highest_id = int(facts["highest_id"])
            self._rows = range(facts["rows"])
            self._offsets, self._lengths, self._supervised = (
                np.load(folder / f"{name}.npy", mmap_mode="r" if len(self._rows) else None)
                for name in ("offsets", "lengths", "supervised")
            )
            self._handle: int | None = None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder} holds no rendered rows that can be read ({error}); render again") from error

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return self._of_view(self._lengths)

    @property
    def supervised(self) -> np.ndarray:
        """Supervised tokens of each row."""
        return self._of_view(self._supervised)

    def _of_view(self, values: np.ndarray) -> np.ndarray:
        rows = self._rows
        return values if len(rows) == len(values) and rows.step == 1 else values[np.asarray(rows, dtype=np.int64)]

    @overload
    def __getitem__(self, index: int) -> Rendered: ...

    @overload
    def __getitem__(self, index: slice) -> RenderedRows: ...

    def __getitem__(self, index: int | slice) -> Rendered | RenderedRows:
        if isinstance(index, slice):
            part = object.__new__(RenderedRows)
            part.__dict__.update(self.__dict__, _rows=self._rows[index], _handle=None)
            return part
        return self._read(self._rows[index])

    def __iter__(self) -> Iterator[Rendered]:
        return map(self._read, self._rows)

    def _read(self, row: int) -> Rendered:
        if self._handle is None:
            self._handle = os.open(self.folder / "rows.bin", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
        data = os.pread(self._handle, end - begin, begin)
        if len(data) != end - begin:
            raise StoreError(f"{self.folder / 'rows.bin'} was cut off while it was in use; run again to rebuild it")
        kind, tokens, runs, name, taught, k = _HEAD.unpack_from(data)
        at = _HEAD.size
        ids = np.frombuffer(data, "<i4", tokens, at)
        at += ids.nbytes
        run = np.frombuffer(data, _RUN, runs, at)
        at += run.nbytes
        losses, roles = self.kinds[kind]
        return Rendered(
            data[at : at + name].decode("utf-8", "surrogatepass"),
            tuple(ids.tolist()),
            tuple(run["weight"].repeat(run["tokens"]).tolist()),
            tuple(run["span"].repeat(run["tokens"]).tolist()),
            losses,
            roles,
            _teacher(data, at + name, taught, k),
        )

    def __reduce__(self) -> Any:
        return _reopened, (self.folder, self._rows)

    def __del__(self) -> None:
        if self.__dict__.get("_handle") is not None:
            os.close(self._handle)  # type: ignore[arg-type]


def _reopened(folder: Path, rows: range) -> RenderedRows:
    opened = RenderedRows(folder)
    opened._rows = rows
    return opened
