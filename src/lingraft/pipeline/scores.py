"""Artefacts `scores-<metric>`: scores of single texts by which a method selects what it trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.hashing import list_hash
from lingraft.data.records import Pair
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.segments import segment_scores
from lingraft.pipeline.context import Context
from lingraft.store.artefacts import code_hashes
from lingraft.store.parts import PartStore
from lingraft.store.spent import Spent

PART = 256
"""Texts scored and kept together: what a killed run may have to score again."""


@dataclass(frozen=True)
class Scoring:
    """Scores texts for the methods of a run; see `MethodInputs.score`.

    Attributes:
        context: of the run.
        languages: of the run, candidates for identification.
        used: where the scores are, for the costs; those of each call are added.
    """

    context: Context
    languages: Sequence[str] = ()
    used: list[Path] = field(default_factory=list)

    def __call__(self, metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        """Return the score of each text as a translation of its pair; NaN where the metric has nothing to measure.

        Raises:
            UsageError: an unknown metric, one that cannot be measured here, or not as many texts as pairs.
            LingraftError: the metric fails.
        """
        if len(pairs) != len(texts):
            raise UsageError(f"{len(texts):,} texts are to be scored with {len(pairs):,} pairs; give one of each")
        if not texts:
            return []
        opened = open_metric(metric)
        try:
            folder = self._artefact(opened, pairs, texts)
            self.used.append(folder)
            return self._read(folder)
        finally:
            opened.metric.close()

    def _artefact(self, opened: OpenMetric, pairs: Sequence[Pair], texts: Sequence[str]) -> Path:
        rows = [(pair, text) for pair, text in zip(pairs, texts, strict=True)]
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
        identity = {**metric_identity(opened), "languages": [*self.languages]}

        def build(folder: Path) -> dict[str, Any]:
            store, spent = PartStore(folder / "parts"), Spent(folder)
            keys = [list_hash([identity, *([pair.to_dict(), text] for pair, text in part)])[0] for part in parts]
            known = store.known(keys)
            with self.context.reporter.task(f"scores-{opened.name}", len(rows)) as task:
                for index, (key, part) in enumerate(zip(keys, parts, strict=True)):
                    if index not in known:
                        scores = segment_scores(opened, part, self.languages)
                        store.put(index, key, (repr(score) for score in scores))
                        spent.keep()
                    task.update(min(len(rows), (index + 1) * PART))
            return {"seconds": round(spent.seconds, 2), "texts": len(rows)}

        asked = list_hash([pair.to_dict(), text] for pair, text in rows)[0]
        return self.context.artefact(f"scores-{opened.name}", {"identity": identity, "rows": asked}, build)

    def _read(self, folder: Path) -> list[float]:
        return [float(line) for line in PartStore(folder / "parts").lines()]


def metric_identity(opened: OpenMetric) -> dict[str, Any]:
    """Return all that decides a metric's scores beside the texts."""
    metric = opened.metric
    return {"metric": metric.name, "measures": metric.identity(), "code": code_hashes(type(metric))}
