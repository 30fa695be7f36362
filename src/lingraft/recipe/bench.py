"""A bench: one recipe, and rows that each change something in it; all on the same base, pairs, prompts and seeds."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.figures import value_text
from lingraft.core.validation import validated
from lingraft.recipe.bench_choice import CHOICE, Choose, Option, check_choosing, check_options, role, value_folder
from lingraft.recipe.choices import NAME, Section
from lingraft.recipe.load import load_recipe, parse_recipe, recipe_text
from lingraft.recipe.overrides import apply_override
from lingraft.recipe.schema import Recipe
from lingraft.recipe.strict_yaml import values_and_lines

ROW = "row:"
"""Before the name of a row that stands for its graft."""
TOKENS = "tokens"
"""Folder of the runs of rows that are trained on as many tokens as another."""
ROWS = "rows"
"""Folder of the rows' runs."""
SHARED = (
    *("name", "model", "revision", "template", "base_id", "repo_id", "pairs", "prompts", "seed", "seeds", "compare"),
    *("engine", "expected", "checks", "text_checks"),
    *(f"evaluate.{key}" for key in ("translation", "retention", "bootstrap", "gate", "test", "engine", "precision")),
)
"""Keys that no row changes: else rows could not be compared."""


class BenchRow(Section):
    """One row: a run of the recipe with some keys changed."""

    name: str = Field(pattern=NAME, max_length=80, description="of the row, and of its run's folder")
    set: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe, by dotted keys")
    run: bool = Field(True, description="false: the row stays in the table as not run")
    why: str = Field("", description="why it is not run")
    like: str = Field("", description="the row before it whose chosen value it takes")

    @model_validator(mode="after")
    def _reason(self) -> BenchRow:
        if self.run and self.why:
            raise ValueError("`why` says why a row is not run; add `run: false`, or drop it")
        if not self.run and not self.why.strip():
            raise ValueError("a row that is not run says why, such as `why: ninety hours`; add it")
        return self


class BenchFile(Section):
    """A whole bench."""

    name: str = Field(pattern=NAME, max_length=80, description="name of the bench and its folder")
    recipe: str | dict[str, Any] = Field(description="a recipe file, a shipped recipe's name, or a whole recipe")
    rows: list[BenchRow] = Field(min_length=1, max_length=200, description="what is compared")
    seeds: int | list[int] | None = Field(
        None, description="trainings of each row, as `seeds` of a recipe; default: those of the recipe"
    )
    choose: Choose | None = Field(None, description="what is chosen for each row on the development set")
    equal_tokens: str | None = Field(
        None, description="the row on as many tokens as which the others are trained once more, for a second table"
    )
    reference: str | None = Field(
        None, description="the row that the page sets the others against; default: that of `equal_tokens`, or the first"
    )

    @field_validator("rows")
    @classmethod
    def _comparable(cls, rows: list[BenchRow]) -> list[BenchRow]:
        names = [row.name for row in rows]
        folded = [name.casefold() for name in names]  # a folder each, also where case does not count
        if twice := next((name for name in names if folded.count(name.casefold()) > 1), None):
            raise ValueError(f"two rows are called {twice!r}; give one of them another `name:`")
        for number, row in enumerate(rows):
            for key in row.set:
                if shared := next((one for one in SHARED if _meet(key, one)), None):
                    raise ValueError(
                        f"row {row.name!r} sets {key!r}, and all rows have the same {shared!r}; set it in the recipe"
                    )
            for name in taken(row.set):
                before = {one.name: one for one in rows[:number]}
                if name not in before:
                    raise ValueError(
                        f"row {row.name!r} takes the graft of {name!r}, which is no row before it"
                        f"{suggestion(name, before)}"
                    )
                if row.run and not before[name].run:
                    raise ValueError(f"row {row.name!r} takes the graft of {name!r}, which is not run; run neither")
        return rows

    @model_validator(mode="after")
    def _named(self) -> BenchFile:
        rows = {row.name: row for row in self.rows}
        check_choosing(self.choose, rows, self.equal_tokens)
        if self.reference is not None and self.reference not in rows:
            raise ValueError(f"reference: there is no row {self.reference!r}{suggestion(self.reference, rows)}")
        if self.reference is not None and not rows[self.reference].run:
            raise ValueError(f"reference: the row {self.reference!r} is not run; name one that is")
        return self


@dataclass(frozen=True)
class RowPlan:
    """A row and its run.

    Attributes:
        row: as in the bench file.
        recipe: of its run.
        folder: of its run.
        takes: rows whose grafts it takes.
        options: values that are chosen from, of which `recipe` has the first until one is; () where none is chosen.
    """

    row: BenchRow
    recipe: Recipe
    folder: Path
    takes: tuple[str, ...]
    options: tuple[Option, ...] = ()

    @property
    def chooses(self) -> bool:
        """Whether it tries the values itself."""
        return bool(self.options) and not self.row.like

    def having(self, value: Any) -> RowPlan:
        """Return it with a value of its options."""
        texts = {value_text(option.value): option for option in self.options}
        return replace(self, recipe=texts[value_text(value)].recipe)


@dataclass(frozen=True)
class BenchPlan:
    """All rows, in their order.

    Attributes:
        name: of the bench.
        folder: of the bench.
        text: the bench file.
        rows: with their runs.
        choose: what is chosen for them; None: nothing.
        equal_tokens: the row whose tokens are the measure of the second table; None: there is none.
        reference: the row that others are set against; "" where none is run.
    """

    name: str
    folder: Path
    text: str
    rows: tuple[RowPlan, ...]
    choose: Choose | None = None
    equal_tokens: str | None = None
    reference: str = ""

    @property
    def to_run(self) -> list[RowPlan]:
        """The rows that are run."""
        return [plan for plan in self.rows if plan.row.run]


def load_bench(file: Path, out: Path | None = None) -> BenchPlan:
    """Read a bench file and make the recipe of each row.

    Args:
        file: YAML.
        out: folder of the bench; by default benches/<name>.

    Raises:
        UsageError: it cannot be read, or what is wrong in it, with its key or the name of the row.
    """
    if not os.path.isfile(file):
        raise UsageError(f"there is no bench file {str(file)!r}")
    text, where = recipe_text(file), str(file)
    values, lines = values_and_lines(text, where)
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: a bench is a YAML mapping, such as `name: my-bench`, not {type(values).__name__}")
    try:
        bench: BenchFile = validated(BenchFile, values, "")
    except UsageError as error:
        line = lines.of(error.key) if error.key else None
        raise UsageError.at(error.key, f"{where}{f', line {line}' if line else ''}: {error}") from error
    folder = (out or Path("benches") / bench.name).absolute()
    plans = []
    for row in bench.rows:
        try:
            plans.append(_planned(bench, row, file.parent, folder))
        except UsageError as error:
            raise UsageError(f"{where}: row {row.name!r}: {error}") from error
    first = plans[0]
    if bench.choose and not any(one.chooses for one in plans):
        raise UsageError(f"{where}: choose: no row trains and is run, so that there is nothing to choose; drop it")
    if named := next((one for one in plans if one.row.name == bench.equal_tokens and not one.recipe.stages), None):
        raise UsageError(f"{where}: equal_tokens: the row {named.row.name!r} trains nothing; name one that does")
    if other := next((one for one in plans if one.recipe.precision != first.recipe.precision), None):
        raise UsageError(
            f"{where}: row {other.row.name!r}: its base is in {other.recipe.precision}, and that of "
            f"{first.row.name!r} in {first.recipe.precision}; give both one `precision`"
        )
    _check_taken(where, {one.row.name: one for one in plans})
    reference = bench.reference or bench.equal_tokens or next((one.row.name for one in plans if one.row.run), "")
    return BenchPlan(bench.name, folder, text, tuple(plans), bench.choose, bench.equal_tokens, reference)


def _check_taken(where: str, plans: Mapping[str, RowPlan]) -> None:
    """Refuse rows that take a graft of one that will have none.

    Raises:
        UsageError: there is one.
    """
    for one in plans.values():
        if name := next((name for name in one.takes if not plans[name].recipe.stages), None):
            raise UsageError(
                f"{where}: row {one.row.name!r} takes the graft of {name!r}, which trains nothing and so has none; "
                f"take what {name!r} is made of"
            )


def _planned(
    bench: BenchFile, row: BenchRow, root: Path, folder: Path, chosen: Mapping[str, Any] | None = None
) -> RowPlan:
    """Return a row with its recipe, or with that which a chosen value gives it.

    Raises:
        UsageError: what is wrong with it.
    """
    grafts = {name: str(folder / ROWS / name / "graft") for name in taken(row.set)}
    changes = {**_placed(row.set, grafts), **(chosen or {}), "name": row.name}
    if bench.seeds is not None:
        changes["seeds"] = bench.seeds
    recipe = _changed(bench, changes, root)
    if not recipe.stages:  # what trains nothing is measured on the base that the others are trained on
        precision = _changed(bench, {}, root).precision
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"precision": precision})})
    if recipe.compare:
        raise UsageError(
            "the recipe has `compare`, and in a bench the rows are what is compared; make each of it a row"
        )
    if recipe.evaluate.gate:
        raise UsageError("the recipe has `evaluate.gate`, and a bench passes or fails nobody; drop it")
    planned = RowPlan(row, recipe, folder / ROWS / row.name, tuple(grafts))
    if chosen is not None or bench.choose is None or role(bench.choose, row, recipe) == "own":
        return planned
    options = []
    for value in bench.choose.values:
        its = _planned(bench, row, root, folder, {bench.choose.key: value}).recipe
        options.append(Option(value, its, folder / CHOICE / row.name / value_folder(value)))
    if not row.like:
        check_options(bench.choose.key, options)
    return replace(planned, recipe=options[0].recipe, options=tuple(options))


def _changed(bench: BenchFile, changes: Mapping[str, Any], root: Path) -> Recipe:
    """Return the recipe of a bench with some keys changed.

    Raises:
        UsageError: it cannot be read, or what is wrong with it.
    """
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    if isinstance(bench.recipe, str):
        beside = root / Path(bench.recipe).expanduser()
        return load_recipe(str(beside) if beside.exists() else bench.recipe, overrides)
    values = copy.deepcopy(bench.recipe)
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, "recipe", root.resolve())


def taken(values: Any) -> list[str]:
    """Return the rows whose grafts some values name, each once."""
    return list(dict.fromkeys(text.removeprefix(ROW) for text in _texts(values) if _names_row(text)))


def _names_row(text: str) -> bool:
    return text.startswith(ROW) and re.fullmatch(NAME, text.removeprefix(ROW)) is not None


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _texts(value)


def _placed(values: Any, grafts: Mapping[str, str]) -> Any:
    """Return values in which a row's graft is named by its folder."""
    if isinstance(values, str):
        return grafts[values.removeprefix(ROW)] if _names_row(values) else values
    if isinstance(values, Mapping):
        return {key: _placed(value, grafts) for key, value in values.items()}
    if isinstance(values, Sequence):
        return [_placed(value, grafts) for value in values]
    return values


def _meet(key: str, other: str) -> bool:
    """Whether one of two dotted keys is the other or within it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
