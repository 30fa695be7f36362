"""A bench in its folder: each row a run of its own, in order; a killed bench continues, a finished one does nothing.

What the base and the models of earlier rows have answered is taken over, so that it is written once for all rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.environment import world_size
from lingraft.core.errors import LingraftError, UsageError
from lingraft.core.figures import duration
from lingraft.core.progress import Reporter
from lingraft.models.devices import free_memory
from lingraft.pipeline.announcement import Announcement, announce
from lingraft.pipeline.bench_checks import check_row, pending_of
from lingraft.pipeline.bench_report import refuse_foreign, write_report
from lingraft.pipeline.bench_result import BENCH, BENCH_FILE, BenchResult, table_of
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.run import run
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.trust import Act
from lingraft.store.artefacts import locked
from lingraft.store.files import write_atomic


@dataclass(frozen=True)
class RowEstimate:
    """What one row would cost.

    Attributes:
        name: of the row.
        announcement: all that a dry run of it says.
        runs: whether it is run.
        note: why it is not run.
    """

    name: str
    announcement: Announcement
    runs: bool
    note: str

    @property
    def hours(self) -> float:
        """Hours of the whole row."""
        return self.announcement.estimate.hours + self.announcement.estimate.hours_beside


@dataclass(frozen=True)
class BenchEstimate:
    """What a bench would cost; as a text, its dry run.

    Attributes:
        name: of the bench.
        folder: of the bench.
        rows: in their order.
    """

    name: str
    folder: Path
    rows: list[RowEstimate]

    @property
    def hours(self) -> float:
        """Hours of all rows that are run."""
        return sum(row.hours for row in self.rows if row.runs)

    @property
    def acts(self) -> list[Act]:
        """What the rows run and send, each once."""
        return list(dict.fromkeys(act for row in self.rows if row.runs for act in row.announcement.acts))

    def __str__(self) -> str:
        width = max(5, *(len(row.name) for row in self.rows))
        lines = [f"{self.name}: {len(self.rows)} rows, output in {self.folder}", "", f"{'row':{width}}  {'hours':>8}"]
        for row in self.rows:
            lines.append(f"{row.name:{width}}  {row.hours:8.2f}  {row.note}".rstrip())
        lines.append(f"{'total':{width}}  {self.hours:8.2f}  of the rows that are run")
        if self.acts:
            lines += [
                "Runs and sends (needs your consent, unless it was given: --trust):",
                *(f"  {a}" for a in self.acts),
            ]
        lines.append(
            f"Estimates are arithmetic, good to a factor of two ({duration(3600 * self.hours)}); the base's answers "
            f"are counted in each row and written once. Nothing was started."
        )
        return "\n".join(lines)


def estimate_bench(plan: BenchPlan, gpu: str | None = None, *, replace: bool = False) -> BenchEstimate:
    """Check everything that can be known before a bench starts, and reckon its rows; nothing is written.

    Args:
        plan: the bench.
        gpu: name of the card to run on; by default what is here.
        replace: whether what other recipes published in the folders of the rows may be replaced.

    Raises:
        LingraftError: what would stop the bench as well; the sentence begins with the row.
    """
    rows = []
    for one in plan.rows:
        note = "" if one.row.run else f"not run: {one.row.why}"
        with _naming(one):
            reckoned = announce(one.recipe, one.folder, gpu, replace=replace, pending=pending_of(plan, one))
        rows.append(RowEstimate(one.row.name, reckoned, one.row.run, note))
    return BenchEstimate(plan.name, plan.folder, rows)


def run_bench(plan: BenchPlan, reporter: Reporter, *, replace: bool = False) -> BenchResult:
    """Run the rows of a bench that are not finished, and return the table.

    What the rows run and send has been allowed before. The first row that fails ends it; finished rows are kept.

    Args:
        plan: the bench.
        reporter: is told what happens.
        replace: whether what other recipes published in the folders of the rows may be replaced.

    Raises:
        UsageError: a row's folder holds another experiment; several processes were started for it.
        LingraftError: a row failed; the sentence begins with its name.
    """
    if world_size() > 1:
        raise UsageError("a bench runs in one process; start it without torchrun, or run its rows' recipes alone")
    refuse_foreign(plan.folder)
    with locked(plan.folder):
        for one in plan.to_run:  # before hours of work
            with _naming(one):
                Experiment(one.recipe).refuse_other(one.folder, replace)
                check_row(plan, one)
        write_atomic(plan.folder / BENCH_FILE, plan.text)
        earlier: list[Path] = []
        for number, one in enumerate(plan.to_run, 1):
            reporter.say(f"Row {one.row.name} ({number} of {len(plan.to_run)})", always=True)
            with _naming(one):
                run(one.recipe, one.folder, reporter, replace=replace, trust=True, earlier=tuple(earlier))
            earlier.append(one.folder)
            free_memory()
            if _write(plan, {path.name for path in earlier}) and one is not plan.to_run[-1]:
                write_report(plan.folder)
        reporter.say(f"Report: {write_report(plan.folder)}", always=True)
        return BenchResult.read(plan.folder)


def _write(plan: BenchPlan, finished: set[str]) -> bool:
    """Write the table, and return whether it is another than before."""
    table: dict[str, Any] = table_of(plan, finished)
    text, path = json.dumps(table, indent=2, ensure_ascii=False) + "\n", plan.folder / BENCH
    if path.is_file() and path.read_text("utf-8", errors="replace") == text:
        return False
    write_atomic(path, text)
    return True


class _naming:
    """Puts the name of a row before what is wrong with it."""

    def __init__(self, one: RowPlan) -> None:
        self._name = one.row.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LingraftError):
            error.args = (f"row {self._name!r}: {error}",)
