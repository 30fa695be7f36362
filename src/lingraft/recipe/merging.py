"""The section of a recipe that says what is merged: systems made of the weights of others, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pydantic import Field, field_validator, model_validator

from lingraft.recipe.choices import NAME, Choice, run_name

BASE = "base"
MAX_POINTS = 100
"""Systems of one sweep: each is written to the disk and answers everything."""


@dataclass(frozen=True)
class MergePlan:
    """One merged system.

    Attributes:
        name: of the system.
        kind: registered name of the merger.
        params: of the merger, in full once the recipe is checked.
        of: what it is made of: systems of the run, `base`, or paths.
        group: the sweep that it belongs to, which is no system itself; None: none.
        swept: what the sweep gives it.
    """

    name: str
    kind: str
    params: Mapping[str, Any]
    of: tuple[str, ...]
    group: str | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)


class Merge(Choice):
    """A system that is made of the weights of others, without training; its merger's parameters stand beside `kind`."""

    name: str = Field("", pattern=f"{NAME}|^$", max_length=60, description="in the report; default: the kind")
    of: list[str] = Field(
        min_length=1,
        description="what is merged: names of the recipe's systems, of given grafts and of entries before it; `base`, "
        "the base itself; or paths of grafts, of runs with one, or of whole models, which have a slash, "
        "or org/name[@revision] of the hub",
    )
    sweep: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="parameters of the merger, each with several values: {weight: [0.25, 0.5]}; one system for each "
        "combination, which the report's frontier joins by a line",
    )

    @field_validator("of")
    @classmethod
    def _different(cls, value: list[str]) -> list[str]:
        for name in value:
            if not name:
                raise ValueError("a name is empty; give a system or a path")
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice; name each once, and say by a weight if it is to count more")
        if value == [BASE]:
            raise ValueError("the base alone is no merge; name a graft as well")
        return value

    @model_validator(mode="after")
    def _sweepable(self) -> Merge:
        for key, values in self.sweep.items():
            if len(values) < 2:
                raise ValueError(f"sweep.{key}: give two values or more, or set `{key}` beside `kind`")
            if key in self.params:
                raise ValueError(f"{key} is set and in `sweep`; drop one of the two")
            if any(values.count(value) > 1 for value in values):
                raise ValueError(f"sweep.{key}: a value is there twice; drop one")
        number = math.prod(len(values) for values in self.sweep.values())
        if number > MAX_POINTS:
            raise ValueError(f"the sweep has {number:,} combinations, each a model; give at most {MAX_POINTS}")
        return self

    @property
    def label(self) -> str:
        """Its name."""
        return self.name or self.kind

    @property
    def paths(self) -> list[str]:
        """Those of its parts that are folders."""
        return [part for part in self.of if is_path(part)]

    def plans(self) -> list[MergePlan]:
        """Return the systems that it is: one, or those of its sweep."""
        if not self.sweep:
            return [MergePlan(self.label, self.kind, self.params, tuple(self.of))]
        found = []
        for values in product(*self.sweep.values()):
            said = [_word(value) for value in values]
            found.append(
                MergePlan(
                    name="-".join([self.label, *said]),
                    kind=self.kind,
                    params={**self.params, **dict(zip(self.sweep, values, strict=True))},
                    of=tuple(self.of),
                    group="-".join([self.label, *said[:-1]]),
                    swept=dict(zip(self.sweep, values, strict=True)),
                )
            )
        return found


def is_path(part: str) -> bool:
    """Whether an entry of `of` is a folder or a name of the hub, not the name of a system."""
    return "/" in part or part.startswith((".", "~"))


def _word(value: Any) -> str:
    """Return a value of a sweep as a part of a name."""
    if isinstance(value, list | tuple):
        return "+".join(map(_word, value))
    if isinstance(value, Mapping):
        return "+".join(_word(one) for one in value.values())
    if isinstance(value, float):
        return f"{value:g}"
    return run_name(str(value).lower() if isinstance(value, bool) else str(value)) or "none"
