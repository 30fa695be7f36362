"""What the page of a bench shows: `bench.json` as it is read, the runs of its rows, and their comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lingraft.core.errors import StoreError
from lingraft.evaluation.compared_row import ComparisonRow
from lingraft.evaluation.compared_run import ComparedRun
from lingraft.evaluation.comparison import Frontier

BENCH, BENCH_FILE, REPORT, README = "bench.json", "bench.yaml", "report.html", "README.md"
SCHEMA = "lingraft.bench/1"
DONE, TO_DO, NOT_RUN, CONFIGURED = "done", "to do", "not run", "as configured"
MEASURED = (DONE, CONFIGURED)
"""Statuses of rows that have a run; the second: in the table of equal tokens, the run of the first table."""


class _Read(BaseModel):
    """Keys that are not shown, and those of other versions, are left out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Tried(_Read):
    """A value that was tried for a row; `dev`: what the development set said, None where training was spoilt."""

    value: Any = None
    dev: dict[str, float] | None = None
    why: str = ""


class Chosen(_Read):
    """A value that was chosen for a row on the development set."""

    key: str
    value: Any = None
    by: str = ""
    edge: str = ""
    like: str = ""
    candidates: list[Tried] = Field(default_factory=list)


class Reached(_Read):
    """A gain with its interval."""

    value: float
    ci95: tuple[float, float]


class Took(_Read):
    """What the stages of a kind cost; earlier versions did not count what is supervised."""

    seconds: float
    tokens: int
    supervised_tokens: int | None = None


class ListedSystem(_Read):
    """A system of a row."""

    name: str
    gain: Reached | None = None
    retention_mean: float | None = None
    cost: dict[str, Took]


class ListedRow(_Read):
    """A row of `bench.json`."""

    name: str
    status: str
    why: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    run: str = ""
    choice: Chosen | None = None
    systems: list[ListedSystem] = Field(default_factory=list)
    bench: str = Field("", description="in which it was run, where it was collected")


class EqualTokens(_Read):
    """The second table: rows that were trained on as many tokens as a reference."""

    reference: str = ""
    tokens: int = 0
    tolerance: float = 0.1
    rows: list[ListedRow] = Field(default_factory=list)


class BenchTable(_Read):
    """`bench.json`."""

    name: str = "bench"
    reference: str = ""
    rows: list[ListedRow]
    equal_tokens: EqualTokens | None = None

    @field_validator("equal_tokens", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or None


def read_table(folder: Path) -> BenchTable:
    """Return the table in the folder of a bench; one of an earlier version may lack keys.

    Raises:
        StoreError: there is none, it is damaged, or names a run outside of the folder.
    """
    path = folder / BENCH
    again = "run the bench again, which makes it anew"
    try:
        if path.exists() and not path.is_file():  # a pipe might never end
            raise ValueError("it is no file")
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no mapping")
        json.dumps(values, ensure_ascii=False).encode()  # half a character could not be written into the page
        if values.get("schema") != SCHEMA:
            raise StoreError(f"{path} is of another version ({values.get('schema')}); {again}")
        table = BenchTable.model_validate(values)
    except FileNotFoundError as error:
        raise StoreError(f"{folder} holds no bench with a finished row; run it with `lingraft bench`") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path} is damaged ({place}: {first['msg']}); {again}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}); {again}") from error
    for row in (*table.rows, *(table.equal_tokens.rows if table.equal_tokens else ())):
        inside = "\0" not in row.run and (folder / row.run).resolve().is_relative_to(folder.resolve())
        if not inside:
            raise StoreError(f"{path} is damaged: the run of {row.name!r} is outside of its folder; {again}")
    return table


@dataclass(frozen=True)
class BenchLine:
    """A row of a table.

    Attributes:
        row: as in `bench.json`.
        label: of its run among those that are compared.
        run: None where it has none.
        trouble: why a run that should be there cannot be read.
    """

    row: ListedRow
    label: str
    run: ComparedRun | None = None
    trouble: str = ""

    @property
    def state(self) -> str:
        """Its status in words; empty where it is done."""
        if self.trouble:
            return f"cannot be read: {self.trouble}"
        alone = self.run is not None and len(self.run.scorecard.systems) == 1
        status = self.row.status if self.row.status != DONE else "the base alone" if alone else ""
        return ": ".join(filter(None, (status, self.row.why)))


@dataclass(frozen=True)
class BenchSection:
    """One table with its frontier.

    Attributes:
        title: heading.
        lead: a sentence below it; may be empty.
        lines: all rows, also those that are not run.
        frontier: of those that were measured; None where there are none.
        reference: the row of the frontier that others are set against, beside the base; "" for none.
        comparisons: differences for which p is corrected, those of other tables included.
    """

    title: str
    lead: str
    lines: Sequence[BenchLine]
    frontier: Frontier | None
    reference: str = ""
    comparisons: int = 0

    def measured(self, line: BenchLine) -> list[ComparisonRow]:
        """Return the rows of the frontier that come from the run of a line."""
        if self.frontier is None or line.run is None:
            return []
        return [row for row in self.frontier.rows if row.run == line.label and row.system.name != "base"]


@dataclass(frozen=True)
class BenchContents:
    """Everything that the page shows.

    Attributes:
        name: of the bench.
        sections: the table of the rows, and that at equal tokens where there is one.
        notes: cautions, a sentence each.
        commands: by which it is run again.
        bench_yaml: the bench file.
        runs: of all rows, each once.
        collected: whether the runs are there without their texts.
    """

    name: str
    sections: Sequence[BenchSection]
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()
    bench_yaml: str = ""
    runs: Sequence[ComparedRun] = ()
    collected: bool = False
