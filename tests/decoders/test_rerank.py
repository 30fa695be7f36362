"""`rerank` against a computation of its own with sacreBLEU, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sacrebleu

from decoding import decoder_inputs, made
from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.decoders.base import Of, Surroundings, decoded
from lingraft.metrics.base import open_metric
from lingraft.metrics.segments import segment_scores
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

SOURCES = [Source("t/1", "Das Wetter ist schön.", "de", "en"), Source("t/2", "Wir gehen.", "de", "en")]
DRAWN = {
    "t/1": ["The weather is nice.", "The weather is fine.", "The weather is nice.", "It rains.", ""],
    "t/2": ["We go.", "We go.", "We go.", "We go.", "We go."],
}


class Drawing:
    """An `Ask` that draws what is given for each source, and keeps what was asked."""

    def __init__(self, drawn: Mapping[str, Sequence[str]]) -> None:
        self.drawn, self.asked = drawn, list[Request]()

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        self.asked = list(requests)
        found = {}
        for request in self.asked:
            source, _, number = request.id.rpartition(":")
            text = self.drawn[source][int(number)]
            found[request.id] = Generation(request.id, text, tuple(range(len(text))), "stop")
        return found


def score(metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
    return segment_scores(open_metric(metric), list(zip(pairs, texts, strict=True)), ["de", "en"])


def run(drawn: Mapping[str, Sequence[str]], **params: Any) -> tuple[dict[str, Translation], Drawing]:
    ask = Drawing(drawn)
    inputs = decoder_inputs(ask, sampling=Sampling(30, seed=4), score=score)  # type: ignore[arg-type]
    return decoded(made("rerank", samples=5, **params), SOURCES, TranslationSystem(stop=("\nNote",)), inputs), ask


def risk(texts: Sequence[str], utility: Any) -> int:
    """Return the place of the text with the greatest mean utility against all other draws, the first of equals."""
    kept = [n for n, text in enumerate(texts) if text]
    means = [np.mean([utility(texts[n], texts[m]) for m in kept if m != n]) for n in kept]
    return kept[int(np.argmax(np.round(means, 9)))]


@pytest.mark.parametrize("metric", ["chrf", "chrf++", "ter"])
@pytest.mark.parametrize("seed", range(3))
def test_it_takes_what_an_own_computation_takes(metric: str, seed: int) -> None:
    words = ["the", "a", "weather", "is", "nice", "fine", "today", "it", "rains", "and", "we", "go", "home", "now"]
    rng = np.random.default_rng(seed)
    drawn = {one.id: [" ".join(rng.choice(words, rng.integers(3, 8))) for _ in range(5)] for one in SOURCES}
    found, _ = run(drawn, metric=metric)
    scorer = {"chrf": sacrebleu.CHRF(), "chrf++": sacrebleu.CHRF(word_order=2), "ter": sacrebleu.TER()}[metric]
    sign = -1 if metric == "ter" else 1
    for one in SOURCES:
        texts = drawn[one.id]
        best = risk(texts, lambda text, other: sign * scorer.sentence_score(text, [other]).score)
        assert found[one.id].text == texts[best]


def test_equal_samples_count_as_often_as_they_were_drawn_and_empty_ones_not_at_all() -> None:
    found, ask = run(DRAWN)
    assert found["t/1"].text == "The weather is nice."
    assert found["t/2"].text == "We go."
    assert found["t/1"].candidates == tuple(DRAWN["t/1"])
    assert found["t/1"].calls == 5
    assert found["t/1"].tokens == sum(map(len, DRAWN["t/1"]))
    assert len(ask.asked) == 10
    assert {one.sampling for one in ask.asked} == {Sampling(30, 0.7, 0.95, ("\nNote",), 4)}
    nothing, _ = run(dict.fromkeys(DRAWN, [""] * 5))
    assert [one.failure for one in nothing.values()] == ["empty", "empty"]


def test_an_estimate_chooses_without_references() -> None:
    seen: list[str] = []

    def longest(metric: Any, pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        seen.extend(pair.target for pair in pairs)
        return [float("nan") if text.startswith("It") else float(len(text)) for text in texts]

    params = {"choose": "estimate", "metric": {"kind": "command", "command": "x", "references": False}}
    ask = Drawing({**DRAWN, "t/1": ["A", "AAA", "It is a very long one", "AA", ""]})
    found = decoded(
        made("rerank", samples=5, **params), SOURCES, TranslationSystem(), decoder_inputs(ask, score=longest)
    )  # type: ignore[arg-type]
    assert found["t/1"].text == "AAA"
    assert set(seen) == {""}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"temperature": 0}, "8 samples at temperature 0 are 8 times the same; raise `temperature`"),
        ({"choose": "estimat"}, "choose: Input should be 'mbr' or 'estimate'"),
        ({"samples": 1}, "samples"),
    ],
)
def test_parameters_that_choose_nothing_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        made("rerank", **params)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, ""),
        ({"metric": "length_ratio"}, "neither end is better"),
        ({"choose": "estimate"}, "chrf compares with references, of which there are none"),
        ({"metric": {"kind": "comet", "model": "Unbabel/wmt22-cometkiwi-da"}}, "set `choose: estimate`"),
        ({"choose": "estimate", "metric": {"kind": "comet", "model": "Unbabel/wmt22-cometkiwi-da"}}, ""),
        ({"metric": "comet"}, ""),
    ],
)
def test_a_metric_must_be_able_to_choose_so(params: dict[str, Any], words: str) -> None:
    lacking = made("rerank", **params).lacks(Surroundings())
    assert (words in lacking) if words else lacking == ""
    assert "nothing scores here" in made("rerank").lacks(Surroundings(scores=False))
