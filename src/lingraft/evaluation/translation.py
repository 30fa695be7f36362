"""Translation quality of several systems on one test set: corpus metrics, intervals, paired differences.

BLEU, chrF, chrF++ and TER are sacreBLEU's own objects with sacreBLEU's signatures; resampling works on their sufficient
statistics (`_SacreBLEU` is the one place that touches them). Hypotheses are matched to segments by id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from lingraft.data.languages import base_language, bleu_tokenizer, identifier_label
from lingraft.data.records import Pair
from lingraft.errors import DataError, UsageError, suggestion
from lingraft.evaluation.items import Items, sacrebleu_aggregation, sacrebleu_scores, usable_clusters
from lingraft.evaluation.scorecard import TranslationScore
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.evaluation.significance import weighted_mean
from lingraft.store import content_hash
from lingraft.text import words, written_in


class CorpusMetric(ABC):
    """A corpus metric for one translation direction: statistics per segment, and scores from their sums.

    `aggregation`: name of the function from sums to scores, see `lingraft.evaluation.items.aggregation`.
    """

    aggregation: str = "mean"

    @abstractmethod
    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        """Return the sufficient statistics, shape (segments, k)."""

    @abstractmethod
    def aggregate(self, totals: np.ndarray) -> np.ndarray:
        """Return the scores of summed statistics: (m, k) -> (m,)."""

    @abstractmethod
    def signature(self, resamples: int, seed: int) -> str:
        """Return what defines the number; call after `statistics`, which fixes the number of references."""


class _SacreBLEU(CorpusMetric):
    """Adapter to a sacreBLEU metric through the methods that `sacrebleu.significance` itself uses."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self.aggregation = sacrebleu_aggregation(metric)

    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        extracted = self._metric._extract_corpus_statistics(hypotheses, reference_streams(pairs))
        return np.asarray(extracted, dtype=np.float64)

    def aggregate(self, totals: np.ndarray) -> np.ndarray:
        return sacrebleu_scores(self._metric, totals)

    def signature(self, resamples: int, seed: int) -> str:
        signature = self._metric.get_signature()
        signature.update("bs", resamples)
        signature.update("seed", seed)
        return str(signature.format())


class _OffTarget(CorpusMetric):
    """Share of hypotheses, in %, that are not in the target language.

    An empty hypothesis, or one without any letter where the reference has one, is off-target; one with a letter
    is judged by `lingraft.text.written_in`: below 10 letters by its script alone.
    """

    min_letters: ClassVar[int] = 10
    min_probability: ClassVar[float] = 0.5

    def __init__(self, target_lang: str, languages: Sequence[str]) -> None:
        self._target = target_lang
        self._among = tuple(languages)

    def _is_off(self, text: str, reference: str) -> bool:
        if not any(character.isalpha() for character in text):
            return not text.strip() or any(character.isalpha() for character in reference)
        return not written_in(text, self._target, self._among, self.min_letters, self.min_probability)

    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        rows = zip(hypotheses, pairs, strict=True)
        return np.array([(100.0 * self._is_off(text, pair.target), 1.0) for text, pair in rows])

    def aggregate(self, totals: np.ndarray) -> np.ndarray:
        return weighted_mean(totals)

    def signature(self, resamples: int, seed: int) -> str:
        if identifier_label(self._target) is not None:
            rule = (
                f"lid:py3langid-{version('py3langid')}|min_letters:{self.min_letters}"
                f"|min_probability:{self.min_probability}|shorter:script"
            )
        else:
            rule = "lid:none|by:script"
        return f"off_target|bs:{resamples}|seed:{seed}|{rule}|empty:off"


class _LengthRatio(CorpusMetric):
    """Words of all hypotheses over words of all first references (characters in scripts without spaces)."""

    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        rows = zip(hypotheses, pairs, strict=True)
        return np.array([(float(len(words(text))), float(len(words(pair.target)))) for text, pair in rows])

    def aggregate(self, totals: np.ndarray) -> np.ndarray:
        return weighted_mean(totals)

    def signature(self, resamples: int, seed: int) -> str:
        return f"length_ratio|bs:{resamples}|seed:{seed}|unit:words|reference:first"


@dataclass(frozen=True)
class MetricKind:
    """A metric by name. `build(target_lang, languages)` makes it for one direction; `better` None: neither end is."""

    better: Literal["higher", "lower"] | None
    build: Callable[[str, Sequence[str]], CorpusMetric]


def _bleu(target_lang: str, _: Sequence[str]) -> CorpusMetric:
    tokenizer = bleu_tokenizer(target_lang)
    try:
        # force: hypotheses are detokenised here; the warning about " ." would only disturb the output
        return _SacreBLEU(BLEU(tokenize=tokenizer, force=True))
    except RuntimeError as error:
        raise UsageError(
            f"BLEU for {target_lang!r} needs sacreBLEU's tokenizer {tokenizer!r}, which is not installed; "
            f"install 'sacrebleu[{base_language(target_lang)}]' or use chrf++"
        ) from error


def _ter(target_lang: str, _: Sequence[str]) -> CorpusMetric:
    tokenizer = bleu_tokenizer(target_lang)
    if tokenizer == "char" and base_language(target_lang) != "ko":
        raise UsageError(
            f"TER cannot be measured for {target_lang!r}: it counts words, and none of its tokenisers splits a "
            f"language written without spaces other than Chinese and Japanese; use chrf++"
        )
    spaceless = tokenizer in {"zh", "ja-mecab"}
    return _SacreBLEU(TER(normalized=spaceless, asian_support=spaceless))


METRICS: dict[str, MetricKind] = {
    "bleu": MetricKind("higher", _bleu),
    "chrf": MetricKind("higher", lambda _, __: _SacreBLEU(CHRF())),
    "chrf++": MetricKind("higher", lambda _, __: _SacreBLEU(CHRF(word_order=2))),
    "ter": MetricKind("lower", _ter),
    "off_target": MetricKind("lower", _OffTarget),
    "length_ratio": MetricKind(None, lambda _, __: _LengthRatio()),
}
"""Names a recipe may list under `evaluate.translation.metrics`."""


def metric_kind(name: str) -> MetricKind:
    """Return the metric called `name`; raises UsageError with the nearest known name."""
    if name not in METRICS:
        raise UsageError(f"unknown translation metric {name!r}{suggestion(name, METRICS)}")
    return METRICS[name]


def reference_streams(pairs: Sequence[Pair]) -> list[list[str]]:
    """Return references as sacreBLEU wants them: one list of segments per reference.

    Where segments have different numbers of references, as many are used as every segment has: a score whose number
    of references changes from segment to segment is hard to compare with any other.
    """
    count = 1 + min(len(pair.references) for pair in pairs)
    return [[(pair.target, *pair.references)[index] for pair in pairs] for index in range(count)]


def segment_scores(hypotheses: Mapping[str, str], pairs: Sequence[Pair], metric: str = "chrf") -> dict[str, float]:
    """Return the metric of each segment on its own, by pair id (for showing examples, not for averaging)."""
    if not pairs:
        return {}
    built = metric_kind(metric).build(pairs[0].target_lang, ())
    rows = built.statistics(_in_order(hypotheses, pairs, "this system", "these pairs"), pairs)
    return dict(zip((pair.id for pair in pairs), built.aggregate(rows).tolist(), strict=True))


def score_all(
    hypotheses: Mapping[str, Mapping[str, str]],
    pairs: Sequence[Pair],
    test_set: str,
    metrics: Sequence[str] = ("bleu", "chrf++", "off_target"),
    *,
    languages: Sequence[str] = (),
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> list[TranslationScore]:
    """Score every system on one test set, each direction in it apart: `translation_rows` of `measure_items`."""
    how = Resampling(n_bootstrap, seed)
    return translation_rows(measure_items(hypotheses, pairs, test_set, metrics, how, languages=languages), how)


def measure_items(
    hypotheses: Mapping[str, Mapping[str, str]],
    pairs: Sequence[Pair],
    test_set: str,
    metrics: Sequence[str],
    how: Resampling,
    *,
    languages: Sequence[str] = (),
) -> list[Items]:
    """Return the statistics of every system's segments on one test set.

    Segments that name a document are clustered by it, if there are enough documents: they are resampled together.

    Args:
        hypotheses: system -> pair id -> translation; an empty translation counts as it is.
        pairs: the test set; ids are unique.
        test_set: its name in the scorecard.
        metrics: names in `METRICS`.
        how: named in the signatures.
        languages: languages of the run, candidates for identification besides those of the pair.

    Returns:
        One entry per direction, metric and system, in this order of nesting.

    Raises:
        UsageError: unknown metric.
        DataError: no pairs, a repeated id, or a segment that a system has not translated.
    """
    if not pairs:
        raise DataError(f"test set {test_set!r} is empty; give at least one pair")
    ids = {pair.id for pair in pairs}
    if len(ids) < len(pairs):
        raise DataError(f"test set {test_set!r} has {len(pairs) - len(ids)} repeated ids; every pair needs its own id")
    kinds = {name: metric_kind(name) for name in metrics}
    directions: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        directions.setdefault((pair.source_lang, pair.target_lang), []).append(pair)
    items: list[Items] = []
    for (source_lang, target_lang), segments in directions.items():
        texts = {
            system: _in_order(translations, segments, f"system {system!r}", f"test set {test_set!r}")
            for system, translations in hypotheses.items()
        }
        for name, kind in kinds.items():
            built = kind.build(target_lang, (source_lang, *languages))
            statistics = {system: built.statistics(lines, segments) for system, lines in texts.items()}
            shared = _segments(segments)
            signature = built.signature(how.n, how.seed) + ("|unit:document" if shared["clusters"] else "")
            for system, rows in statistics.items():
                items.append(
                    Items(
                        system,
                        test_set,
                        f"{source_lang}-{target_lang}",
                        name,
                        statistics=rows,
                        aggregation=built.aggregation,
                        better=kind.better,
                        signature=signature,
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


def _in_order(translations: Mapping[str, str], pairs: Sequence[Pair], who: str, where: str) -> list[str]:
    missing = [pair.id for pair in pairs if pair.id not in translations]
    if missing:
        raise DataError(
            f"{who} has no translation for {len(missing)} of {len(pairs)} segments of {where} "
            f"(first missing id: {missing[0]!r}); translate the whole set"
        )
    return [translations[pair.id] for pair in pairs]
