"""`lingraft check`: files of pairs, before they are trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from lingraft import api
from lingraft.cli.layouts import CHECK_OPTIONS, FileLayout
from lingraft.cli.options import (
    Aligned,
    Fields,
    Format,
    InlineCodes,
    TestAligned,
    TestFields,
    TestFormat,
    share,
)
from lingraft.core.errors import options
from lingraft.core.printable import printable
from lingraft.core.streams import json_text
from lingraft.data.reasons import REASONS

if TYPE_CHECKING:
    from lingraft.data.file_checks import CheckReport, FileReport

SHOWN_CHARACTERS = 100
"""Of a side that is shown as it was read."""


def check(
    files: Annotated[list[str], typer.Argument(help="Files of pairs.")],
    source: Annotated[str, typer.Option("--from", help="Source language, e.g. de.")],
    target: Annotated[str, typer.Option("--to", help="Target language, e.g. en.")],
    test: Annotated[list[str] | None, typer.Option("--test", help="Test sets the files must not contain.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Count tokens with this model's tokenizer.")] = None,
    rejected: Annotated[Path | None, typer.Option("--rejected", help="Write rejected rows to this JSONL file.")] = None,
    max_rejected_share: Annotated[
        float, typer.Option(parser=share, metavar="SHARE", help="Exit 1 above this share (0 to 1).")
    ] = 0.05,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    inline_codes: InlineCodes = "drop",
    test_fields: TestFields = None,
    test_format: TestFormat = "auto",
    test_aligned: TestAligned = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Validate files of pairs, and show two rows as they are read; exit 1 with the reasons when too many are bad.

    Reasons and formats are explained in docs/data.md.
    """
    layout = FileLayout(fields or (), format, aligned or (), inline_codes)
    test_layout = FileLayout(test_fields or (), test_format, test_aligned or (), inline_codes, prefix="--test-")
    with options(CHECK_OPTIONS):
        report = api.check_pairs(
            layout.entries(files, source, target),
            source=source,
            target=target,
            tests=test_layout.entries(test or [], source, target),
            model=model,
            rejected=rejected,
            max_rejected_share=max_rejected_share,
        )
        if as_json:
            print(json_text({"files": [item.to_dict() for item in report.files]}, indent=2))
        else:
            _print(report, inline_codes)
        problems = report.problems(
            str(rejected) if rejected else "the list above" if not as_json else "--rejected FILE"
        )
    for problem in problems[:-1]:
        print(f"lingraft: {printable(problem, 1000)}", file=sys.stderr)
    if problems:
        raise problems[-1]


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
