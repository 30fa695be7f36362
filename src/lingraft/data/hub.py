"""Rows of data sets: folders of `save_to_disk`, the hub, and Parquet files. The only user of `datasets`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lingraft.core.errors import DataError, UsageError, first_line, in_command
from lingraft.data import reasons
from lingraft.data.files import RawRows, Row, SourcePlace, open_file
from lingraft.data.packed import INFLATION_FROM, MAX_INFLATION
from lingraft.data.records import Rejected


def arrow_rows(place: SourcePlace, split: str) -> RawRows:
    """Return the rows of a folder written by `datasets.save_to_disk`, memory-mapped, or of a file of Arrow's.

    Raises:
        DataError: the folder cannot be read, or has no such split; the file is none of Arrow's.
    """
    if place.path.is_dir():
        return _saved_rows(place, split)
    return _arrow_file_rows(place)


def _saved_rows(place: SourcePlace, split: str) -> RawRows:
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(place.path))
    except Exception as error:  # over files of anybody, the library raises whatever comes
        raise DataError(f"{place.shown}: is not a readable data set folder ({first_line(error)})") from error
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise DataError(f"{place.shown}: has no split {split!r}; set `split:` to one of {', '.join(loaded)}")
        loaded = loaded[split]
    yield from _rows(loaded)


def _arrow_file_rows(place: SourcePlace) -> RawRows:
    """Yield the rows of a file or a stream of Arrow's (IPC, Feather), a few at a time."""
    import pyarrow

    number = 0
    try:
        with open_file(place.path, place.shown) as stream:
            size = place.path.stat().st_size
            is_file = stream.peek(6).startswith(b"ARROW1")
            if is_file:
                opened = pyarrow.ipc.open_file(stream)
                batches = (opened.get_batch(index) for index in range(opened.num_record_batches))
            else:
                batches = iter(pyarrow.ipc.open_stream(stream))
            given = 0
            for batch in batches:
                given += batch.nbytes
                if given > max(INFLATION_FROM, MAX_INFLATION * size):
                    raise DataError(f"{place.shown}: holds more than {MAX_INFLATION} times its size, as no text does")
                for at in range(batch.num_rows):
                    number += 1
                    try:
                        [values] = batch.slice(at, 1).to_pylist()
                    except UnicodeDecodeError:
                        yield Rejected(place.shown, number, reasons.NOT_UTF8)
                    else:
                        yield Row(number, values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{place.shown}: is not a readable Arrow file ({first_line(error)}); write it again") from error


def hub_rows(place: SourcePlace, split: str, subset: str | None, revision: str | None) -> RawRows:
    """Stream the rows of `hub:org/name` without downloading it whole; no code of the data set is run.

    Args:
        place: `hub:org/name` is what it shows.
        split: of the data set, such as "train".
        subset: of a data set that has several; None for the only one.
        revision: commit, tag or branch; None for the newest.

    Raises:
        DataError: not found, no such subset or split, or no network.
        UsageError: it names no data set.
    """
    from datasets import load_dataset

    name = place.shown.removeprefix("hub:")
    if not name.strip("/ "):
        raise UsageError(f"{place.shown!r} names no data set; write hub:org/name, as the Hugging Face hub does")
    try:
        yield from _rows(load_dataset(name, subset, split=split, revision=revision, streaming=True))
    except Exception as error:  # of whichever HTTP library the hub client of this version uses; they share no base
        parts = f"whether it has a split {split!r} and needs no subset," if in_command() else "`subset:`, `split:`"
        raise DataError(
            f"{place.shown}: cannot be read from the Hugging Face hub ({first_line(error)}); "
            f"check the name, {parts} and the network, or download it and give its path"
        ) from error


PARQUET_ROWS = 64
"""Rows held at once: a page of a Parquet file may unfold to far more than it takes on the disk."""


def parquet_rows(place: SourcePlace) -> RawRows:
    """Yield the rows of a Parquet file, a few at a time.

    Raises:
        DataError: it is none, or is broken.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with open_file(place.path, place.shown) as stream, parquet.ParquetFile(stream) as opened:
            size, facts = place.path.stat().st_size, opened.metadata
            whole = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
            if whole > max(INFLATION_FROM, MAX_INFLATION * size):
                raise DataError(f"{place.shown}: holds more than {MAX_INFLATION} times its size, as no text does")
            for batch in opened.iter_batches(batch_size=PARQUET_ROWS):
                for at in range(batch.num_rows):
                    number += 1
                    try:
                        [values] = batch.slice(at, 1).to_pylist()
                    except UnicodeDecodeError:
                        yield Rejected(place.shown, number, reasons.NOT_UTF8)
                    else:
                        yield Row(number, values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{place.shown}: is not a readable Parquet file ({first_line(error)}); write it again"
        ) from error


def _rows(values: Iterable[Any]) -> RawRows:
    for number, row in enumerate(values, start=1):
        yield Row(number, dict(row))
