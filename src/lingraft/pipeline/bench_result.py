"""What a bench leaves: a table of its rows, from their scorecards."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.core.figures import interval, number
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import BASE
from lingraft.pipeline.result import Run
from lingraft.recipe.bench import BenchPlan

BENCH = "bench.json"
BENCH_FILE = "bench.yaml"
SCHEMA = "lingraft.bench/1"
DONE, TO_DO, NOT_RUN = "done", "to do", "not run"


@dataclass(frozen=True)
class BenchResult:
    """The table of a bench; as a text, what the command prints.

    Attributes:
        folder: of the bench.
        rows: as in `bench.json`: name, status, and of finished rows what each system gained, kept and cost.
    """

    folder: Path
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: str | Path) -> BenchResult:
        """Return the table in the folder of a bench.

        Raises:
            StoreError: there is none.
        """
        path = Path(folder) / BENCH
        try:
            table = json.loads(path.read_text("utf-8"))
            if table["schema"] != SCHEMA:
                raise StoreError(f"{path} is of another version ({table['schema']}); run the bench again")
            return cls(Path(folder), list(table["rows"]))
        except FileNotFoundError as error:
            raise StoreError(f"{folder} holds no bench with a finished row; run it with `lingraft bench`") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged; run the bench again, which makes it anew: {error}") from error

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("row", "system", "gain", "% kept", "trained", "seconds", "")]
        for row in self.rows:
            if row["status"] != DONE:
                cells.append(
                    (row["name"], "", "-", "-", "-", "-", f"{row['status']}{': ' * bool(row['why'])}{row['why']}")
                )
            cells += [_cells(row["name"], system) for system in row.get("systems", [])]
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        return "\n".join(
            "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
        )


def _cells(name: str, system: dict[str, Any]) -> tuple[str, ...]:
    gain, kept = system["gain"], system["retention_mean"]
    gained = f"{number(gain['value'], 1, signed=True)} {interval(tuple(gain['ci95']), 1)}" if gain else "-"
    trained = f"{system['cost']['training']['tokens']:,}"
    seconds = f"{sum(one['seconds'] for one in system['cost'].values()):,.0f}"
    return name, system["name"], gained, "-" if kept is None else number(kept, 1), trained, seconds, ""


def table_of(plan: BenchPlan, finished: Collection[str]) -> dict[str, Any]:
    """Return the table, ready for JSON.

    Args:
        plan: the bench.
        finished: names of the rows that have been run.

    Raises:
        StoreError: what a finished row published was changed or damaged.
    """
    rows = []
    for one in plan.rows:
        name = one.row.name
        status = NOT_RUN if not one.row.run else DONE if name in finished else TO_DO
        row: dict[str, Any] = {"name": name, "status": status, "why": one.row.why, "set": one.row.set}
        if status == DONE:
            row |= {
                "run": str(one.folder.relative_to(plan.folder)),
                "systems": _systems(Run.read(one.folder).scorecard),
            }
        rows.append(row)
    return {"schema": SCHEMA, "name": plan.name, "rows": rows}


def _systems(card: Scorecard) -> list[dict[str, Any]]:
    """Return what each system but the base gained, kept and cost."""
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
                "cost": {
                    "synthesis": _cost(card, row.system, "synthesis"),
                    "training": _cost(card, row.system, "training"),
                },
            }
        )
    return found


def _cost(card: Scorecard, system: str, kind: str) -> dict[str, Any]:
    """Return seconds and real tokens of the stages of a kind."""
    rows = [row for row in card.cost if row.system == system and row.stage.startswith(kind)]
    return {"seconds": round(sum(row.seconds for row in rows), 2), "tokens": sum(row.tokens or 0 for row in rows)}
