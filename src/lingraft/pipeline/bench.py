"""A bench in its folder: each row a run of its own, in order; a killed bench continues, a finished one does nothing.

What the base and the models of earlier rows have answered is taken over, so that it is written once for all rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from lingraft.core.environment import world_size
from lingraft.core.errors import LingraftError, StoreError, UsageError
from lingraft.core.figures import duration
from lingraft.core.progress import Reporter
from lingraft.models.devices import free_memory
from lingraft.pipeline.announcement import Announcement, announce
from lingraft.pipeline.bench_checks import check_row, pending_of
from lingraft.pipeline.bench_choice import Choice, choose_value, known_value, refuse_others, variants
from lingraft.pipeline.bench_hours import choosing_hours, equal_hours
from lingraft.pipeline.bench_parts import note_row, note_rows
from lingraft.pipeline.bench_report import refuse_foreign, write_report
from lingraft.pipeline.bench_result import BenchResult, equal_table, table_of, with_known
from lingraft.pipeline.bench_tables import aligned
from lingraft.pipeline.bench_tokens import matched_rows
from lingraft.pipeline.noting import Noting, noted
from lingraft.pipeline.run import run
from lingraft.pipeline.trial import rehearse
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.trust import Act
from lingraft.reporting.bench_contents import BENCH, BENCH_FILE
from lingraft.store.artefacts import locked
from lingraft.store.files import write_atomic


@dataclass(frozen=True)
class RowEstimate:
    """What one row would cost.

    Attributes:
        name: of the row.
        announcement: all that a dry run of it says.
        runs: whether it is run.
        note: why it is not run; why it seems to need a training at equal tokens.
        choosing: hours of what is trained to choose its value.
        equal: hours of its run at equal tokens, if it seems to need one.
    """

    name: str
    announcement: Announcement
    runs: bool
    note: str
    choosing: float = 0.0
    equal: float = 0.0

    @property
    def hours(self) -> float:
        """Hours of the row's own run."""
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
        """Hours of all rows that are run, with what chooses for them and their second runs."""
        return sum(row.hours + row.choosing + row.equal for row in self.rows if row.runs)

    @property
    def acts(self) -> list[Act]:
        """What the rows run and send, each once."""
        return list(dict.fromkeys(act for row in self.rows if row.runs for act in row.announcement.acts))

    def __str__(self) -> str:
        hours = [("hours", [row.hours for row in self.rows])]
        hours += [("choosing", [row.choosing for row in self.rows])]
        hours += [("equal tokens", [row.equal for row in self.rows])]
        columns = [(head, each) for number, (head, each) in enumerate(hours) if not number or any(each)]
        cells = [["row", *(head for head, _ in columns), ""]]
        for number, row in enumerate(self.rows):
            cells.append([row.name, *(f"{each[number]:.2f}" for _, each in columns), row.note])
        total = "of the rows that are run" + (", all columns" if len(columns) > 1 else "")
        cells.append(["total", f"{self.hours:.2f}", *[""] * (len(columns) - 1), total])
        lines = [f"{self.name}: {len(self.rows)} rows, output in {self.folder}", "", *aligned(cells)]
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
        note, choosing = "" if one.row.run else f"not run: {one.row.why}", 0.0
        with _naming(one):
            refuse_others(one, replace)
            its = known_value(one, replace).recipe
            reckoned = announce(its, one.folder, gpu, replace=replace, pending=pending_of(plan, one))
            if plan.choose and one.chooses:
                for other in variants(one):
                    rehearse(other.recipe, weights=False)
                choosing = choosing_hours(plan.choose, one, gpu)
        rows.append(RowEstimate(one.row.name, reckoned, one.row.run, note, choosing))
    equal = equal_hours(plan, {row.name: row.announcement.estimate for row in rows})
    for number, row in enumerate(rows):
        if row.name in equal:
            hours, why = equal[row.name]
            rows[number] = replaced(row, equal=hours, note="; ".join(text for text in (row.note, why) if text))
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
        looked: set[str] = set()
        for one in plan.to_run:  # before hours of work
            with _naming(one):
                refuse_others(one, replace)
                for its in variants(one):
                    check_row(plan, its, looked)
        write_atomic(plan.folder / BENCH_FILE, plan.text)
        with noted(plan.folder, reporter) as noting:
            note_rows(noting, plan)
            return _Bench(plan, reporter, replace, noting).run()


class _Bench:
    """A bench that is run: the rows that are finished, and what was chosen for them."""

    def __init__(self, plan: BenchPlan, reporter: Reporter, replace: bool, noting: Noting) -> None:
        self._plan, self._reporter, self._replace, self._noting = plan, reporter, replace, noting
        self._finished: list[RowPlan] = []
        self._choices: dict[str, Choice] = {}
        self._equal: dict[str, Any] = {}
        self._before = None if replace else _known(plan.folder)

    def run(self) -> BenchResult:
        """Run what is not finished."""
        rows = self._plan.to_run
        for number, one in enumerate(rows, 1):
            self._reporter.say(f"Row {one.row.name} ({number} of {len(rows)})", always=True)
            note_row(self._noting, self._plan, one)
            with _naming(one):
                self._row(one)
            note_row(self._noting, self._plan, one, done=True)
            self._write(last=one is rows[-1] and not self._plan.equal_tokens)
        if self._plan.equal_tokens:
            self._equalise()
        self._reporter.say(f"Report: {write_report(self._plan.folder)}", always=True)
        return BenchResult.read(self._plan.folder)

    def _row(self, one: RowPlan) -> None:
        earlier, trained = [other.folder for other in self._finished], tuple[Path, ...]()
        if one.chooses and self._plan.choose:
            choice = choose_value(self._plan.choose, one, self._reporter, replace=self._replace, earlier=earlier)
            self._choices[one.row.name] = choice
            earlier, trained = [*earlier, *(each.folder for each in one.options)], (choice.best.option.folder,)
        if one.options:
            one = one.having(self._choices[one.row.like or one.row.name].best.option.value)
        self._run(one, earlier, trained)
        self._finished.append(one)

    def _run(self, one: RowPlan, earlier: Sequence[Path], trained: tuple[Path, ...] = ()) -> None:
        given = {"earlier": tuple(earlier), "trained": trained}
        run(one.recipe, one.folder, self._reporter, replace=self._replace, trust=True, **given)
        free_memory()

    def _equalise(self) -> None:
        """Run rows again that were trained on other numbers of tokens than the reference."""
        wanted, rows = matched_rows(self._plan, self._finished)
        finished: list[str] = []
        earlier = [one.folder for one in self._finished]
        for row in rows:
            if row.again:
                self._reporter.say(f"Row {row.own.row.name} at equal tokens", always=True)
                note_row(self._noting, self._plan, row.one, equal=True)
                with _naming(row.own):
                    self._run(row.one, [row.own.folder, *earlier])
                note_row(self._noting, self._plan, row.one, equal=True, done=True)
                finished.append(row.own.row.name)
            self._equal = equal_table(self._plan, wanted, rows, finished)
            self._write(last=row is rows[-1])

    def _write(self, *, last: bool) -> None:
        """Write the table and, where it is another than before, the page; `last`: that is written afterwards anyway."""
        choices = {name: choice.to_dict(self._plan.folder) for name, choice in self._choices.items()}
        for one in self._finished:
            if one.row.like:
                choices[one.row.name] = {**choices[one.row.like], "like": one.row.like, "edge": "", "candidates": []}
        table = table_of(self._plan, {one.row.name for one in self._finished}, choices)
        if self._equal:
            table["equal_tokens"] = self._equal
        table = with_known(table, self._before, self._plan.equal_tokens)
        text, path = json.dumps(table, indent=2, ensure_ascii=False) + "\n", self._plan.folder / BENCH
        if path.is_file() and path.read_text("utf-8", errors="replace") == text:
            return
        write_atomic(path, text)
        if not last:
            write_report(self._plan.folder)


def _known(folder: Path) -> BenchResult | None:
    """Return the table that is in the folder; None where there is none that can be read."""
    try:
        return BenchResult.read(folder)
    except StoreError:
        return None


@contextmanager
def _naming(one: RowPlan) -> Iterator[None]:
    """Put the name of a row before what is wrong with it."""
    try:
        yield
    except LingraftError as error:
        error.args = (f"row {one.row.name!r}: {error}",)
        raise
