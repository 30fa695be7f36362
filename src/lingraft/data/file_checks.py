"""Checks of whole files: training files with a report for the user, and test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.core.errors import DataError, setting
from lingraft.data.files import Row, read_ahead
from lingraft.data.overlap import OverlapIndex
from lingraft.data.overview import Overview
from lingraft.data.pair_checks import (
    CHUNK,
    CheckLimits,
    CheckTally,
    CountTokens,
    Duplicates,
    check_pairs,
    language_problems,
)
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Pair, Rejected
from lingraft.data.remarks import Remarks


def check_test_rows(
    rows: Iterable[Pair | Rejected], limits: CheckLimits, *, file: str, remark: Callable[[str], object] | None = None
) -> Iterator[Pair | Rejected]:
    """Pass the rows of a test set on, and judge at their end whether it is in the languages declared.

    Test rows are scored as they are, so that a published test set stays what it is; but one of which as much is in
    other languages as stops the work on a training file is not what it is declared to be.

    Args:
        rows: of the test set.
        limits: of languages and of the share in others; the rest is not for test rows.
        file: as the user wrote it.
        remark: is told of rows in other languages, if they are few.

    Raises:
        DataError: too many are, or `Overview.problem`.
    """
    overview = Overview()
    number, foreign, details = 0, Counter[str](), list[str]()
    for chunk in read_ahead(rows, lambda: CHUNK):
        pairs = [item for item in chunk if isinstance(item, Pair)]
        overview.add([Row(line, pair) for line, pair in enumerate(pairs, start=number + 1)], limits.language_check)
        number += len(pairs)
        for index, (reason, detail) in language_problems(pairs, limits).items():
            foreign[reason] += 1
            details += [f"{pairs[index].id} {detail}"] if len(details) < 3 else []
        yield from chunk
    if problem := overview.problem():
        raise DataError(f"{file}: {problem}")
    count = foreign.total()
    said = f"{count:,} of {number:,} test rows look like other languages than declared ({'; '.join(details)})"
    if number and count / number > limits.max_rejected_share:
        raise DataError(
            f"{file}: {said}, more than the {limits.max_rejected_share:.1%} allowed; check the file and its languages, "
            f"or raise {setting('max_rejected_share')}"
        )
    if count and remark is not None:
        remark(f"{file}: {said}; they are scored all the same")


@dataclass(frozen=True)
class FileReport:
    """What was found in one file.

    Attributes:
        file: its name.
        tally: its rows.
        error: why it could not be read (to its end), or "".
        remarks: on what was read as something else, or left out within rows.
    """

    file: str
    tally: CheckTally
    error: str = ""
    remarks: Remarks = field(default_factory=Remarks)


@dataclass(frozen=True)
class CheckReport:
    """What `check_files` found; `rejected` holds the first rows of all that were rejected."""

    files: Sequence[FileReport]
    rejected: Sequence[Rejected]


def check_files(
    sources: Sequence[PairSource],
    limits: CheckLimits,
    test_sources: Sequence[PairSource] = (),
    root: Path = Path(),
    *,
    count_tokens: CountTokens | None = None,
    on_rejected: Callable[[Rejected], None] | None = None,
    keep: int = 1000,
) -> CheckReport:
    """Check files of pairs, each from its start to its end, also for duplicates across them.

    A file that cannot be read does not stop the others: its report says why. Whether the result is good enough is
    left to the caller (`enforce_limit`, `refuse_test_set`).

    Args:
        sources: the files; `limit` is not applied.
        limits: the limits.
        test_sources: test sets that the files must not contain.
        root: folder to which relative paths are relative.
        count_tokens: as for `check_pairs`.
        on_rejected: is given every rejected row, e.g. to write it to a file.
        keep: number of rejected rows kept in the report, so that a bad file does not fill the memory.

    Raises:
        DataError: a test set cannot be read, or is in other languages.
        UsageError: a source's format cannot be told.
    """
    index = OverlapIndex()
    for test in test_sources:
        rows_of_test = (row.record if isinstance(row, Row) else row for row in read_pairs(test, root))
        for item in check_test_rows(rows_of_test, limits, file=test.path):
            if isinstance(item, Pair):
                index.add(item)
    seen = Duplicates()
    reports: list[FileReport] = []
    kept: list[Rejected] = []
    for source in sources:
        tally, error, remarks = CheckTally(), "", Remarks()
        try:
            rows = read_pairs(source, root, remarks=remarks)
            for item in check_pairs(
                rows,
                limits,
                file=source.path,
                count_tokens=count_tokens,
                overlap=index,
                seen=seen,
                overview=tally.overview,
            ):
                tally.add(item)
                if isinstance(item, Rejected):
                    if len(kept) < keep:
                        kept.append(item)
                    if on_rejected is not None:
                        on_rejected(item)
        except DataError as problem:
            error = str(problem)
        reports.append(FileReport(source.path, tally, error, remarks))
    return CheckReport(reports, kept)
