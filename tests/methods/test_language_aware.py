"""Language-aware tuning: the conflicting requests, what is unlearnt after them, and the loss that comes of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Pair
from lingraft.methods.base import METHODS, Available, MethodInputs, Tally
from lingraft.methods.language_aware import LanguageAware, LanguageAwareParams, copied_runs
from lingraft.methods.vanilla import Vanilla
from lingraft.models.output_head import find_head
from lingraft.rendering.renderer import Renderer
from lingraft.training.collate import collate
from lingraft.training.losses import span_loss

PAIR = Pair("a", "In Kiel liegen 12 Schiffe.", "12 ships are in Kiel.", "de", "en")
PAIRS = [
    PAIR,
    Pair("b", "Guten Tag.", "Bonjour.", "de", "fr"),
    Pair("c", "Good day.", "Buenos días.", "en", "es"),
    Pair("d", "Lingraft 2.0", "Lingraft 2.0", "de", "en"),
]


def examples(pairs: list[Pair], seed: int = 1, **params: Any) -> tuple[list[Example], Counter[str]]:
    method, tally = LanguageAware(LanguageAwareParams(**params)), Tally()
    inputs = MethodInputs(pairs, seed=seed)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    return list(method.examples(inputs, {}, tally)), tally.filters


def plain(pairs: list[Pair], seed: int = 1) -> list[Example]:
    return list(Vanilla(Vanilla.Params()).examples(MethodInputs(pairs, seed=seed), {}, Tally()))


def test_the_same_translation_is_unlearnt_after_a_request_for_another_language() -> None:
    """Worked out by hand."""
    (own, conflicting), tally = examples([PAIR], languages=["fr"], alpha=0.25)
    assert own == replace(plain([PAIR])[0], group="a")
    assert conflicting.group == "a"  # in steps of conflicting rows alone alpha would cancel out
    assert conflicting.id == "a:unwanted"
    assert [message.content for message in conflicting.messages] == [
        "Translate the following text from German into French.\n\nIn Kiel liegen 12 Schiffe."
    ]
    assert [(span.text, span.loss, span.weight) for span in conflicting.spans] == [
        ("12", "unlikelihood", 0.0),
        (" ships are in", "unlikelihood", 0.25),
        (" Kiel.", "unlikelihood", 0.0),
    ]
    assert not conflicting.end_turn
    assert tally == {"kept": 1}
    whole = examples([PAIR], languages=["fr"], alpha=0.25, mask_copied=False)[0][1].spans
    assert [(span.text, span.weight) for span in whole] == [(PAIR.target, 0.25)]


@pytest.mark.parametrize(
    ("text", "source", "runs"),
    [
        ("A (b) c", "c (x)", [("A", False), (" (", True), ("b", False), (") c", True)]),
        ("  Ja.\n\nNein.\n", "Ja", [("  Ja", True), (".\n\nNein.\n", False)]),
        ("今天我去Kiel", "Kiel 我", [("今天", False), ("我", True), ("去", False), ("Kiel", True)]),
        ("Kiels 1 in 12", "Kiel 1", [("Kiels", False), (" 1", True), (" in 12", False)]),
        ("", "a", []),
        ("a", "", [("a", False)]),
    ],
)
def test_words_of_the_source_are_told_from_others(text: str, source: str, runs: list[tuple[str, bool]]) -> None:
    assert copied_runs(text, source) == runs
    assert "".join(part for part, _ in runs) == text


def test_a_translation_that_is_all_copied_has_no_conflict_and_alpha_0_is_vanilla() -> None:
    found, tally = examples(PAIRS[3:], languages=["fr"])
    assert (found, tally) == (plain(PAIRS[3:]), {"left_out_copied": 1})
    assert examples(PAIRS, alpha=0) == (plain(PAIRS), {})


def test_another_language_is_drawn_by_the_id_and_never_one_of_the_pairs_own() -> None:
    many = [replace(PAIR, id=f"p{i}") for i in range(300)]
    found, _ = examples([*many, *PAIRS[1:3]])
    asked = Counter(example.messages[0].content.split(" into ")[1][:6] for example in found[1:600:2])
    assert set(asked) == {"French", "Spanis"}
    assert min(asked.values()) > 100
    again = {example.id: example for example in examples([*PAIRS[1:3], *many[::-1]])[0]}
    assert all(again[example.id] == example for example in found)
    regions = examples([replace(PAIR, target_lang="en-GB")], languages=["en-US", "fr"])[0][1]
    assert "French" in regions.messages[0].content  # American English would be no other language


def test_the_loss_is_that_of_the_paper_over_the_sum_of_weights() -> None:
    """From the model's own probabilities, row by row, in float64."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer, seed=1).double()
    rows = [Renderer(tokenizer).render(example) for example in examples([PAIR], languages=["fr"], alpha=0.05)[0]]
    terms = [list[float](), list[float]()]
    weights = [list[float](), list[float]()]
    for number, row in enumerate(rows):
        logits = model(torch.tensor([list(row.input_ids)])).logits[0].log_softmax(-1)
        for at, weight in enumerate(row.weights):
            if weight:
                logp = float(logits[at - 1, row.input_ids[at]].detach())
                terms[number].append(-logp if number == 0 else -math.log(1 - math.exp(logp)))
                weights[number].append(weight)
    n, m = map(len, terms)
    assert n > m > 3
    assert set(weights[0]) == {1.0}
    assert weights[1] == pytest.approx([0.05] * m)
    mle, ul = sum(terms[0]) / n, sum(terms[1]) / m
    batch = collate(rows, 0)
    states = model(**batch.model_inputs(), output_hidden_states=True, use_cache=False).hidden_states[-1]
    taken = span_loss(states, batch.targets, find_head(model, rows[0].input_ids)).total
    loss = float(taken.detach()) / float(batch.targets.weights.sum())
    assert loss == pytest.approx((n * mle + 0.05 * m * ul) / (n + 0.05 * m), rel=1e-6)


@pytest.mark.parametrize(
    ("directions", "params", "lacking"),
    [
        ((("de", "en"),), {}, "no language beside those of de-en that a conflicting request could name"),
        ((("de", "en"), ("en", "de")), {"languages": ["de-AT"]}, "give some as the parameter `languages`"),
        ((("de", "en"),), {"languages": ["fr"]}, ""),
        ((("de", "en"), ("en", "fr")), {}, ""),
        ((("de", "en"),), {"alpha": 0}, ""),
    ],
)
def test_without_another_language_it_is_refused(
    directions: tuple[tuple[str, str], ...], params: dict[str, Any], lacking: str
) -> None:
    found = LanguageAware(LanguageAwareParams(**params)).lacks(Available(directions=directions))
    assert lacking in found
    assert bool(lacking) == bool(found)


def test_languages_that_there_are_not_are_refused() -> None:
    with pytest.raises(UsageError, match=r"languages.*xx"):
        METHODS.create({"kind": "language_aware", "languages": ["xx"]})
    method = LanguageAware(LanguageAwareParams())
    with pytest.raises(UsageError, match=r"method language_aware: no language beside those of de-en"):
        method.prepare(MethodInputs([PAIR]))
