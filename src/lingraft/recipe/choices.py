"""What a recipe names from a registry: engine, suites, metrics, each with its own parameters beside its kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from lingraft.core.validation import Settings

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


def run_name(text: str) -> str:
    """Return a text as a name may be, of letters, digits, dots, underscores and hyphens; "" if it has none of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")


class Section(Settings):
    """A part of a recipe."""


class Choice(Section):
    """A registered thing by `kind`, with its own parameters beside it."""

    model_config = ConfigDict(extra="allow")

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def params(self) -> dict[str, Any]:
        """The parameters beside `kind`."""
        return dict(self.model_extra or {})


class TunerChoice(Choice):
    """Which parameters learn."""

    kind: str = "lora"


class ObjectiveChoice(Choice):
    """What a stage's loss has beside its spans' own."""


def refuse_repeated(what: str, names: Sequence[str]) -> None:
    """Raise ValueError if a name occurs twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name!r}; give one of them another `name:`")


class EngineChoice(Choice):
    """A text generation back end."""

    kind: str = "transformers"


class SuiteChoice(Choice):
    """A general-ability suite; `name` tells several of one kind apart."""

    name: str = Field("", pattern=f"{NAME}|^$", max_length=60, description="in report and ids; default: the kind")
    retains: bool = Field(True, description="whether it counts for retention; false: its scores are only shown")

    @property
    def label(self) -> str:
        """The suite's name."""
        return self.name or self.kind


class DecoderChoice(Choice):
    """A decoder; `name` tells several of one kind apart."""

    name: str = Field("", pattern=f"{NAME}|^$", max_length=60, description="in the report; default: the kind")
    systems: list[str] = Field(
        default_factory=list, description="whose weights it asks, such as [base, radis]; default: all that are measured"
    )

    @field_validator("systems")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        refuse_repeated("systems", value)
        return value

    @property
    def label(self) -> str:
        """What stands behind the weights in the system's name."""
        return self.name or self.kind


class DeciderChoice(Choice):
    """What decides whether a graft or its base answers a request."""

    kind: str = "classifier"


class MetricChoice(Choice):
    """A translation metric; `name` tells several of one kind apart."""

    name: str = Field("", pattern=f"{NAME}|^$", max_length=60, description="in the report; default: the kind")

    @property
    def label(self) -> str:
        """The metric's name in scorecard and report."""
        return self.name or self.kind
