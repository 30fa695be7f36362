"""What a bench has chosen for its rows on the development set: one key, some values, and the rows that choose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from lingraft.core.errors import UsageError
from lingraft.core.figures import value_text
from lingraft.core.hashing import content_hash
from lingraft.recipe.choices import Section, run_name
from lingraft.recipe.overrides import SINGLE
from lingraft.recipe.schema import Recipe

CHOICE = "choice"
"""Folder of what was trained to choose."""
RULERS = ("dev_every_steps", "dev_sample", "best_by", "precision", "report_to", "save_every_steps")
"""Settings of training that decide how it is measured, or nothing of what it gives."""


class Choose(Section):
    """One value of a recipe, chosen for rows by the development set."""

    key: str = Field(description="what is chosen, such as stages.0.train.learning_rate")
    values: list[Any] = Field(min_length=2, max_length=20, description="that are tried")
    by: Literal["loss", "chrf"] = Field("loss", description="of the development set: least loss, or highest chrF")
    rows: list[str] | None = Field(None, min_length=1, description="rows that choose; default: all that train")

    @field_validator("key")
    @classmethod
    def _of_a_training(cls, key: str) -> str:
        found = re.fullmatch(r"stages\.\d+\.(\S+)", key)
        if found is None:
            raise ValueError(
                f"{key!r} is no key of a training; give one within a stage, such as stages.0.train.learning_rate"
            )
        inner = found[1].removeprefix("train.")
        if inner in RULERS and inner != found[1]:
            raise ValueError(f"{key!r} changes no training, or how it is measured; choose another key")
        return key

    @field_validator("values")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        texts = [value_text(value) for value in values]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise ValueError(f"the value {twice} is there twice; give it once")
        return values

    @field_validator("rows")
    @classmethod
    def _rows_once(cls, rows: list[str] | None) -> list[str] | None:
        if twice := next((name for name in rows or () if (rows or []).count(name) > 1), None):
            raise ValueError(f"the row {twice!r} is named twice; name it once")
        return rows


@dataclass(frozen=True)
class Option:
    """A value that a row may get.

    Attributes:
        value: of the key.
        recipe: of the row with that value.
        folder: of the training that tries it, in the row that chooses.
    """

    value: Any
    recipe: Recipe
    folder: Path

    @property
    def candidate(self) -> Recipe:
        """The recipe of the training that tries the value: with the first seed alone."""
        return self.recipe.model_copy(update={"seeds": 1})


def check_options(key: str, options: Sequence[Option]) -> None:
    """Refuse values that give a row one training twice, or trainings that are measured in different ways.

    Args:
        key: what is chosen.
        options: of a row, by their values.

    Raises:
        UsageError: there are such.
    """
    stages = [one.recipe.stages for one in options]
    made = [[stage.model_dump(mode="json", exclude={"name"}) for stage in each] for each in stages]
    if len({content_hash(each) for each in made}) < len(options):
        raise UsageError(f"some of the values of {key} are the same to it; give each once")
    for ruler in RULERS:
        if len({content_hash([getattr(stage.train, ruler) for stage in each]) for each in stages}) > 1:
            raise UsageError(
                f"the values of {key} differ in {ruler}, which changes no training, or how it is measured; give it once"
            )


def value_folder(value: Any) -> str:
    """Return the name of a value's folder."""
    text = value_text(value)
    if re.fullmatch(r"[a-z0-9]|[a-z0-9][a-z0-9._+-]{0,38}[a-z0-9]", text):
        return text
    return f"{run_name(text)[:32]}-{content_hash(value)[:8]}".lstrip("-")


def sets(changes: Mapping[str, Any], key: str) -> bool:
    """Whether changes by dotted keys say something of a key, or of what it holds."""
    for name, value in changes.items():
        if f"{name}.".startswith(f"{key}."):
            return True
        value = [value] if name in SINGLE and isinstance(value, Mapping) else value
        if f"{key}.".startswith(f"{name}.") and _holds(value, key[len(name) + 1 :].split(".")):
            return True
    return False


def _holds(value: Any, parts: list[str]) -> bool:
    for part in parts:
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return False
    return True


def check_choosing(choose: Choose | None, rows: Mapping[str, Any], equal_tokens: str | None) -> None:
    """Refuse what is wrong with the names of rows in `choose`, `like` and `equal_tokens`.

    Args:
        choose: of the bench file.
        rows: its rows by their names, in their order.
        equal_tokens: name of the row whose tokens are the measure.

    Raises:
        ValueError: in words.
    """
    named = choose.rows if choose else None
    for where, names in (("choose.rows", named or ()), ("equal_tokens", [equal_tokens] if equal_tokens else ())):
        for name in names:
            if name not in rows:
                raise ValueError(f"{where}: there is no row {name!r}; known: {', '.join(rows)}")
            if not rows[name].run:
                raise ValueError(f"{where}: the row {name!r} is not run; name another")
    before: list[str] = []
    for name, row in rows.items():
        if row.like:
            if choose is None:
                raise ValueError(f"row {name!r} takes the value of {row.like!r}, and none is chosen; add `choose:`")
            if row.like not in before or not rows[row.like].run:
                raise ValueError(
                    f"row {name!r} takes the value of {row.like!r}, which is no row before it that chooses and is run"
                )
            if rows[row.like].like or (named is not None and row.like not in named):
                raise ValueError(
                    f"row {name!r} takes the value of {row.like!r}, which does not choose; name a row that does"
                )
            if named is not None and name in named:
                raise ValueError(f"row {name!r} is in choose.rows and takes the value of {row.like!r}; do one of them")
        before.append(name)


def role(choose: Choose, row: Any, recipe: Recipe) -> Literal["chooses", "takes", "own"]:
    """Return whether a row chooses, takes the value of another, or has its own.

    Args:
        choose: of the bench.
        row: of the bench file.
        recipe: of the row, without what is chosen.

    Raises:
        UsageError: it cannot do what it is told, or nothing says where its value is from.
    """
    asked = choose.rows is not None and row.name in choose.rows
    if not recipe.stages:
        if asked or row.like:
            raise UsageError(f"it trains nothing, and has no {choose.key} to choose; leave it out there")
        return "own"
    own = sets(row.set, choose.key)
    if asked or row.like or (choose.rows is None and row.run):
        if own:
            raise UsageError(
                f"it sets {choose.key} itself, which is chosen for it; drop it there, or name the rows that choose in "
                f"choose.rows without this one"
            )
        if not recipe.pairs.has_dev:
            raise UsageError(
                f"{choose.key} is chosen on the development set, and the recipe has none; add `pairs.dev`, or "
                f"`dev_share: 0.02` under `pairs`"
            )
        return "takes" if row.like else "chooses"
    if row.run and not own:
        raise UsageError(
            f"nothing says where its {choose.key} is from; add it to choose.rows, take a row's by `like: "
            f"{(choose.rows or [''])[0]}`, or set it"
        )
    return "own"
