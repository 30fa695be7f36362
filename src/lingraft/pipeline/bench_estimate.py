"""What a bench would cost, by row: its dry run. What rows have in common is loaded, tried and counted once."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path

from lingraft.core.figures import duration
from lingraft.pipeline.announcement import Announcement, announce
from lingraft.pipeline.bench_checks import naming, pending_of
from lingraft.pipeline.bench_choice import known_value, refuse_others, variants
from lingraft.pipeline.bench_hours import choosing_hours, equal_hours
from lingraft.pipeline.bench_tables import aligned
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.trial import rehearse
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.trust import Act


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
        workers: rows that are run at once.
    """

    name: str
    folder: Path
    rows: list[RowEstimate]
    workers: int = 1

    @property
    def memory_gib(self) -> float:
        """Memory of the largest rows that are run, as many as run at once, in GiB."""
        each = sorted((row.announcement.estimate.memory_gib for row in self.rows if row.runs), reverse=True)
        return sum(each[: self.workers])

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
        if self.workers > 1:
            lines.append(
                f"Memory about {self.memory_gib:.0f} GiB: {self.workers} rows at once, each with a base of its own. "
                f"The hours are those of one row after the other."
            )
        lines.append(
            f"Estimates are arithmetic, good to a factor of two ({duration(3600 * self.hours)}); the base's answers "
            f"are counted in each row and written once. Nothing was started."
        )
        return "\n".join(lines)


def estimate_bench(
    plan: BenchPlan, gpu: str | None = None, *, replace: bool = False, workers: int | None = None
) -> BenchEstimate:
    """Check everything that can be known before a bench starts, and reckon its rows; nothing is written.

    Args:
        plan: the bench.
        gpu: name of the card to run on; by default what is here.
        replace: whether what other recipes published in the folders of the rows may be replaced.
        workers: rows that are run at once; None: one.

    Raises:
        LingraftError: what would stop the bench as well; the sentence begins with the row.
    """
    rows, shared = list[RowEstimate](), Shared()
    try:
        for one in plan.rows:
            rows.append(_reckoned(plan, one, gpu, replace, shared))
    finally:
        shared.close()
    equal = equal_hours(plan, {row.name: row.announcement.estimate for row in rows})
    for number, row in enumerate(rows):
        if row.name in equal:
            hours, why = equal[row.name]
            rows[number] = replaced(row, equal=hours, note="; ".join(text for text in (row.note, why) if text))
    return BenchEstimate(plan.name, plan.folder, rows, workers or 1)


def _reckoned(plan: BenchPlan, one: RowPlan, gpu: str | None, replace: bool, shared: Shared) -> RowEstimate:
    note, choosing = "" if one.row.run else f"not run: {one.row.why}", 0.0
    with naming(one):
        refuse_others(one, replace)
        its = known_value(one, replace).recipe
        reckoned = announce(its, one.folder, gpu, replace=replace, pending=pending_of(plan, one), shared=shared)
        if plan.choose and one.chooses:
            for other in variants(one):
                rehearse(other.recipe, weights=False, shared=shared)
            choosing = choosing_hours(plan.choose, one, gpu, shared=shared)
    return RowEstimate(one.row.name, reckoned, one.row.run, note, choosing)
