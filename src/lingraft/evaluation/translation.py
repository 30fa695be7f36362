"""Translation quality of several systems on one test set: statistics per segment, scores, paired differences.

The metrics themselves are in `lingraft.metrics`. Hypotheses are matched to segments by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.core.errors import DataError
from lingraft.core.hashing import content_hash
from lingraft.core.tasks import Task
from lingraft.data.records import Pair
from lingraft.evaluation.scorecard import TranslationScore
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.statistics.items import Items, usable_clusters

Choice = str | Mapping[str, Any] | OpenMetric
"""A metric by name, with its parameters, or opened before."""


def segment_scores(hypotheses: Mapping[str, str], pairs: Sequence[Pair], metric: str = "chrf") -> dict[str, float]:
    """Return the metric of each segment on its own, by pair id (for showing examples, not for averaging)."""
    if not pairs:
        return {}
    built = open_metric(metric).metric.build(pairs[0].source_lang, pairs[0].target_lang, ())
    _refuse_missing(hypotheses, pairs, "this system", "these pairs")
    kept = built.segments(pairs)
    if not kept:
        return {}
    rows = built.statistics([hypotheses[pair.id] for pair in kept], kept)
    return dict(zip((pair.id for pair in kept), built.aggregate(rows).tolist(), strict=True))


def score_all(
    hypotheses: Mapping[str, Mapping[str, str]],
    pairs: Sequence[Pair],
    test_set: str,
    metrics: Sequence[Choice] = ("bleu", "chrf++", "off_target"),
    *,
    languages: Sequence[str] = (),
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> list[TranslationScore]:
    """Score every system on one test set, each direction in it apart: `translation_rows` of `measure_items`.

    Args:
        hypotheses: system -> pair id -> translation.
        pairs: the test set, in one or several directions.
        test_set: its name.
        metrics: registered names, or choices with parameters.
        languages: of the run, candidates for identification.
        seed: of the resamples.
        n_bootstrap: number of resamples.
    """
    how = Resampling(n_bootstrap, seed)
    return translation_rows(measure_items(hypotheses, pairs, test_set, metrics, how, languages=languages), how)


def measure_items(
    hypotheses: Mapping[str, Mapping[str, str]],
    pairs: Sequence[Pair],
    test_set: str,
    metrics: Sequence[Choice],
    how: Resampling,
    *,
    languages: Sequence[str] = (),
    task: Task = "translation",
) -> list[Items]:
    """Return the statistics of every system's segments on one test set.

    Segments that name a document are clustered by it, if there are enough documents: they are resampled together.

    Args:
        hypotheses: system -> pair id -> translation; an empty translation counts as it is. A line break inside counts
            as a space, but for metrics that keep lines.
        pairs: the test set; ids are unique.
        test_set: its name in the scorecard.
        metrics: names in `METRICS`, with parameters where wanted, or opened before.
        how: named in the signatures.
        languages: languages of the run, candidates for identification besides those of the pair.
        task: of the test set.

    Returns:
        One entry per direction, metric and system, in this order of nesting; none for a metric that has nothing to
        measure in this direction.

    Raises:
        UsageError: unknown metric, or one that cannot be measured here.
        DataError: no pairs, a repeated id, or a segment that a system has not translated.
    """
    if not pairs:
        raise DataError(f"test set {test_set!r} is empty; give at least one pair")
    ids = {pair.id for pair in pairs}
    if len(ids) < len(pairs):
        raise DataError(f"test set {test_set!r} has {len(pairs) - len(ids)} repeated ids; every pair needs its own id")
    opened = [open_metric(choice) for choice in metrics]
    directions: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        directions.setdefault((pair.source_lang, pair.target_lang), []).append(pair)
    items: list[Items] = []
    for (source_lang, target_lang), segments in directions.items():
        for system, translations in hypotheses.items():
            _refuse_missing(translations, segments, f"system {system!r}", f"test set {test_set!r}")
        for metric in opened:
            built = metric.metric.build(source_lang, target_lang, (source_lang, *languages))
            kept = built.segments(segments)
            if not kept:
                continue
            statistics = {}
            for system, translations in hypotheses.items():
                lines = [translations[pair.id] for pair in kept]
                statistics[system] = built.statistics(lines if built.keeps_lines else _flat(lines), kept)
            shared = _segments(kept)
            signature = built.signature(how.n, how.seed) + ("|unit:document" if shared["clusters"] else "")
            for system, rows in statistics.items():
                items.append(
                    Items(
                        system,
                        test_set,
                        f"{source_lang}-{target_lang}",
                        metric.name,
                        statistics=rows,
                        aggregation=built.aggregation,
                        facts=metric.facts,
                        signature=signature,
                        task=task,
                        **shared,
                    )
                )
    return items


def _segments(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return what `Items` says of a set of segments."""
    clusters = None
    if any(pair.document is not None for pair in pairs):
        # Beginning differently, so that an id cannot be taken for the name of a document.
        clusters = usable_clusters([f"s:{p.id}" if p.document is None else f"d:{p.document}" for p in pairs])
    content = content_hash([[pair.source, pair.target, *pair.references] for pair in pairs])
    return {"ids": tuple(pair.id for pair in pairs), "clusters": clusters, "content": content}


def _flat(lines: Sequence[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def _refuse_missing(translations: Mapping[str, str], pairs: Sequence[Pair], who: str, where: str) -> None:
    missing = [pair.id for pair in pairs if pair.id not in translations]
    if missing:
        raise DataError(
            f"{who} has no translation for {len(missing)} of {len(pairs)} segments of {where} "
            f"(first missing id: {missing[0]!r}); translate the whole set"
        )
