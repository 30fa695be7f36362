"""Checks of whole files: training files with a report for the user, and test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lingraft.core.errors import DataError, UsageError, setting
from lingraft.data.files import Row, read_ahead
from lingraft.data.overlap import OverlapIndex, refuse_test_set
from lingraft.data.overview import Overview
from lingraft.data.pair_checks import (
    CHUNK,
    CheckLimits,
    CheckTally,
    CountTokens,
    Duplicates,
    check_pairs,
    enforce_limit,
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

    def to_dict(self) -> dict[str, Any]:
        """Return counts, reasons, two rows as they are read and what could not be read, ready for JSON."""
        return {
            "file": self.file,
            "rows": self.tally.rows,
            "accepted": self.tally.accepted,
            "rejected": dict(self.tally.rejected),
            "examples": [
                {"row": row.line, "source": row.record.source, "target": row.record.target}
                for row in self.tally.overview.rows
            ],
            "inline_codes": dict(+self.remarks.codes),
            "other_regions": {f"{given} as {code}": count for (given, code), count in self.remarks.regions.items()},
            "left_out": {f"{left} beside {taken}": count for (_, left, taken), count in self.remarks.variants.items()},
            "error": self.error or self.tally.overview.problem(),
        }


@dataclass(frozen=True)
class CheckReport:
    """What `check_files` found.

    Attributes:
        files: each.
        rejected: the first rows of all that were rejected.
        limits: by which rows were judged.
        tests: the test sets that they must not contain.
    """

    files: Sequence[FileReport]
    rejected: Sequence[Rejected]
    limits: CheckLimits = field(default_factory=CheckLimits)
    tests: Sequence[str] = ()

    def problems(self, where: str = "the report") -> list[DataError]:
        """Return why files cannot be trained on: unreadable, swapped, too many bad rows, or the test set itself.

        Args:
            where: the rejected rows are to be seen, for the messages.
        """
        found = []
        for item in self.files:
            try:
                if item.error:
                    raise DataError(item.error)
                overlapping = item.tally.rejected["overlap_with_test"]
                refuse_test_set(overlapping, item.tally.rows, item.file, ", ".join(self.tests))
                enforce_limit(item.tally, self.limits, item.file, where)
            except DataError as problem:
                found.append(problem)
        return found


Data = str | Path | Mapping[str, Any]
"""A file, or what an entry of a recipe's `pairs:` says of one."""


def pair_entries(data: Data | Sequence[Data], source: str | None, target: str | None) -> list[dict[str, Any]]:
    """Return what a recipe would say of files of pairs.

    Args:
        data: a file, several, or entries as under `pairs:` of a recipe, such as {"path": ..., "fields": {...}}.
        source: language of the source sides of those that do not name theirs.
        target: language of their target sides.
    """
    listed = [data] if isinstance(data, str | Path | Mapping) else list(data)
    languages = {key: code for key, code in (("source", source), ("target", target)) if code}
    return [{**languages, **(dict(one) if isinstance(one, Mapping) else {"path": str(one)})} for one in listed]


def pair_sources(entries: Sequence[Mapping[str, Any]]) -> list[PairSource]:
    """Return files of pairs from what a recipe would say of each under `pairs:`.

    Raises:
        UsageError: a name that no file has, or settings that do not go together.
    """
    sources = []
    for entry in entries:
        try:
            str(entry.get("path", "")).encode("utf-8")
            sources.append(PairSource.model_validate(dict(entry)))
        except ValidationError as error:
            if not entry.get("path"):
                raise UsageError("'' cannot be the name of a data file") from error
            raise UsageError(f"{entry['path']}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        except ValueError as error:  # bytes that are no text
            raise UsageError(
                f"{entry['path']!r} cannot be the name of a data file; give it a name of UTF-8 letters"
            ) from error
    return sources


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
    return CheckReport(reports, kept, limits, [test.path for test in test_sources])
