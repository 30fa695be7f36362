"""Artefacts `scores-<metric>`: scores of single texts by which a method selects what it trains on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.hashing import list_hash
from lingraft.data.records import Pair
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.pipeline.context import Context
from lingraft.store.artefacts import code_hashes
from lingraft.store.parts import PartStore

PART = 2048
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
            store = PartStore(folder / "parts")
            keys = [list_hash([identity, *([pair.to_dict(), text] for pair, text in part)])[0] for part in parts]
            known = store.known(keys)
            with self.context.reporter.task(f"scores-{opened.name}", len(rows)) as task:
                for index, (key, part) in enumerate(zip(keys, parts, strict=True)):
                    if index not in known:
                        scores = segment_scores(opened, part, self.languages)
                        store.put(index, key, (repr(score) for score in scores))
                    task.update(min(len(rows), (index + 1) * PART))
            return {"texts": len(rows)}

        asked = list_hash([pair.to_dict(), text] for pair, text in rows)[0]
        return self.context.artefact(f"scores-{opened.name}", {"identity": identity, "rows": asked}, build)

    def _read(self, folder: Path) -> list[float]:
        return [float(line) for line in PartStore(folder / "parts").lines()]


def metric_identity(opened: OpenMetric) -> dict[str, Any]:
    """Return all that decides a metric's scores beside the texts."""
    metric = opened.metric
    return {"metric": metric.name, "measures": metric.identity(), "code": code_hashes(type(metric))}


def segment_scores(opened: OpenMetric, rows: Sequence[tuple[Pair, str]], languages: Sequence[str]) -> list[float]:
    """Return the score of each text on its own, in the order of the rows; NaN where there is nothing to measure.

    Args:
        opened: the metric.
        rows: pairs and texts; a pair may occur with several texts.
        languages: candidates for identification besides those of the pair.
    """
    found = [math.nan] * len(rows)
    direction = lambda place: (rows[place][0].source_lang, rows[place][0].target_lang)  # noqa: E731
    for (source, target), places in groupby(sorted(range(len(rows)), key=direction), direction):
        built = opened.metric.build(source, target, (source, *languages))
        kept = [place for place in places if built.segments([rows[place][0]])]
        if not kept:
            continue
        texts = [rows[place][1] if built.keeps_lines else " ".join(rows[place][1].split()) for place in kept]
        scores = built.aggregate(built.statistics(texts, [rows[place][0] for place in kept]))
        found_here = zip(kept, scores.tolist(), strict=True)
        for place, score in found_here:
            found[place] = float(score)
    return found
