"""What a recipe names from a registry: engine, suites, metrics, each with its own parameters beside its kind."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from lingraft.recipe_stages import NAME, Choice

METRIC_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


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


class MetricChoice(Choice):
    """A translation metric; `name` tells several of one kind apart."""

    name: str = Field("", pattern=f"{METRIC_NAME}|^$", max_length=60, description="in the report; default: the kind")

    @property
    def label(self) -> str:
        """The metric's name in scorecard and report."""
        return self.name or self.kind
