"""What the smaller commands do; `cli.py` declares them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lingraft.data.languages import language
from lingraft.errors import DataError, UsageError, suggestion
from lingraft.registry import Registry
from lingraft.streams import json_text


def check_command(
    files: Sequence[str],
    source: str,
    target: str,
    tests: Sequence[str],
    model: str | None,
    rejected: Path | None,
    max_rejected_share: float,
    as_json: bool,
) -> None:
    """Check files of pairs and print counts by reason.

    Raises:
        DataError: a file cannot be read, or too many rows are bad (after printing).
    """
    from lingraft.data.checks import CheckLimits, enforce_limit
    from lingraft.data.file_checks import check_files, region_remark
    from lingraft.data.overlap import refuse_test_set
    from lingraft.data.readers import PairSource
    from lingraft.store import line_writer

    def declared(path: str) -> PairSource:
        try:
            path.encode("utf-8")
            return PairSource(path=path, source=language(source), target=language(target))
        except ValueError as error:  # empty, or bytes that are no text
            raise UsageError(f"{path!r} cannot be the name of a data file; give it a name of UTF-8 letters") from error

    if language(source) == language(target):
        raise UsageError(f"--from and --to are both {source!r}; a pair needs two languages")
    count_tokens = None
    if model:
        from lingraft.models import find_model, load_renderer

        count_tokens = load_renderer(find_model(model)).count_many
    limits = CheckLimits(max_rejected_share=max_rejected_share)
    with line_writer(rejected) if rejected else nullcontext() as write:
        report = check_files(
            [declared(path) for path in files],
            limits,
            [declared(path) for path in tests],
            count_tokens=count_tokens,
            on_rejected=(lambda item: write(item.to_json())) if write else None,
        )
    if as_json:
        rows = [
            {
                "file": item.file,
                "rows": item.tally.rows,
                "accepted": item.tally.accepted,
                "rejected": dict(item.tally.rejected),
                "other_regions": {f"{given} as {code}": count for (given, code), count in item.regions.items()},
                "error": item.error,
            }
            for item in report.files
        ]
        print(json_text({"files": rows}, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for item in report.files:
            state = item.error or f"{item.tally.accepted:,} of {item.tally.rows:,} rows are good"
            console.print(f"{item.file}: {state}", markup=False)
            if item.regions:
                console.print(f"  Note: {region_remark(item.regions)}", markup=False)
            for reason, count in item.tally.rejected.most_common():
                shown = [row for row in report.rejected if row.file == item.file and row.reason == reason][:5]
                more = ", ..." if count > len(shown) else ""
                where = f" (rows {', '.join(str(row.line) for row in shown)}{more})" if shown else ""
                why = next((f": {row.detail}" for row in shown if row.detail), "")
                console.print(f"  {count:,} {reason}{where}{why}", markup=False)
    for item in report.files:
        if item.error:
            raise DataError(item.error)
        refuse_test_set(item.tally.rejected["overlap_with_test"], item.tally.rows, item.file, ", ".join(tests))
        enforce_limit(
            item.tally, limits, item.file, str(rejected) if rejected else "the list above (or use --rejected)"
        )


def export_command(graft: Path, out: Path, model: str | None, dtype: str, as_json: bool) -> None:
    """Write base and graft as one model, and say how closely it agrees with them."""
    from lingraft.export import export_graft

    found = export_graft(graft, out, model, dtype)
    if as_json:
        print(json_text(found, indent=2))
        return
    print(f"{found['folder']}: {found['parameters']:,} parameters in {dtype}, {found['bytes'] / 1024**2:,.0f} MiB")
    print(f"In float32 its logits are those of base and graft, to {found['max_logit_difference']:.2g}")
    if found["template"]:
        given = ", ".join(f"{name}={value!r}" for name, value in found["template"].items())
        print(f"It was trained with these variables of its chat template: {given}; give them when you ask it")
    if rounded := found["rounded"]:
        print(
            f"In {dtype} the most probable next token is the same at {100 * rounded['same_top_token']:.1f} % of "
            f"{rounded['positions']:,} positions; KL {rounded['mean_kl']:.2g} nats a token on average, logits differ "
            f"by at most {rounded['max_logit_difference']:.2g}"
        )
    for warning in found["warnings"]:
        print(f"Note: {warning}", file=sys.stderr)


def list_command(kind: str) -> None:
    """Print the entries of a registry."""
    from lingraft.engines import ENGINES
    from lingraft.evaluation.metrics import METRICS
    from lingraft.evaluation.suite import SUITES
    from lingraft.methods import METHODS
    from lingraft.recipe import shipped_recipes
    from lingraft.training.tuners import TUNERS

    registries: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "tuners": TUNERS,
        "suites": SUITES,
        "engines": ENGINES,
        "metrics": METRICS,
    }
    table = Table(box=None, pad_edge=False, show_header=True)
    if kind in registries:
        for column in ("name", "what", "paper"):
            table.add_column(column, overflow="fold")
        for name in registries[kind]:
            entry = registries[kind].get(name)
            text = getattr(entry, "summary", "") or (entry.__doc__ or "").strip().splitlines()[0]
            table.add_row(name, text, getattr(entry, "paper", ""))
    elif kind == "recipes":
        for column in ("name", "what"):
            table.add_column(column, overflow="fold")
        for name, text in sorted(shipped_recipes().items()):
            table.add_row(name, text.lstrip("# ").splitlines()[0])
    else:
        known = [*registries, "recipes"]
        raise UsageError(f"there is no list of {kind!r}{suggestion(kind, known)}")
    Console(highlight=False).print(table)
