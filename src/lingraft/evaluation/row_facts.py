"""What a row of the scorecard says of its metric: how it is called, which end is better, how it is written.

Rows carry the facts that metrics and suites declare. Those of earlier versions do not: what is known of them is found
here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from lingraft.core.errors import UsageError
from lingraft.statistics.metric_facts import ROLES, Better, MetricFacts, citable


class Row(Protocol):
    """A row of the scorecard that carries the facts of its metric; rows of suites also have `suite`."""

    @property
    def metric(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def better(self) -> Better: ...
    @property
    def unit(self) -> str: ...
    @property
    def decimals(self) -> int | None: ...
    @property
    def cite(self) -> Sequence[str]: ...
    @property
    def role(self) -> str: ...


def carried(facts: MetricFacts) -> dict[str, Any]:
    """Return the fields of a row that hold what its metric says about itself."""
    return {
        "label": facts.label,
        "better": facts.better,
        "unit": facts.unit,
        "decimals": facts.decimals,
        "cite": list(facts.cite),
        "role": facts.role,
    }


def facts_of(row: Row) -> MetricFacts:
    """Return what a row says of its metric; of a row that says nothing, what its metric declares today."""
    if row.label:
        return MetricFacts(
            label=row.label,
            better=row.better,
            decimals=row.decimals,
            unit=row.unit,
            cite=tuple(filter(citable, row.cite)),  # the scorecard may be a stranger's
            role=row.role if row.role in ROLES else "",
        )
    signature = getattr(row, "signature", "")
    suite = getattr(row, "suite", None)
    known = of_metric(row.metric, signature) if suite is None else _of_suite(suite, row.metric, signature)
    found = known or MetricFacts(label=row.metric, better=None)
    return replace(found, better=row.better) if row.better else found


def of_metric(metric: str, signature: str) -> MetricFacts | None:
    """Return what a translation metric declares; one with a name of its own is known by its signature."""
    from lingraft.metrics.base import METRICS  # only rows of earlier versions need it

    kind = signature.partition("|")[0]
    for name in (metric, kind):
        with suppress(UsageError):  # a plugin that is damaged says nothing
            if name in METRICS:
                found = METRICS.get(name).declared(signature)
                return found if name == metric else replace(found, label=metric)
    return None


def _of_suite(suite: str, metric: str, signature: str) -> MetricFacts | None:
    """Return what a suite declares of a metric: the one of that name, else the first that has such a metric.

    Which end is better, the signature says where a retention was computed.
    """
    from lingraft.suites.base import SUITES, THINKING, THINKING_FACTS

    if metric == THINKING:
        return THINKING_FACTS
    for name in sorted(SUITES, key=lambda name: name != suite):
        with suppress(UsageError):
            entry: Any = SUITES.get(name)
            found: MetricFacts | None = entry.declared(metric, signature)
            if found is not None:
                return found
    parts = signature.split("|")
    better = "lower" if "retention:inverted" in parts else "higher" if "retention:ratio" in parts else None
    return MetricFacts(label=metric, better=better) if better else None  # type: ignore[arg-type]
