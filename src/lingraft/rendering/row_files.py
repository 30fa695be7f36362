"""Rendered examples on disk: written once in a stream, read by number, so that training holds none of them.

A folder with
  `rows.bin`     each row as one record: ids, runs of equal span and weight, the example's id, its teacher's arrays
  `offsets.npy`  (rows + 1,) int64, where each record begins
  `lengths.npy`, `supervised.npy`  (rows,) int32, tokens and supervised tokens of each row, to plan with
  `units.npy`, `signs.npy`  (rows,) int32 and int8, only where there are groups: a number that the rows of a group
                 share, and whether a row is chosen or rejected
  `rows.json`    written last: number of rows, the kinds of rows (losses and roles of their spans, whether they have a
                 teacher, whether they are in a group, and their sign), the highest token id, and the SHA-256 of
                 `rows.bin`

A token takes 4 bytes, and with a teacher 4 more and 8 for each of the k ids and log-probabilities; a row about 100 on
top of that.

A record is read with one positioned read: several processes share the system's cache of the file, and its pages are
not counted as memory of any of them. That the files are whole is for the artefact's manifest to say.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, overload

import numpy as np

from lingraft.core.errors import DataError, StoreError
from lingraft.rendering.rows import Rendered, RenderedTeacher
from lingraft.store.disk import explain_os_errors
from lingraft.store.files import write_json

VERSION = 1
WITH_GROUPS = 2
"""Version of rows of which some are in groups: all others stay as they were."""
_HEAD = Struct("<6I")  # number of the kind, tokens, runs, bytes of the id, tokens with a teacher, k of the teacher
_RUN = np.dtype([("tokens", "<u4"), ("span", "<i4"), ("weight", "<f8")])


class Kind(NamedTuple):
    """What rows have in common: loss and role of each span, whether there are recorded distributions, whether they are
    in groups, and their sign."""

    losses: tuple[str, ...]
    roles: tuple[str, ...]
    taught: bool
    grouped: bool = False
    sign: int = 0

    @classmethod
    def of(cls, row: Rendered) -> Kind:
        """Return the kind of a row."""
        return cls(row.losses, row.roles, row.teacher is not None, bool(row.group), row.sign)

    def facts(self) -> dict[str, Any]:
        """Return it for JSON; what only rows of groups have is left out of others."""
        common = {"losses": self.losses, "roles": self.roles, "taught": self.taught}
        return {**common, "grouped": self.grouped, "sign": self.sign} if self.grouped or self.sign else common


def _runs(row: Rendered) -> list[tuple[int, int, float]]:
    """Return (tokens, span, weight) of each run of tokens that have the same."""
    return [
        (len(list(same)), span, weight) for (span, weight), same in groupby(zip(row.span_of, row.weights, strict=True))
    ]


def _supervised(runs: Sequence[tuple[int, int, float]]) -> int:
    """Return the number of tokens with a weight; the first has nothing before it to be predicted from."""
    return sum(tokens for tokens, _, weight in runs if weight > 0) - (bool(runs) and runs[0][2] > 0)


def _packed(row: Rendered, kind: int, runs: Sequence[tuple[int, int, float]]) -> bytes:
    name = row.id.encode("utf-8", "surrogatepass")
    taught: tuple[bytes, ...] = ()
    shape = (0, 0)
    if row.teacher is not None:
        shape = row.teacher.ids.shape
        if row.teacher.positions.shape != shape[:1] or row.teacher.logprobs.shape != shape:
            raise DataError(f"example {row.id!r}: the arrays of its teacher differ in length; render it again")
        taught = (
            row.teacher.positions.astype("<i4").tobytes(),
            row.teacher.ids.astype("<i4").tobytes(),
            row.teacher.logprobs.astype("<f4").tobytes(),
        )
    ids = np.array(row.input_ids, "<i4").tobytes()
    head = _HEAD.pack(kind, len(row.input_ids), len(runs), len(name), *shape)
    group = row.group.encode("utf-8", "surrogatepass")
    return b"".join((head, ids, np.array(runs, _RUN).tobytes(), name, *taught, group))


def _highest_id(row: Rendered) -> int:
    own = max(row.input_ids, default=-1)
    return own if row.teacher is None else max(own, int(row.teacher.ids.max(initial=-1)))


def write_rendered(folder: Path, rows: Iterable[Rendered], written: Callable[[int], None] | None = None) -> int:
    """Write rows into a folder, which may hold what an interrupted call left; returns how many.

    Memory: 21 bytes a row.

    Args:
        folder: made if it is not there.
        rows: drawn one by one.
        written: called after each row with their number so far.
    """
    offsets, lengths, supervised = array("q", [0]), array("i"), array("i")
    units, signs, group = array("i"), array("b"), ""
    kinds: dict[Kind, int] = {}
    highest, digest = -1, hashlib.sha256()
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.json").unlink(missing_ok=True)
        with (folder / "rows.bin").open("wb", buffering=1 << 20) as stream:
            for row in rows:
                kind = kinds.setdefault(Kind.of(row), len(kinds))
                runs = _runs(row)
                data = _packed(row, kind, runs)
                stream.write(data)
                digest.update(data)
                offsets.append(offsets[-1] + len(data))
                lengths.append(len(row.input_ids))
                supervised.append(_supervised(runs))
                units.append((units[-1] if units else -1) + (not row.group or row.group != group))
                signs.append(row.sign)
                group = row.group
                highest = max(highest, _highest_id(row))
                if written is not None:
                    written(len(lengths))
            stream.flush()
            os.fsync(stream.fileno())
        grouped = any(kind.grouped or kind.sign for kind in kinds)
        for name, values, kind_of, wanted in (
            ("offsets", offsets, "<i8", True),
            ("lengths", lengths, "<i4", True),
            ("supervised", supervised, "<i4", True),
            ("units", units, "<i4", grouped),
            ("signs", signs, "i1", grouped),
        ):
            (folder / f"{name}.npy").unlink(missing_ok=True)
            if wanted:
                np.save(folder / f"{name}.npy", np.frombuffer(values, kind_of), allow_pickle=False)
        write_json(
            folder / "rows.json",
            {
                "version": WITH_GROUPS if grouped else VERSION,
                "rows": len(lengths),
                "kinds": [kind.facts() for kind in kinds],
                "highest_id": highest,
                "sha256": digest.hexdigest(),
            },
        )
    return len(lengths)


class RenderedRows(Sequence[Rendered]):
    """The rows that `write_rendered` wrote, as they were. A slice is a view; a pickled one is opened again.

    Attributes:
        lengths: (rows,) int32, mapped from the disk: tokens of each row.
        supervised: (rows,) int32, mapped from the disk: tokens with a weight of each row.
        units: (rows,) int32, likewise, see there.
        signs: (rows,) int8, likewise, see there.
        kinds: which occur.
        highest_id: largest token id, also of teachers.
        sha256: of all rows.

    Raises:
        StoreError: the folder holds no rows, or such of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = json.loads((folder / "rows.json").read_text("utf-8"))
            if facts["version"] not in (VERSION, WITH_GROUPS):
                raise ValueError(f"version {facts['version']}")
            self.kinds = [
                Kind(**{**kind, "losses": tuple(kind["losses"]), "roles": tuple(kind["roles"])})
                for kind in facts["kinds"]
            ]
            self.highest_id, self.sha256 = int(facts["highest_id"]), str(facts["sha256"])
            self._rows = range(facts["rows"])
            self._offsets, self._lengths, self._supervised = (
                np.load(folder / f"{name}.npy", mmap_mode="r" if len(self._rows) else None)
                for name in ("offsets", "lengths", "supervised")
            )
            self._units, self._signs = (
                np.load(folder / f"{name}.npy", mmap_mode="r") if facts["version"] == WITH_GROUPS else None
                for name in ("units", "signs")
            )
            self._handle: int | None = None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder} holds no rendered rows that can be read ({error}); render again") from error

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def whole(self) -> bool:
        """Whether these are all rows in their order, not a part of them."""
        return self._rows == range(len(self._offsets) - 1)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return self._of_view(self._lengths)

    @property
    def supervised(self) -> np.ndarray:
        """Supervised tokens of each row."""
        return self._of_view(self._supervised)

    @property
    def units(self) -> np.ndarray | None:
        """A number that rows of a group share and no other row has, ascending; None where there are no groups."""
        return None if self._units is None else self._of_view(self._units)

    @property
    def signs(self) -> np.ndarray | None:
        """1 for chosen rows, -1 for rejected ones, 0 for others; None where there are no groups."""
        return None if self._signs is None else self._of_view(self._signs)

    def _of_view(self, values: np.ndarray) -> np.ndarray:
        return values if self.whole else values[np.asarray(self._rows, dtype=np.int64)]

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

    def ids(self) -> Iterator[str]:
        """Yield the ids of the rows, without their tokens."""
        for row in self._rows:
            data = self._record(row)
            _, tokens, runs, name, _, _ = _HEAD.unpack_from(data)
            at = _HEAD.size + 4 * tokens + _RUN.itemsize * runs
            yield data[at : at + name].decode("utf-8", "surrogatepass")

    def _record(self, row: int) -> bytes:
        if self._handle is None:
            self._handle = os.open(self.folder / "rows.bin", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
        data = os.pread(self._handle, end - begin, begin)
        if len(data) != end - begin:
            raise StoreError(f"{self.folder / 'rows.bin'} was cut off while it was in use; run again to rebuild it")
        return data

    def _read(self, row: int) -> Rendered:
        data = self._record(row)
        number, tokens, runs, name, taught, k = _HEAD.unpack_from(data)
        at = _HEAD.size
        ids = np.frombuffer(data, "<i4", tokens, at)
        at += ids.nbytes
        run = np.frombuffer(data, _RUN, runs, at)
        at += run.nbytes
        id_ = data[at : at + name].decode("utf-8", "surrogatepass")
        at += name
        kind, teacher = self.kinds[number], None
        if kind.taught:
            teacher = RenderedTeacher(
                np.frombuffer(data, "<i4", taught, at).astype(np.int64),
                np.frombuffer(data, "<i4", taught * k, at + 4 * taught).reshape(taught, k).astype(np.int64),
                np.frombuffer(data, "<f4", taught * k, at + (4 + 4 * k) * taught).reshape(taught, k).astype(np.float32),
            )
        at += (4 + 8 * k) * taught
        return Rendered(
            id_,
            tuple(ids.tolist()),
            tuple(run["weight"].repeat(run["tokens"]).tolist()),
            tuple(run["span"].repeat(run["tokens"]).tolist()),
            kind.losses,
            kind.roles,
            teacher,
            data[at:].decode("utf-8", "surrogatepass") if kind.grouped else "",
            kind.sign,
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
