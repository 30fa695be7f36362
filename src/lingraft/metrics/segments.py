"""Scores of single texts: of what methods select from, and decoders choose between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from lingraft.data.records import Pair
from lingraft.metrics.base import OpenMetric


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
