"""Per-item results: sufficient statistics of one metric of one system, from which every score and test follows.

`items.jsonl` beside the scorecard holds them, so that runs can be compared later with paired tests. Its lines are JSON
objects. The first says `{"schema": "lingraft.items/1", "base": sha256}`. A line with `set` describes a set of items
once: `set` (a hash of the next three), `content` (hash of what was asked), `ids`, and `clusters` where items belong
together. Every other line is one metric of one system on such a set: `system`, `where` (test set or suite), `direction`
(absent for suites), `task` (where it is not translation), `metric`, `of` (the set), `statistics` (a list of numbers an
item) and what turns their sum into the score (`aggregation`, `scale`, `chance`, `better`, `retains`, `signature`), and
`shown`: how reports show it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.core.errors import DataError, StoreError, suggestion
from lingraft.core.hashing import content_hash
from lingraft.statistics.bootstrap import Aggregate, weighted_mean
from lingraft.statistics.metric_facts import ROLES, Better, MetricFacts
from lingraft.statistics.paired_tests import by_cluster
from lingraft.store.files import read_lines

SCHEMA = "lingraft.items/1"
TRANSLATION = "translation"
MIN_CLUSTERS = 10
"""Fewer are not resampled: see `usable_clusters`."""

_SACREBLEU: dict[str, tuple[str, dict[str, Any]]] = {
    "bleu": ("BLEU", {"force": True}),
    "chrf": ("CHRF", {}),
    "chrf++": ("CHRF", {"word_order": 2}),
    "ter": ("TER", {}),
}
"""Class of `sacrebleu.metrics` (imported when used) and its arguments."""


def sacrebleu_scores(metric: Any, totals: np.ndarray) -> np.ndarray:
    """Return the scores of a sacreBLEU metric from summed statistics, as `sacrebleu.significance` computes them."""
    return np.array([metric._compute_score_from_stats(row).score for row in totals.tolist()])


def sacrebleu_aggregation(metric: Any) -> str:
    """Return the name under which `aggregation` knows a sacreBLEU metric's way from sums to scores."""
    from sacrebleu.metrics import CHRF, TER

    if isinstance(metric, CHRF):
        return "chrf++" if metric.word_order else "chrf"
    return "ter" if isinstance(metric, TER) else "bleu"


@cache
def aggregation(name: str) -> Aggregate:
    """Return the function from summed statistics (m, k) to scores (m,): "mean", "percent" or a metric of sacreBLEU.

    How text was tokenised does not matter any more.

    Raises:
        DataError: unknown name.
    """
    if name == "mean":
        return weighted_mean
    if name == "percent":
        return lambda totals: 100.0 * weighted_mean(totals)
    if name not in _SACREBLEU:
        raise DataError(f"there is no aggregation {name!r}{suggestion(name, ['mean', 'percent', *_SACREBLEU])}")
    from sacrebleu import metrics

    kind, arguments = _SACREBLEU[name]
    metric = getattr(metrics, kind)(**arguments)
    return lambda totals: sacrebleu_scores(metric, totals)


@dataclass(frozen=True, eq=False)
class Items:
    """One metric of one system on one set of items.

    Attributes:
        where: test set or suite.
        direction: for example "de-en"; "" for a suite.
        ids: of the items.
        statistics: shape (items, k), the same order; they add up.
        aggregation: name of the function from their sum to the score, see `aggregation`.
        facts: what the metric says about itself.
        scale: as in `ItemScores`.
        chance: as in `ItemScores`.
        clusters: name of each item's group, where items belong together.
        signature: defines the values, without resamples and seed.
        content: hash of what was asked.
        task: of a test set, see `lingraft.core.tasks`.
    """

    system: str
    where: str
    direction: str
    metric: str
    ids: tuple[str, ...]
    statistics: np.ndarray
    aggregation: str = "mean"
    facts: MetricFacts = field(default_factory=MetricFacts)
    scale: float = 1.0
    chance: float = 0.0
    clusters: tuple[str, ...] | None = None
    signature: str = ""
    content: str = ""
    task: str = TRANSLATION

    @property
    def better(self) -> Better:
        """Which end is better; None: neither."""
        return self.facts.better

    @property
    def retains(self) -> bool:
        """Whether it counts for retention."""
        return self.facts.retains

    @cached_property
    def units(self) -> np.ndarray:
        """What is resampled: the statistics of each cluster, or of each item where there are no clusters."""
        return self.statistics if self.clusters is None else by_cluster(self.statistics, self.clusters)

    @property
    def aggregate(self) -> Aggregate:
        """Summed statistics (m, k) to scores (m,), without `scale`."""
        return aggregation(self.aggregation)

    @cached_property
    def set(self) -> str:
        """Identity of the set of items."""
        return content_hash([self.content, self.ids, self.clusters])[:16]


def usable_clusters(clusters: Sequence[str]) -> tuple[str, ...] | None:
    """Return the clusters if resampling them makes sense; None where each holds one item, or there are too few.

    With few clusters a bootstrap over them is far too narrow (with one it has no width at all); items are then taken
    as independent, and the signature does not say `unit:`.
    """
    different = len(set(clusters))
    return tuple(clusters) if MIN_CLUSTERS <= different < len(clusters) else None


def item_lines(items: Iterable[Items], base: str) -> Iterator[str]:
    """Yield the lines of `items.jsonl`; equal items give equal lines.

    Args:
        items: of all systems, sets and metrics; a set is described before the first of its items.
        base: hash of the base.
    """
    yield json.dumps({"schema": SCHEMA, "base": base})
    known: set[str] = set()
    for one in items:
        if one.set not in known:
            known.add(one.set)
            clusters = {"clusters": one.clusters} if one.clusters else {}
            described = {"set": one.set, "content": one.content, "ids": one.ids, **clusters}
            yield json.dumps(described, ensure_ascii=False)
        values = {
            "system": one.system,
            "where": one.where,
            **({"direction": one.direction} if one.direction else {}),
            **({"task": one.task} if one.task != TRANSLATION else {}),
            "metric": one.metric,
            "of": one.set,
            "aggregation": one.aggregation,
            "better": one.better,
            "scale": one.scale,
            "chance": one.chance,
            "retains": one.retains,
            "signature": one.signature,
            **_shown(one.facts),
            "statistics": [[_short(value) for value in row] for row in one.statistics.tolist()],
        }
        yield json.dumps(values, ensure_ascii=False)


_SHOWN = ("label", "decimals", "unit", "cite", "role")


def _shown(facts: MetricFacts) -> dict[str, Any]:
    said = {name: getattr(facts, name) for name in _SHOWN}
    shown = {name: value for name, value in said.items() if value not in ("", None, ())}
    return {"shown": shown} if shown else {}


def _facts(values: dict[str, Any]) -> MetricFacts:
    """Take what a line says of its metric out of it; a role of a later version is none here."""
    shown = values.pop("shown", {})
    shown |= {"cite": tuple(shown.get("cite", ())), "role": shown["role"] if shown.get("role") in ROLES else ""}
    return MetricFacts(better=values.pop("better", "higher"), retains=values.pop("retains", True), **shown)


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value


def read_items(path: Path) -> tuple[str, list[Items]]:
    """Return the base's hash and the items of an `items.jsonl`.

    Raises:
        StoreError: there is no such file, or it is damaged or of another version.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing; run the recipe again with this version, which keeps finished work")
    place = "line 1"
    try:
        sets: dict[str, Items] = {}
        found: list[Items] = []
        base = ""
        for number, line in enumerate(read_lines(path), start=1):
            place = f"line {number}"
            values = json.loads(line)
            if "schema" in values:
                if values["schema"] != SCHEMA:
                    raise StoreError(f"{path} has schema {values['schema']!r}, this version reads {SCHEMA!r}")
                base = values["base"]
            elif "set" in values:
                clusters = tuple(values["clusters"]) if "clusters" in values else None
                empty = Items("", "", "", "", tuple(values["ids"]), np.zeros((0, 0)), clusters=clusters)
                sets[values["set"]] = replace(empty, content=values["content"])
            else:
                statistics = np.array(values.pop("statistics"), dtype=np.float64)
                of = sets[values.pop("of")]
                if statistics.ndim != 2 or len(statistics) != len(of.ids):
                    raise ValueError("statistics and ids do not match")
                facts = _facts(values)
                found.append(replace(of, **{"direction": "", **values}, facts=facts, statistics=statistics))
        if not base:
            raise ValueError("it does not begin with its schema")
        return base, found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path}, {place}, is damaged ({error}); run the recipe again to write it anew") from error


def same_question(one: Items, other: Items) -> bool:
    """Return whether two items of different runs measure the same thing on the same set."""
    return (one.set, one.metric, one.aggregation, _definition(one)) == (
        other.set,
        other.metric,
        other.aggregation,
        _definition(other),
    )


_OF_THE_BASE = "unrelated:"
"""Begins the part of a signature that says the chance of a score, where that follows from what the base answered."""


def _definition(items: Items) -> Sequence[Any]:
    # How often was resampled, and with which seed, does not change what is measured, nor which end of a suite's metric
    # is called better: earlier versions said "higher" of descriptions, too. What the base answered on another machine
    # differs a little: each run's own chance counts for it.
    said = items.signature.split("|")
    parts = [part for part in said if not part.startswith(("bs:", "seed:", _OF_THE_BASE))]
    chance = None if any(part.startswith(_OF_THE_BASE) for part in said) else items.chance
    return (parts, items.scale, chance, items.better if items.direction else None)
