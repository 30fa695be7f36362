"""A bench in its folder: each row a run of its own; a killed bench continues, a finished one does nothing.

What the base and the models of earlier rows have answered is taken over, so that it is written once for all rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.board import Board, board
from lingraft.core.environment import world_size
from lingraft.core.errors import StoreError, UsageError
from lingraft.core.progress import Reporter
from lingraft.pipeline.bench_checks import check_row, named, naming
from lingraft.pipeline.bench_choice import Choice, refuse_others, variants
from lingraft.pipeline.bench_crew import Crew, Here, Rows, run_rows
from lingraft.pipeline.bench_jobs import RowJob, awaited, earlier_rows, needed
from lingraft.pipeline.bench_parts import note_row, note_rows
from lingraft.pipeline.bench_processes import Processes, divided
from lingraft.pipeline.bench_report import refuse_foreign, write_report
from lingraft.pipeline.bench_result import BenchResult, equal_table, table_of, with_known
from lingraft.pipeline.bench_tokens import matched_rows
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.noting import Noting, noted
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.bench_choice import Choose
from lingraft.reporting.bench_contents import BENCH, BENCH_FILE
from lingraft.store.artefacts import RECORD, locked
from lingraft.store.files import read_sealed, write_atomic


def run_bench(
    plan: BenchPlan, reporter: Reporter, *, replace: bool = False, workers: int | None = None, ray: str | None = None
) -> BenchResult:
    """Run the rows of a bench that are not finished, and return the table.

    What the rows run and send has been allowed before. One after the other, the first row that fails ends it; where
    several run at once, the others go on. Finished rows are kept.

    Args:
        plan: the bench.
        reporter: is told what happens.
        replace: whether what other recipes published in the folders of the rows may be replaced.
        workers: rows that are run at once; None: one, in this process, or on a cluster as many as it has room for.
        ray: address of the Ray cluster whose machines run the rows; None: this machine.

    Raises:
        UsageError: a row's folder holds another experiment; several processes were started for it; there is no cluster.
        LingraftError: a row failed; the sentence begins with its name.
    """
    if world_size() > 1:
        raise UsageError("a bench runs in one process; start it without torchrun, or run its rows' recipes alone")
    refuse_foreign(plan.folder)
    with _crew(plan, reporter, workers, ray) as gather, locked(plan.folder):
        _check_rows(plan, replace)
        write_atomic(plan.folder / BENCH_FILE, plan.text)
        crew = gather()
        try:
            with noted(plan.folder, reporter) as noting:
                note_rows(noting, plan)
                return _Bench(plan, reporter, replace, crew, noting).run()
        finally:
            crew.close()


def _check_rows(plan: BenchPlan, replace: bool) -> None:
    """Look at all rows before hours of work.

    Raises:
        LingraftError: what is wrong with one; the sentence begins with its name.
    """
    shared = Shared()
    for one in plan.to_run:
        with naming(one):
            refuse_others(one, replace)
            for its in variants(one):
                check_row(plan, its, shared)


@contextmanager
def _crew(plan: BenchPlan, reporter: Reporter, workers: int | None, ray: str | None) -> Iterator[Callable[[], Crew]]:
    """Yield what gathers whoever runs the rows, when all has been checked; a cluster is joined before.

    Raises:
        UsageError: there is no cluster, or no Ray.
    """
    if ray is not None:
        from lingraft.pipeline.bench_ray import joined

        with joined(ray, plan, workers) as cluster:
            yield cluster
    elif workers is None or workers == 1:
        yield lambda: Here(reporter)
    else:
        yield lambda: Processes(workers, *divided(workers))


class _Bench:
    """A bench that is run: the rows that are finished, and what was chosen for them."""

    def __init__(self, plan: BenchPlan, reporter: Reporter, replace: bool, crew: Crew, noting: Noting) -> None:
        self._plan, self._reporter, self._replace = plan, reporter, replace
        self._crew, self._noting = crew, noting
        self._rows = {one.row.name: one for one in plan.to_run}
        self._finished: dict[str, RowPlan] = {}
        self._choices: dict[str, Choice] = {}
        self._equal: dict[str, Any] = {}
        self._base = ""
        self._before = None if replace else _known(plan.folder)

    def run(self) -> BenchResult:
        """Run what is not finished."""
        names = list(self._rows)
        self._run(
            names,
            needed=lambda name: needed(self._rows[name]),
            awaited=lambda name, failed: awaited(self._plan, self._rows[name], failed),
            job=self._job,
            begun=lambda name: self._begun(self._rows[name], f"Row {name} ({names.index(name) + 1} of {len(names)})"),
            done=self._done,
        )
        if self._plan.equal_tokens:
            self._equalise()
        self._reporter.say(f"Report: {write_report(self._plan.folder)}", always=True)
        return BenchResult.read(self._plan.folder)

    def _run(self, names: Sequence[str], **rows: Any) -> None:
        """Run rows.

        Raises:
            LingraftError: some failed; of the first in the order of the bench, naming the others.
        """
        showing = partial(_showing, self._reporter, self._crew)
        failed = run_rows(Rows(names=names, **rows), self._crew, showing)
        if not failed:
            return
        first, *others = (name for name in names if name in failed)
        error = named(first, failed[first])
        if others:
            error.args = (f"{error} (rows that failed as well: {', '.join(others)})",)
        raise error

    def _begun(self, one: RowPlan, said: str, *, equal: bool = False) -> None:
        """Say and note that a row begins."""
        self._reporter.say(said, always=True)
        note_row(self._noting, self._plan, one, equal=equal)

    def _job(self, name: str, failed: Collection[str]) -> RowJob:
        one = self._rows[name]
        chooses = self._plan.choose if one.chooses else None
        folders = tuple(other.folder for other in earlier_rows(self._plan, one, failed))
        if one.row.like:
            one = one.having(self._choices[one.row.like].best.option.value)
        return self._as_job(one, folders, chooses)

    def _as_job(self, one: RowPlan, earlier: tuple[Path, ...], choose: Choose | None = None) -> RowJob:
        base = self._base if self._crew.remote else ""
        return RowJob(name=one.row.name, one=one, earlier=earlier, replace=self._replace, choose=choose, base=base)

    def _done(self, name: str, choice: Choice | None) -> None:
        one = self._rows[name]
        note_row(self._noting, self._plan, one, done=True)
        if choice is not None:
            self._choices[name] = choice
        if one.options:
            one = one.having(self._choices[one.row.like or name].best.option.value)
        self._finished[name] = one
        self._base = self._base or str((read_sealed(one.folder / RECORD) or {}).get("base_sha256", ""))
        self._write(last=len(self._finished) == len(self._rows) and not self._plan.equal_tokens)

    def _equalise(self) -> None:
        """Run rows again that were trained on other numbers of tokens than the reference."""
        own = [self._finished[name] for name in self._rows]
        wanted, matched = matched_rows(self._plan, own)
        rows = {row.own.row.name: row for row in matched}
        again = [name for name, row in rows.items() if row.again]
        finished: list[str] = []

        def job(name: str, failed: Collection[str]) -> RowJob:
            return self._as_job(rows[name].one, (rows[name].own.folder, *(one.folder for one in own)))

        def write(name: str = "", choice: Choice | None = None) -> None:
            if name:
                note_row(self._noting, self._plan, rows[name].one, equal=True, done=True)
                finished.append(name)
            self._equal = equal_table(self._plan, wanted, matched, finished)
            self._write(last=len(finished) == len(again))

        write()
        self._run(
            again,
            needed=lambda name: (),
            awaited=lambda name, failed: (),
            job=job,
            begun=lambda name: self._begun(
                rows[name].one, f"Row {name} at equal tokens ({again.index(name) + 1} of {len(again)})", equal=True
            ),
            done=write,
        )

    def _write(self, *, last: bool) -> None:
        """Write the table and, where it is another than before, the page; `last`: that is written afterwards anyway."""
        choices = {name: choice.to_dict(self._plan.folder) for name, choice in self._choices.items()}
        for name, one in self._finished.items():
            if one.row.like:
                choices[name] = {**choices[one.row.like], "like": one.row.like, "edge": "", "candidates": []}
        table = table_of(self._plan, set(self._finished), choices)
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
def _showing(reporter: Reporter, crew: Crew) -> Iterator[Board]:
    """Show rows that run at once; one in this process shows itself."""
    if isinstance(crew, Here):
        yield Board(Reporter(quiet=True), None)
        return
    with board(reporter) as found:
        yield found
