"""Suite "perplexity": how well a system predicts running text of each language, in bits per character.

Per character and not per token, because a system with an extended vocabulary has other tokens than its base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Continuation, Request, Text
from lingraft.data.sampling import draw
from lingraft.language.codes import base_language, language_name
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload

TOKENS_PER_CHARACTER = 0.8
"""For estimates; languages that a tokenizer does not know take up to three."""


_METRIC = "bits_per_character_"


class PerplexitySuite(Suite):
    """Bits per character of documents that the run holds out of `texts:`: one row a language, an item a document.

    `bits_per_character_th` and the like; the perplexity per character is 2 to the power of it. English counts for
    retention, since a system carried to another language should still predict it; the other languages are diagnostics.

    The first token of a document is predicted from what stands before texts in training: the tokenizer's BOS token
    where it puts one, else the end-of-text token, as in lm-eval. Documents longer than the model's context are measured
    in disjoint windows, each after the last token of the one before.

    Source: the usual rolling log-likelihood (e.g. lm-eval's `bits_per_byte`, arXiv 2405.14782), by characters.
    """

    name: ClassVar[str] = "perplexity"
    paper: ClassVar[str] = "rolling log-likelihood as in arXiv 2405.14782, per character"

    consumes: ClassVar[frozenset[Literal["prompts", "texts"]]] = frozenset({"texts"})

    class Params(Suite.Params):
        """Parameters of the suite."""

        max_texts: int = Field(default=100, ge=1, description="documents of each language, drawn by seed")
        max_characters: int = Field(default=1000, ge=20, description="of each document, from its beginning")

    params: Params

    @classmethod
    def declared(cls, metric: str, signature: str = "") -> MetricFacts | None:
        """Return what the measure of one language says about itself."""
        lang = metric.removeprefix(_METRIC)
        if lang == metric:
            return None
        label = f"Bits per character, {language_name(lang)}"
        return MetricFacts(label=label, better="lower", decimals=3, retains=base_language(lang) == "en")

    def _texts(self, inputs: SuiteInputs) -> dict[str, Text]:
        """Return the documents measured, by id."""
        if not inputs.texts:
            raise DataError("suite 'perplexity' has no text to measure on; set `texts:` in the recipe")
        by_id = {f"{text.lang}/{text.id}": text for text in inputs.texts}
        chosen: dict[str, Text] = {}
        for lang in sorted({text.lang for text in inputs.texts}):
            ids = [id_ for id_, text in by_id.items() if text.lang == lang]
            chosen |= {id_: by_id[id_] for id_ in draw(ids, self.params.max_texts, inputs.seed)}
        return chosen

    def _shown(self, text: Text) -> str:
        return text.text.strip()[: self.params.max_characters].strip()

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask nothing in writing."""
        return []

    def continuations(self, inputs: SuiteInputs) -> list[Continuation]:
        """Return the documents, in windows.

        Raises:
            DataError: the run has no texts.
            UsageError: there is no tokenizer.
        """
        if inputs.renderer is None:
            raise UsageError("suite 'perplexity' needs the system's tokenizer; give SuiteInputs a renderer")
        start = inputs.renderer.text_start_id
        found = []
        for id_, text in self._texts(inputs).items():
            ids = inputs.renderer.plain_ids(self._shown(text))
            windows = list(_windows([start, *ids], inputs.context_tokens))
            found += [
                Continuation(f"{id_}#{number}", (window[0],), tuple(window[1:]))
                for number, window in enumerate(windows)
            ]
        return found

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Return bits per character; longer documents weigh more, as in one long text.

        Raises:
            DataError: a log-likelihood is missing.
        """
        values: dict[str, dict[str, float]] = {}
        weights: dict[str, dict[str, float]] = {}
        nats: dict[str, float] = {}
        for one in self.continuations(inputs):
            if one.id not in system.likelihoods:
                raise DataError(
                    f"suite 'perplexity' has no log-likelihood of {one.id!r}; measure every system on all continuations"
                )
            document = one.id.rpartition("#")[0]
            nats[document] = nats.get(document, 0.0) + system.likelihoods[one.id].logprob
        for id_, text in self._texts(inputs).items():
            characters = len(self._shown(text))
            values.setdefault(text.lang, {})[id_] = -nats[id_] / math.log(2) / characters
            weights.setdefault(text.lang, {})[id_] = float(characters)
        return [
            self.item_scores(
                f"{_METRIC}{lang}",
                of,
                weights=weights[lang],
                signature=f"first:{self.params.max_characters}-characters",
            )
            for lang, of in values.items()
        ]

    def workload(self, at_hand: AtHand) -> Workload:
        """Count the documents of each language."""
        characters = sum(
            min(self.params.max_texts, count) * min(self.params.max_characters, length)
            for count, length in at_hand.documents
        )
        return Workload(0.0, likelihood_tokens=TOKENS_PER_CHARACTER * characters)


def _windows(ids: list[int], longest: int) -> Iterator[list[int]]:
    """Yield windows that begin with the last token of the one before and predict all others."""
    for begin in range(0, max(1, len(ids) - 1), longest - 1):
        yield ids[begin : begin + longest]
