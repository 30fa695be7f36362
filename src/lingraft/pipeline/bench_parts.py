"""The rows of a bench as the parts of its work, and about how long each takes: reckoned once, when it begins."""

from __future__ import annotations

import json
from dataclasses import replace

from lingraft.core.errors import LingraftError, first_line
from lingraft.pipeline.bench_hours import choosing_hours, equal_hours
from lingraft.pipeline.dry_run import Counts, Estimate, counted, estimate
from lingraft.pipeline.noting import Noting
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.schema import Recipe
from lingraft.store.progress_file import PartNote


def equal_part(name: str) -> str:
    """Return the name of the part in which a row is run at equal tokens."""
    return f"{name} at equal tokens"


def note_rows(noting: Noting, plan: BenchPlan) -> None:
    """Note the rows that are run, with their estimates, or why there are none."""
    rows = [PartNote(kind="row", of=one.row.name) for one in plan.to_run]
    try:
        noting.plan(_reckoned(plan, rows))
    except LingraftError as error:
        noting.plan(rows, unknown=str(error))
    except Exception as error:  # it is for people alone: no bench ends for want of it, and they are told
        noting.plan(rows, unknown=f"{type(error).__name__}: {first_line(error)}")


def _reckoned(plan: BenchPlan, rows: list[PartNote]) -> list[PartNote]:
    known: dict[str, Counts] = {}
    found: dict[str, Estimate] = {}
    for one in plan.to_run:
        found[one.row.name] = estimate(one.recipe, counts=_counts(one.recipe, known))
    hours = {name: each.hours + each.hours_beside for name, each in found.items()}
    if plan.choose:
        for one in plan.to_run:
            hours[one.row.name] += choosing_hours(plan.choose, one, None, _counts(one.recipe, known))
    again = [
        PartNote(kind="row", of=equal_part(name), estimate=3600 * more)
        for name, (more, _) in equal_hours(plan, found).items()
    ]
    return [*(replace(row, estimate=3600 * hours[row.of]) for row in rows), *again]


def _counts(recipe: Recipe, known: dict[str, Counts]) -> Counts:
    """Return what a row works on. Rows have the same pairs and prompts, which are counted once."""
    values = recipe.model_dump(mode="json", include={"texts", "vocabulary"})
    key = json.dumps(values, sort_keys=True)
    if key not in known:
        known[key] = counted(recipe)
    return known[key]


def note_row(noting: Noting, plan: BenchPlan, one: RowPlan, *, equal: bool = False, done: bool = False) -> None:
    """Note that a row's run begins, or that it is done.

    Args:
        noting: of the bench.
        plan: the bench.
        one: the row, with the folder of the run.
        equal: whether it is the run at equal tokens.
        done: whether it is done.
    """
    part = PartNote(kind="row", of=equal_part(one.row.name) if equal else one.row.name)
    folder = one.folder.relative_to(plan.folder).as_posix()
    (noting.row_ends if done else noting.row_begins)(part, folder)
