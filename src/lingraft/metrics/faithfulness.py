"""Metric `faithfulness`: how far a document entails what its summary says, by a classifier of such pairs (NLI).

The classifier runs in a process of its own, see `workers/entailment_worker.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lingraft.core.hashing import file_hash
from lingraft.core.model_names import is_place
from lingraft.core.tasks import Task
from lingraft.data.records import Pair
from lingraft.language.sentences import split_text
from lingraft.metrics.base import CorpusMetric, MeanMetric
from lingraft.metrics.score_cache import score_key
from lingraft.metrics.worker_model import ModelMetric

MULTILINGUAL = "MoritzLaurer/mDeBERTa-v3-base-xnli-multilingual-nli-2mil7"


class Faithfulness(ModelMetric):
    """Mean over a summary's sentences of the probability that the document entails them.

    The premise is the source document, in its language, the hypothesis each sentence of the summary in its own: the
    classifier has to know both. A document that does not fit beside a sentence is cut into windows of whole sentences,
    of which the greatest probability counts (SummaC, section 3.1). A summary without a sentence has 0. References are
    not looked at.
    """

    name: ClassVar[str] = "faithfulness"
    summary: ClassVar[str] = "how far the document entails each sentence of its summary, by a classifier (NLI)"
    paper: ClassVar[str] = (
        "Laban et al. 2022, SummaC, arXiv 2111.09525; across languages Qiu et al. 2023, arXiv 2305.13632"
    )
    tasks: ClassVar[frozenset[Task]] = frozenset({"summary"})
    label: str = "Faithfulness"
    decimals: int | None = 3
    cite: tuple[str, ...] = ("laban-2022-summac", "qiu-2023-hallucinations")
    references: bool = False
    at_once: ClassVar[int] = 128
    worker: ClassVar[Path] = Path(__file__).parent / "workers" / "entailment_worker.py"
    what: ClassVar[str] = "classifier"

    class Params(ModelMetric.Params):
        """Of the classifier."""

        model: str = Field(
            MULTILINGUAL,
            min_length=1,
            description="classifier of pairs of texts with a label `entailment`, by path or hub id; it has to know the "
            "languages of documents and of summaries",
        )
        batch_size: int = Field(16, ge=1, description="pairs a pass")
        max_tokens: int = Field(512, ge=32, description="longest pair, in tokens, if the model holds as many")

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        if is_place(self.params.model):
            self.folder()
        return _FaithfulMean(self)

    def score(self, texts: Sequence[str], pairs: Sequence[Pair]) -> list[float]:
        """Return the mean probability of each summary's sentences; what is known is taken from the cache.

        Raises:
            ModelError: the classifier is not there.
            EngineError: it failed.
        """
        stated = [_sentences(text, pair.target_lang) for text, pair in zip(texts, pairs, strict=True)]
        documents = [_sentences(pair.source, pair.source_lang) for pair in pairs]
        version = file_hash(self.worker)

        def key(place: int, sentence: str) -> bytes:
            return score_key(self.identity(), version, self.params.device, *documents[place], "", sentence)

        keys = [[key(place, sentence) for sentence in listed] for place, listed in enumerate(stated)]
        rows = {
            one: {"premise": documents[place], "hypothesis": sentence}
            for place, listed in enumerate(stated)
            for one, sentence in zip(keys[place], listed, strict=True)
        }
        known = self.known_or_asked(rows)
        return [sum(known[one] for one in listed) / len(listed) if listed else 0.0 for listed in keys]


class _FaithfulMean(MeanMetric):
    """The mean, with the hash of the classifier in the signature."""

    def __init__(self, metric: Faithfulness) -> None:
        super().__init__(
            lambda texts, pairs: ((score, 1.0) for score in metric.score(texts, pairs)),
            "faithfulness",
            keeps_lines=True,
        )
        self._metric = metric

    def signature(self, resamples: int, seed: int) -> str:
        params = self._metric.params
        return (
            f"faithfulness|model:{Path(params.model).name}|sha256:{self._metric.identity()[:12]}"
            f"|premise:document|hypothesis:sentence|windows:max, {params.max_tokens} tokens|sentences:mean"
            f"|bs:{resamples}|seed:{seed}"
        )


def _sentences(text: str, lang: str) -> list[str]:
    """Return the sentences of a text that say something."""
    found = (piece.text.strip() for piece in split_text(text, lang=lang))
    return [sentence for sentence in found if any(letter.isalnum() for letter in sentence)]
