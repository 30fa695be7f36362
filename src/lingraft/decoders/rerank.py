"""Decoder `rerank`: several samples, of which a metric chooses one (Fernandes et al. 2022, arXiv 2205.00978)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lingraft.core.validation import HOLDS_METRIC
from lingraft.data.records import Pair
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Surroundings
from lingraft.decoders.choosing import signed, unfit
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

SAMPLES = "samples"


class Rerank(Decoder):
    """n samples, chosen by minimum Bayes risk or by an estimate of quality.

    `mbr` takes the sample h with the greatest mean utility (1 / (n - 1)) sum over all other samples r of u(h, r), the
    utility u being a metric that compares a text with a reference; equal samples count as often as they were drawn
    (Eikema and Aziz 2020). `estimate` takes the sample with the greatest u(source, h). Of equals the first is taken; a
    sample without text is taken only where all are. Departures from the paper: candidates are drawn by nucleus
    sampling, and there is no tuned combination of several metrics.
    """

    name: ClassVar[str] = "rerank"
    summary: ClassVar[str] = "draw several translations; the one most like the others, or estimated best"
    paper: ClassVar[str] = "Fernandes et al. 2022, Quality-Aware Decoding, arXiv 2205.00978"
    cite: ClassVar[tuple[str, ...]] = ("fernandes-2022-quality", "eikema-2020-map")

    class Params(Decoder.Params):
        """Parameters of `rerank`."""

        samples: int = Field(8, ge=2, le=256, description="translations that are drawn for each segment")
        temperature: float = Field(0.7, ge=0, le=2, description="of the draws; above 0, else all are the same")
        top_p: float = Field(0.95, gt=0, le=1, description="share of the probability that is drawn from")
        choose: Literal["mbr", "estimate"] = Field(
            "mbr",
            description="`mbr`: the sample that is most like all others by `metric`; `estimate`: the one of which "
            "`metric` thinks best, which then is one that needs no references (COMET with a CometKiwi model, or a "
            "program)",
        )
        metric: str | dict[str, Any] = Field(
            "chrf",
            description="chooses: a metric of translations, by name or with its parameters; it should not be one "
            "that is reported",
            json_schema_extra=HOLDS_METRIC,
        )

        @model_validator(mode="after")
        def _drawn(self) -> Self:
            if self.temperature == 0:
                raise ValueError(
                    f"{self.samples} samples at temperature 0 are {self.samples} times the same; raise `temperature`, "
                    f"or take the decoder `direct`"
                )
            return self

    def lacks(self, available: Surroundings) -> str:
        """Say where the metric cannot choose so, or nothing scores."""
        if not available.scores:
            return "it chooses by a metric, and nothing scores here; take another decoder"
        return unfit(self.params.metric, references=self.params.choose == "mbr", key="metric")

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metric that chooses."""
        return (self.params.metric,)

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step, of n answers a segment."""
        return (ExpectedStep(name=SAMPLES, answers=self.params.samples),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield the chosen sample of each source, with the others as candidates; see `Decoder.run`."""
        params = self.params
        sampling = replace(inputs.sampling, temperature=params.temperature, top_p=params.top_p)
        drawn = [replace(one, id=f"{one.id}:{n}") for n in range(params.samples) for one in sources]
        answers = inputs.ask(SAMPLES, list(requests(drawn, system, sampling)))
        candidates = {
            source.id: [
                extract(replace(source, id=f"{source.id}:{n}"), answers[f"{source.id}:{n}"], system.stop)
                for n in range(params.samples)
            ]
            for source in sources
        }
        weigh = by_risk if params.choose == "mbr" else by_estimate
        weights = weigh(
            sources, {id_: [one.text for one in found] for id_, found in candidates.items()}, inputs, params.metric
        )
        for source in sources:
            found, own = candidates[source.id], weights[source.id]
            best = max(found, key=lambda one: (bool(one.text), own.get(one.text, 0.0)))
            yield replace(
                best,
                id=source.id,
                tokens=sum(one.tokens for one in found),
                thought=any(one.thought for one in found),
                calls=params.samples,
                candidates=tuple(one.text for one in found),
            )


Weights = dict[str, dict[str, float]]
"""Source id -> text -> how good it is."""


def by_risk(
    sources: Sequence[Source],
    candidates: Mapping[str, Sequence[str]],
    inputs: DecoderInputs,
    metric: str | Mapping[str, Any],
) -> Weights:
    """Return of each text its mean utility against the other candidates of its source, in which it counts as often as
    it occurs beside itself.

    Args:
        sources: of the candidates.
        candidates: of each source, by its id; empty ones are none.
        inputs: who scores.
        metric: the utility.
    """
    pairs: list[Pair] = []
    texts: list[str] = []
    places: list[tuple[str, str, int]] = []
    for source in sources:
        counts = Counter(filter(None, candidates[source.id]))
        if len(counts) < 2:
            continue
        for text in counts:
            for other, count in counts.items():
                if times := count - (text == other):
                    pairs.append(Pair(source.id, source.text, other, source.source_lang, source.target_lang))
                    texts.append(text)
                    places.append((source.id, text, times))
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for (id_, text, times), score in zip(places, signed(inputs, metric, pairs, texts), strict=True):
        if not isnan(score):
            found.setdefault((id_, text), []).append((score, times))
    weights: Weights = {source.id: {} for source in sources}
    for (id_, text), scores in found.items():
        weights[id_][text] = sum(score * times for score, times in scores) / sum(times for _, times in scores)
    return weights


def by_estimate(
    sources: Sequence[Source],
    candidates: Mapping[str, Sequence[str]],
    inputs: DecoderInputs,
    metric: str | Mapping[str, Any],
) -> Weights:
    """Return of each text its estimated quality.

    Args:
        sources: of the candidates.
        candidates: of each source, by its id; empty ones are none.
        inputs: who scores.
        metric: that needs no references.
    """
    rows = [(source, text) for source in sources for text in dict.fromkeys(filter(None, candidates[source.id]))]
    pairs = [Pair(source.id, source.text, "", source.source_lang, source.target_lang) for source, _ in rows]
    scores = signed(inputs, metric, pairs, [text for _, text in rows])
    weights: Weights = {source.id: {} for source in sources}
    for (source, text), score in zip(rows, scores, strict=True):
        weights[source.id][text] = -float("inf") if isnan(score) else score
    return weights
