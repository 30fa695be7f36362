"""The files of a recipe as a run reads them: what identifies them, and their rows that can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lingraft.core.errors import DataError
from lingraft.core.hashing import HashSet, file_hash, text_hash
from lingraft.data import reasons
from lingraft.data.declared_sources import DeclaredSource
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Pair, Rejected
from lingraft.data.remarks import Remarks
from lingraft.language.characters import is_blank

S = TypeVar("S", bound=DeclaredSource)


def fingerprint(source: Any) -> dict[str, Any]:
    """Return the declaration with the hash of each local file instead of its path, so that a moved file is the same."""
    values = source.model_dump(mode="json", exclude={"task"})  # the same rows, whatever is asked about them
    if not values.get("reversed"):
        values.pop("reversed", None)  # as older versions knew it
    for key in ("path", "target_path"):
        if not values.get(key):
            continue
        path = Path(values[key])
        if path.is_file():
            values[key] = [path.name, file_hash(path)]
        elif path.is_dir():
            values[key] = [path.name, [file_hash(f) for f in sorted(path.rglob("*")) if f.is_file()]]
    return dict(values)


def open_once(sources: Iterable[S], read: Callable[[S], Iterator[Any]]) -> None:
    """Read one row of every local file, so that a missing or wrong one is told before a model is fetched.

    Args:
        sources: of one kind.
        read: yields the rows of one.

    Raises:
        DataError, UsageError: as `read`; or a pipe, which could not be read again.
    """
    for source in sources:
        if not source.path.startswith("hub:"):
            for path in filter(None, (source.path, getattr(source, "target_path", None))):
                if Path(path).is_fifo():
                    raise DataError(
                        f"{path}: is a pipe, but a run reads its files more than once; write it to a file first"
                    )
            next(read(source), None)


def own_id(id_: str, source: str, taken: HashSet) -> str:
    """Return the id of a record; one that an earlier source has, too, becomes `source/id`.

    Args:
        id_: in its source.
        source: its name.
        taken: ids that others have; this one is added.
    """
    while not taken.add(text_hash(id_)):
        id_ = f"{source}/{id_}"
    return id_


def read_test_rows(source: PairSource, remarks: Remarks | None = None) -> Iterator[Pair | Rejected]:
    """Yield test rows, which are scored as they are; only rows without a side are left out."""
    for row in read_pairs(source, remarks=remarks):
        if isinstance(row, Rejected):
            yield row
        elif is_blank(row.record.source):
            yield Rejected(source.path, row.line, reasons.EMPTY_SOURCE)
        elif is_blank(row.record.target):
            yield Rejected(source.path, row.line, reasons.EMPTY_TARGET)
        else:
            yield row.record
