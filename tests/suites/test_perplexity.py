"""Bits per character against the model's own loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lingraft.core.errors import DataError
from lingraft.data.records import Text
from lingraft.engines.likelihood import log_likelihoods
from lingraft.models.loading import LoadedModel
from lingraft.suites.base import Answers, SuiteInputs
from lingraft.suites.perplexity import PerplexitySuite
from models_support import tiny_loaded

TEXTS = [
    Text("1", "Das Wetter ist heute schön, deshalb gehen wir zum Hafen.", "de"),
    Text("2", "Sie wissen nicht alles.", "de"),
    Text("1", "The weather is nice today.", "en"),
]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded(scale=3.0)


def bits(loaded: LoadedModel, text: str) -> float:
    """Return the bits of a text after the end-of-text token, from the logits of one pass."""
    ids = torch.tensor([[loaded.renderer.end_ids[-1], *loaded.renderer.plain_ids(text)]])
    with torch.inference_mode():
        loss = loaded.model(input_ids=ids, labels=ids).loss.item()
    return loss * (ids.shape[1] - 1) / math.log(2)


def measured(
    loaded: LoadedModel, context_tokens: int = 2048, texts: Sequence[Text] = TEXTS, **params: int
) -> tuple[dict[str, float], dict[str, str]]:
    suite = PerplexitySuite(PerplexitySuite.Params(**params))
    inputs = SuiteInputs([], ["de", "en"], 1, loaded.renderer, context_tokens=context_tokens, texts=texts)
    found = {one.id: one for one in log_likelihoods(loaded, suite.continuations(inputs))}
    answers = Answers({}, likelihoods=found)
    rows = suite.score(inputs, answers, answers)
    scores = {}
    for row in rows:
        assert row.weights
        scores[row.metric] = sum(row.values[i] * row.weights[i] for i in row.values) / sum(row.weights.values())
    return scores, {row.metric: f"{row.better} {row.retains}" for row in rows}


def test_bits_per_character_are_the_losses_of_the_documents(loaded: LoadedModel) -> None:
    scores, kinds = measured(loaded)
    german = [text.text for text in TEXTS if text.lang == "de"]
    expected = sum(bits(loaded, text) for text in german) / sum(map(len, german))
    assert scores["bits_per_character_de"] == pytest.approx(expected, rel=1e-4)
    assert scores["bits_per_character_en"] == pytest.approx(bits(loaded, TEXTS[2].text) / len(TEXTS[2].text), rel=1e-4)
    assert kinds == {"bits_per_character_de": "lower False", "bits_per_character_en": "lower True"}


def test_english_of_any_region_is_what_the_base_has_to_keep(loaded: LoadedModel) -> None:
    _, kinds = measured(loaded, texts=[replace(TEXTS[0], lang="de-AT"), replace(TEXTS[2], lang="en-GB")])
    assert kinds == {"bits_per_character_de-AT": "lower False", "bits_per_character_en-GB": "lower True"}


def test_only_the_beginning_of_a_document_is_measured(loaded: LoadedModel) -> None:
    scores, _ = measured(loaded, max_characters=20)
    shown = [text.text[:20].strip() for text in TEXTS if text.lang == "de"]
    expected = sum(bits(loaded, text) for text in shown) / sum(map(len, shown))
    assert scores["bits_per_character_de"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", ["smollm2", "qwen25", "llama2", "gemma2", "llama3"])
def test_a_document_begins_as_in_training(family: str) -> None:
    renderer = tiny_loaded(family).renderer
    suite = PerplexitySuite(PerplexitySuite.Params())
    (found,) = suite.continuations(SuiteInputs([], [], 1, renderer, texts=TEXTS[:1]))
    trained = tuple(renderer.tokenizer(TEXTS[0].text).input_ids)
    if trained[0] != renderer.tokenizer.bos_token_id:
        trained = (renderer.tokenizer.eos_token_id, *trained)
    assert (*found.context, *found.continuation) == trained


def test_long_documents_are_measured_in_windows_that_predict_each_token_once(loaded: LoadedModel) -> None:
    suite = PerplexitySuite(PerplexitySuite.Params())
    whole = SuiteInputs([], [], 1, loaded.renderer, texts=TEXTS)
    short = SuiteInputs([], [], 1, loaded.renderer, context_tokens=8, texts=TEXTS)
    pieces = suite.continuations(short)
    for one in suite.continuations(whole):
        document = one.id.rpartition("#")[0]
        parts = [part for part in pieces if part.id.rpartition("#")[0] == document]
        assert sum((part.continuation for part in parts), ()) == one.continuation
        assert all(len(part.context) + len(part.continuation) <= 8 for part in parts)
        assert [part.context[0] for part in parts[1:]] == [part.continuation[-1] for part in parts[:-1]]
    assert measured(loaded, context_tokens=8)[0]["bits_per_character_de"] > 0


def test_without_texts_the_suite_says_what_is_missing(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match="set `texts:`"):
        PerplexitySuite(PerplexitySuite.Params()).continuations(SuiteInputs([], [], 1, loaded.renderer))
