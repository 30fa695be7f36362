"""What a bench leaves: a table of its rows, from their scorecards."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.evaluation.published import open_run
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import BASE
from lingraft.pipeline.bench_tables import result_text
from lingraft.pipeline.bench_tokens import TOLERANCE, Matched
from lingraft.pipeline.result import Run
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.reporting.bench_contents import BENCH, CONFIGURED, DONE, NOT_RUN, REPORT, SCHEMA, TO_DO, read_table


@dataclass(frozen=True)
class BenchResult:
    """The table of a bench; as a text, what the command prints.

    Attributes:
        folder: of the bench.
        rows: as in `bench.json`: name, status, and of finished rows what each system gained, kept and cost.
        equal_tokens: likewise, its second table; {} where there is none.
    """

    folder: Path
    rows: list[dict[str, Any]]
    equal_tokens: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> BenchResult:
        """Return the table in the folder of a bench.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        read_table(Path(folder))
        table = json.loads((Path(folder) / BENCH).read_text("utf-8"))
        return cls(Path(folder), list(table["rows"]), dict(table.get("equal_tokens") or {}))

    @property
    def report(self) -> Path:
        """The page: frontier, table, differences, forgotten items, costs."""
        return self.folder / REPORT

    def __str__(self) -> str:
        return result_text({"rows": self.rows, "equal_tokens": self.equal_tokens})


def table_of(
    plan: BenchPlan, finished: Collection[str], choices: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the table, ready for JSON.

    Args:
        plan: the bench.
        finished: names of the rows that have been run.
        choices: what was chosen for rows, by their names.

    Raises:
        StoreError: what a finished row published was changed or damaged.
    """
    rows = []
    for one in plan.rows:
        name = one.row.name
        status = NOT_RUN if not one.row.run else DONE if name in finished else TO_DO
        row: dict[str, Any] = {"name": name, "status": status, "why": one.row.why, "set": one.row.set}
        if choices and name in choices:
            row["choice"] = choices[name]
        if status == DONE:
            row |= _run(plan, one)
        rows.append(row)
    return {"schema": SCHEMA, "name": plan.name, "reference": plan.reference, "rows": rows}


def with_known(table: dict[str, Any], known: BenchResult | None, equal_tokens: str | None) -> dict[str, Any]:
    """Return a table in which rows that are still to do, and were done before, are as they were then.

    A bench that continues comes to them later, and does nothing; where it is killed before, they are not lost.

    Args:
        table: as far as this bench has come.
        known: what was in the folder when it began, of the same experiments; None: nothing.
        equal_tokens: the row that is the measure of the second table; None: there is none.
    """
    if known is None:
        return table
    found = {**table, "rows": _kept(table["rows"], known.rows, known.folder)}
    before, equal = known.equal_tokens, table.get("equal_tokens")
    if equal_tokens is None or before.get("reference") != equal_tokens:
        return found
    if equal is None and all(row["status"] in (DONE, NOT_RUN) for row in found["rows"]):
        found["equal_tokens"] = before
    elif equal is not None and equal["tokens"] == before.get("tokens"):
        found["equal_tokens"] = {**equal, "rows": _kept(equal["rows"], before.get("rows", []), known.folder)}
    return found


def _kept(rows: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    before = {row["name"]: row for row in known}
    return [before[row["name"]] if _stands(row, before.get(row["name"]), folder) else row for row in rows]


def _stands(row: Mapping[str, Any], before: Mapping[str, Any] | None, folder: Path) -> bool:
    """Whether a row that is to do was done before, and its run is still there."""
    if row["status"] != TO_DO or before is None or before["status"] != DONE or before.get("set") != row.get("set"):
        return False
    try:
        open_run(folder / before["run"])
    except StoreError:
        return False
    return True


def equal_table(plan: BenchPlan, wanted: int, rows: Collection[Matched], finished: Collection[str]) -> dict[str, Any]:
    """Return the table of rows at equal tokens, ready for JSON.

    Args:
        plan: the bench.
        wanted: real tokens of the reference.
        rows: all that train.
        finished: names of those that have been trained again.

    Raises:
        StoreError: what a finished row published was changed or damaged.
    """
    listed = []
    for row in rows:
        name = row.one.row.name
        status = CONFIGURED if not row.again else DONE if name in finished else TO_DO
        listed.append({"name": name, "status": status, **({} if status == TO_DO else _run(plan, row.one))})
    return {"reference": plan.equal_tokens, "tokens": wanted, "tolerance": TOLERANCE, "rows": listed}


def _run(plan: BenchPlan, one: RowPlan) -> dict[str, Any]:
    """Return where a finished row is, and what its systems gained, kept and cost."""
    return {
        "run": str(one.folder.relative_to(plan.folder)),
        "systems": systems_of(Run.read(one.folder).scorecard),
    }


def systems_of(card: Scorecard) -> list[dict[str, Any]]:
    """Return what each system of a run but the base gained, kept and cost, ready for JSON."""
    plans = {system.name: system for system in card.systems}
    found = []
    for row in card.summary:
        if row.system == BASE:
            continue
        values = row.model_dump(mode="json", exclude={"system"})
        seed = plans[row.system].seed
        found.append(
            {
                "name": row.system,
                "seed": card.seed if seed is None else seed,
                **values,
                "cost": {kind: _cost(card, row.system, kind) for kind in ("synthesis", *_trained(card, row.system))},
            }
        )
    return found


def _trained(card: Scorecard, system: str) -> list[str]:
    """Return the stages that train: a tuner of two passes trains once more to select what learns."""
    selects = any(row.system == system and row.stage == "selection" for row in card.cost)
    return ["selection", "training"] if selects else ["training"]


def _cost(card: Scorecard, system: str, kind: str) -> dict[str, Any]:
    """Return seconds and real tokens of the stages of a kind, and those of them that are supervised."""
    rows = [row for row in card.cost if row.system == system and row.stage.startswith(kind)]
    return {
        "seconds": round(sum(row.seconds for row in rows), 2),
        "tokens": sum(row.tokens or 0 for row in rows),
        "supervised_tokens": sum(row.supervised_tokens or 0 for row in rows),
    }
