"""Hours that a bench takes beside its rows: to choose values, and to train rows again on as many tokens as another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from lingraft.core.figures import number
from lingraft.pipeline.bench_tokens import differs
from lingraft.pipeline.dry_run import Counts, Estimate, estimate
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.dry_run_stages import Line
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.bench_choice import Choose

MADE_ONCE = ("train", "tuner", "objective")
"""Keys of a stage that change nothing of what is written for it."""


def choosing_hours(
    choose: Choose, one: RowPlan, gpu: str | None, counts: Counts | None = None, shared: Shared | None = None
) -> float:
    """Return the hours of what is trained to choose a row's value, without the training that the row takes over.

    Args:
        choose: of the bench.
        one: the row.
        gpu: name of the card to run on; None: what is here.
        counts: what the row works on, where that is known.
        shared: with what was looked at before; None: nothing.
    """
    if not one.chooses:
        return 0.0
    once = choose.key.split(".")[2] in MADE_ONCE
    hours = []
    for option in one.options:
        lines = _of_stages(estimate(option.candidate, gpu, counts, shared))
        hours.append(sum(line.hours for line in lines if not once or _trains(line)))
    return sum(hours) * (1 - 1 / len(hours))


def equal_hours(plan: BenchPlan, found: Mapping[str, Estimate]) -> dict[str, tuple[float, str]]:
    """Return for each row that seems to need it the hours of its training on as many tokens as the reference, and why.

    Args:
        plan: the bench.
        found: what a dry run says of each row.
    """
    hours = dict[str, tuple[float, str]]()
    wanted = _read(found[plan.equal_tokens]) if plan.equal_tokens else 0.0
    for one in plan.to_run if wanted else ():
        own, name = found[one.row.name], one.row.name
        read = _read(own)
        if not read or not differs(read, wanted):
            continue
        trained = sum(line.hours * wanted / read for line in _of_stages(own) if _trains(line))
        asked = own.hours - sum(line.hours for line in _of_stages(own)) + own.hours_beside
        hours[name] = trained + asked, f"reads {number(read / wanted, 2)} times as many tokens as {plan.equal_tokens}"
    return hours


def _of_stages(found: Estimate) -> list[Line]:
    """Return what is written for stages, and their trainings."""
    return list(takewhile(lambda line: line.stage != "decode, all systems", found.lines))


def _trains(line: Line) -> bool:
    return line.stage.startswith(("train-", "dev-"))


def _read(found: Estimate) -> float:
    """Return the tokens that the trainings with the first seed read."""
    return sum(line.tokens for line in _of_stages(found) if line.steps and "#" not in line.stage)
