"""The page of a bench and the README beside it, from `bench.json` and what the runs of its rows have published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lingraft.core.errors import DataError, StoreError, UsageError
from lingraft.evaluation.compared_row import with_dominance
from lingraft.evaluation.compared_run import ComparedRun, read_run
from lingraft.evaluation.comparison import Frontier, compare
from lingraft.evaluation.scoring import BASE, Resampling
from lingraft.reporting.bench_contents import (
    BENCH,
    BENCH_FILE,
    CONFIGURED,
    MEASURED,
    README,
    REPORT,
    BenchContents,
    BenchLine,
    BenchSection,
    BenchTable,
    EqualTokens,
    ListedRow,
    read_table,
)
from lingraft.reporting.bench_page import bench_readme, render_bench
from lingraft.store.files import write_atomic

HOW = Resampling(10_000, 1)
"""As `lingraft compare` does by default."""


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files of somebody's own under the names that a bench writes.

    Raises:
        UsageError: there is one.
    """
    if holds_collected(folder):
        raise UsageError(f"{folder} holds results that were collected without their texts; give the bench --out NEW")
    if any((folder / name).exists() for name in (BENCH, BENCH_FILE)):
        return
    for name in (REPORT, README):
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} was not written by a bench, and a bench there would replace it: --out NEW"
            )


def holds_collected(folder: Path) -> bool:
    """Whether a folder holds results that were collected; a table that is damaged is none."""
    try:
        return any(row.bench for row in read_table(folder).rows)
    except StoreError:
        return False


def write_report(folder: Path) -> Path:
    """Write the page and the README of a bench, and return the path of the page.

    A row whose run is gone or damaged is left out, and the page says so.

    Args:
        folder: of the bench.

    Raises:
        StoreError: there is no bench, its table is damaged, or the files cannot be written.
    """
    contents = read_contents(folder)
    write_atomic(folder / REPORT, render_bench(contents))
    write_atomic(folder / README, bench_readme(contents))
    return folder / REPORT


def read_contents(folder: Path) -> BenchContents:
    """Return what the page of a bench shows.

    Args:
        folder: of the bench.

    Raises:
        StoreError: there is no bench, or its table is damaged.
    """
    table = read_table(folder)
    lines = [_line(folder, row, row.name) for row in table.rows]
    equal = _equal_lines(folder, table.equal_tokens, lines)
    runs = [line.run for line in (*lines, *equal) if line.run and line.row.status != CONFIGURED]
    reference = _reference(table, lines)
    matched = table.equal_tokens.reference if table.equal_tokens else ""
    frontier, notes = _compared(runs, [name for name in dict.fromkeys((reference, matched)) if name])
    sections = [_section("Rows", "", lines, frontier, reference)]
    if table.equal_tokens:
        sections.append(_section("Rows at equal tokens", _equal_lead(table.equal_tokens), equal, frontier, matched))
        notes += _ended_early(table.equal_tokens, equal)
        notes += _not_matched(lines, equal)
    notes += _origins(lines)
    file = folder / BENCH_FILE
    commands = ["lingraft bench bench.yaml --out NEW"]
    recipes = [run.folder.relative_to(folder) / "recipe.yaml" for run in runs]
    commands += [f"lingraft run {recipe} --out NEW" for recipe in recipes[:1] if (folder / recipe).exists()]
    return BenchContents(
        name=table.name,
        sections=sections,
        notes=notes,
        commands=commands,
        bench_yaml=file.read_text("utf-8", errors="replace") if file.is_file() else "",
        runs=runs,
        collected=any(line.row.bench for line in lines),
    )


def _not_matched(lines: Sequence[BenchLine], equal: Sequence[BenchLine]) -> list[str]:
    """Name the rows that train and are not in the second table, as where they were run in another folder."""
    there = {line.row.name for line in equal}
    trained = [
        line.row.name
        for line in lines
        if line.run and line.row.bench and any(cost.stage == "training" for cost in line.run.scorecard.cost)
    ]
    missing = [name for name in trained if name not in there]
    return [f"Not in the table of equal tokens: {', '.join(missing)}."] if missing else []


def _origins(lines: Sequence[BenchLine]) -> list[str]:
    """Say which rows were run in which bench, and on which device, where they are of several."""
    found: dict[str, list[BenchLine]] = {}
    for line in lines:
        if line.run:
            found.setdefault(line.row.bench, []).append(line)
    if len(found) < 2:
        return []
    said = []
    for bench, its in found.items():
        devices = dict.fromkeys(cost.device for line in its if line.run for cost in line.run.scorecard.cost)
        on = f" (on {', '.join(devices)})" if devices else ""
        said.append(f"{', '.join(line.label for line in its)} of {bench or 'this bench'}{on}")
    return [
        f"Collected from several benches: {'; '.join(said)}. Each row is set against the base as its own bench "
        f"measured it, and seconds are those of its machine."
    ]


def _line(folder: Path, row: ListedRow, label: str) -> BenchLine:
    if row.status not in MEASURED:
        return BenchLine(row, label)
    try:
        return BenchLine(row, label, read_run(folder / row.run, label))
    except StoreError as error:
        return BenchLine(row, label, trouble=str(error))


def _equal_lines(folder: Path, equal: EqualTokens | None, lines: Sequence[BenchLine]) -> list[BenchLine]:
    """Return the rows of the second table: those that differ too little in tokens are those of the first."""
    known = {line.label: line for line in lines}
    found = []
    for row in equal.rows if equal else ():
        own = known.get(row.name)
        if row.status == CONFIGURED and own:
            found.append(BenchLine(row, own.label, own.run, own.trouble))
        else:
            found.append(_line(folder, row, f"{row.name}@tokens"))
    return found


def _equal_lead(equal: EqualTokens) -> str:
    return (
        f"Rows whose training read over {100 * equal.tolerance:.0f} % more or fewer tokens than that of "
        f"{equal.reference} ({equal.tokens:,}) were trained once more, on as many; the others are those of the "
        f"first table."
    )


def _ended_early(equal: EqualTokens, lines: Sequence[BenchLine]) -> list[str]:
    """Name the rows that were trained once more and still read another number of tokens."""
    found = []
    for line in lines:
        if line.run is None or line.row.status == CONFIGURED:
            continue
        card = line.run.scorecard
        own = {system.name for system in card.systems if not system.group}  # the training with the first seed
        read = sum(row.tokens or 0 for row in card.cost if row.system in own and row.stage == "training")
        if abs(read - equal.tokens) > equal.tolerance * equal.tokens:
            found.append(f"{line.label} ({read:,})")
    if not found:
        return []
    return [
        f"Not at equal tokens: {', '.join(found)}, where {equal.reference} read {equal.tokens:,}: its training ended "
        f"before its budget, as `train.patience` lets it."
    ]


def _reference(table: BenchTable, lines: Sequence[BenchLine]) -> str:
    """Return the row that the others are set against: the one that the bench names, else the first that is measured."""
    wanted = table.reference or (table.equal_tokens.reference if table.equal_tokens else "")
    measured = [line.label for line in lines if line.run and len(line.run.scorecard.systems) > 1]
    return wanted if wanted in measured else next(iter(measured), "") if not wanted else ""


def _compared(runs: Sequence[ComparedRun], references: Sequence[str]) -> tuple[Frontier | None, list[str]]:
    """Return the rows of both tables side by side, and what a reader has to know."""
    if not any(len(run.scorecard.systems) > 1 for run in runs):
        return None, []
    try:
        found = compare(runs, HOW, against={run.label: [BASE, *references] for run in runs})
    except DataError as error:
        return None, [f"The rows cannot be compared: {error}."]
    return found, list(found.notes)


def _section(
    title: str, lead: str, lines: Sequence[BenchLine], frontier: Frontier | None, reference: str
) -> BenchSection:
    """Return a table with the part of the comparison that is about its rows, the base and its reference included."""
    labels = {line.label for line in lines if line.run} | {reference}
    rows = [row for row in frontier.rows if row.run in labels or row.name == BASE] if frontier else []
    if frontier is None or len(rows) < 2:
        return BenchSection(title, lead, lines, None)
    first = next((row.name for row in rows if row.run == reference and row.name != BASE), "")
    names, others = {row.name for row in rows}, (BASE, first)
    pairs = [pair for pair in frontier.pairs if pair.first in names and pair.second in others]
    part = replace(frontier, rows=with_dominance(rows), pairs=pairs)
    return BenchSection(title, lead, lines, part, first, len(frontier.pairs))
