"""What `lingraft check` does; `cli.py` declares it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from lingraft.cli.layouts import CHECK_OPTIONS, FileLayout
from lingraft.core.errors import DataError, UsageError, options
from lingraft.core.printable import printable
from lingraft.core.streams import json_text
from lingraft.data.file_checks import CheckReport, FileReport, check_files
from lingraft.data.overlap import refuse_test_set
from lingraft.data.pair_checks import CheckLimits, enforce_limit
from lingraft.data.readers import PairSource
from lingraft.data.reasons import REASONS
from lingraft.language.codes import language
from lingraft.store.disk import refuse_output
from lingraft.store.files import line_writer

SHOWN_CHARACTERS = 100
"""Of a side that is shown as it was read."""


def check_command(
    files: Sequence[str],
    source: str,
    target: str,
    tests: Sequence[str],
    model: str | None,
    rejected: Path | None,
    max_rejected_share: float,
    as_json: bool,
    layout: FileLayout,
    test_layout: FileLayout,
) -> None:
    """Check files of pairs; print counts by reason, and the first two rows as they were read.

    Raises:
        DataError: a file cannot be read, or too many rows are bad, or it looks swapped (after printing).
        UsageError: options that say nothing known.
    """
    if language(source) == language(target):
        raise UsageError(f"--from and --to are both {source!r}; a pair needs two languages")
    declared = _declared(layout.entries(files, language(source), language(target)))
    declared_tests = _declared(test_layout.entries(tests, language(source), language(target)))
    read = [Path(path) for item in (*declared, *declared_tests) for path in (item.path, item.target_path) if path]
    if rejected is not None:
        refuse_output(rejected, "--rejected", read)
    count_tokens = None
    if model:
        from lingraft.models.files import find_model
        from lingraft.models.loading import load_renderer

        count_tokens = load_renderer(find_model(model, remembered=True)).count_many
    limits = CheckLimits(max_rejected_share=max_rejected_share)
    with options(CHECK_OPTIONS), line_writer(rejected) if rejected else nullcontext() as write:
        report = check_files(
            declared,
            limits,
            declared_tests,
            count_tokens=count_tokens,
            on_rejected=(lambda item: write(item.to_json())) if write else None,
        )
        if as_json:
            print(json_text({"files": [_values(item) for item in report.files]}, indent=2))
        else:
            _print(report, layout.inline_codes)
        where = str(rejected) if rejected else "the list above" if not as_json else "--rejected FILE"
        problems = [
            problem for item in report.files if (problem := _problem(item, limits, where, ", ".join(tests))) is not None
        ]
    for problem in problems[:-1]:
        print(f"lingraft: {printable(problem, 1000)}", file=sys.stderr)
    if problems:
        raise problems[-1]


def _declared(entries: Sequence[dict[str, Any]]) -> list[PairSource]:
    sources = []
    for entry in entries:
        try:
            entry["path"].encode("utf-8")
            sources.append(PairSource.model_validate(entry))
        except ValidationError as error:
            if not entry["path"]:
                raise UsageError("'' cannot be the name of a data file") from error
            raise UsageError(f"{entry['path']}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        except ValueError as error:  # bytes that are no text
            raise UsageError(
                f"{entry['path']!r} cannot be the name of a data file; give it a name of UTF-8 letters"
            ) from error
    return sources


def _values(item: FileReport) -> dict[str, Any]:
    return {
        "file": item.file,
        "rows": item.tally.rows,
        "accepted": item.tally.accepted,
        "rejected": dict(item.tally.rejected),
        "examples": [
            {"row": row.line, "source": row.record.source, "target": row.record.target}
            for row in item.tally.overview.rows
        ],
        "inline_codes": dict(+item.remarks.codes),
        "other_regions": {f"{given} as {code}": count for (given, code), count in item.remarks.regions.items()},
        "left_out": {f"{left} beside {taken}": count for (_, left, taken), count in item.remarks.variants.items()},
        "error": item.error or item.tally.overview.problem(),
    }


def _print(report: CheckReport, inline_codes: str) -> None:
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(Text(printable(text, None)))

    for item in report.files:
        if item.tally.rows or not item.error:
            until = ", up to the error below" if item.error else ""
            say(f"{item.file}: {item.tally.accepted:,} of {item.tally.rows:,} rows are good{until}")
        for row in item.tally.overview.rows:
            sides = ((row.record.source_lang, row.record.source), (row.record.target_lang, row.record.target))
            say(f"  row {row.line} as read: {' | '.join(f'{code} {_short(text)}' for code, text in sides)}")
        for remark in item.remarks.sentences(inline_codes):
            say(f"  Note: {remark}")
        _print_rejected(report, item, say)


def _print_rejected(report: CheckReport, item: FileReport, say: Callable[[str], None]) -> None:
    for reason, count in item.tally.rejected.most_common():
        rows = [row for row in report.rejected if row.file == item.file and row.reason == reason][:5]
        more = ", ..." if count > len(rows) else ""
        where = f" (rows {', '.join(str(row.line) for row in rows)}{more})" if rows else ""
        why = next((row.detail for row in rows if row.detail), "") or REASONS.get(reason, "")
        say(f"  {count:,} {reason}{where}{f': {why}' if why else ''}")


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}...")


def _problem(item: FileReport, limits: CheckLimits, where: str, tests: str) -> DataError | None:
    try:
        if item.error:
            raise DataError(item.error)
        refuse_test_set(item.tally.rejected["overlap_with_test"], item.tally.rows, item.file, tests)
        enforce_limit(item.tally, limits, item.file, where)
    except DataError as problem:
        return problem
    return None
