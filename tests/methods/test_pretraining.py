"""Documents and translations as plain text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Pair, Span, Text
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.pretraining import Pretraining
from lingraft.methods.translation_pretraining import TranslationPretraining
from lingraft.translation.markers import Markers

TEXTS = [
    Text("th1", "ก" * 30, "th"),
    Text("en1", "e" * 30, "en-GB"),
    Text("th2", "ข" * 30, "th-TH"),
    Text("de1", "d" * 10, "de"),
    Text("th3", "ค" * 30, "th"),
    Text("de2", "d" * 15, "de"),
]
MARKERS = Markers.for_languages(["th", "de"])
PAIRS = [Pair("a", "Hello.", "สวัสดี", "en", "th"), Pair("b", "Hallo.", "สวัสดี", "de-AT", "th")]


def pretrained(texts: list[Text] = TEXTS, **params: Any) -> tuple[list[Example], dict[str, int]]:
    method = Pretraining(Pretraining.Params.model_validate(params))
    inputs = MethodInputs((), texts=texts)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    tally = Tally()
    return list(method.examples(inputs, {}, tally)), dict(tally.filters)


def ids(found: tuple[list[Example], dict[str, int]]) -> list[str]:
    return [example.id for example in found[0]]


def test_all_languages_but_english_by_default() -> None:
    examples, tally = pretrained()
    assert [example.id for example in examples] == ["th1", "th2", "de1", "th3", "de2"]
    assert examples[0] == Example("th1", (), (Span("ก" * 30, "text"),), block=512)
    assert tally == {"kept_th": 3, "kept_de": 2}


def test_languages_can_be_named() -> None:
    assert ids(pretrained(languages=["en"])) == ["en1"]
    assert ids(pretrained(languages=["deu", "en-US"], block_tokens=64)) == ["en1", "de1", "de2"]
    with pytest.raises(UsageError, match="no text in fr; add a source to `texts:`"):
        pretrained(languages=["de", "fr"])
    with pytest.raises(UsageError, match="no text in a language other than English"):
        pretrained([TEXTS[1]])
    with pytest.raises(ValueError, match="unknown language code 'xyzzy'"):
        pretrained(languages=["xyzzy"])


def test_languages_can_be_balanced() -> None:
    examples, tally = pretrained(balance="equal")
    assert [example.id for example in examples] == ["th1", "de1", "de2"]  # 25 characters of German
    assert tally == {"kept_th": 1, "left_out_th": 2, "kept_de": 2}


def translated(pairs: list[Pair] = PAIRS, markers: Markers | None = MARKERS, **params: Any) -> list[Example]:
    method = TranslationPretraining(TranslationPretraining.Params.model_validate(params))
    return list(method.examples(MethodInputs(pairs, markers=markers), {}, Tally()))


def test_a_pair_is_two_texts_with_its_languages_markers() -> None:
    examples = translated()
    assert [(example.id, [span.text for span in example.spans]) for example in examples] == [
        ("a:en-th", ["<EN>", "Hello.", "<TH>", "สวัสดี"]),
        ("a:th-en", ["<TH>", "สวัสดี", "<EN>", "Hello."]),
        ("b:de-AT-th", ["<DE>", "Hallo.", "<TH>", "สวัสดี"]),
        ("b:th-de-AT", ["<TH>", "สวัสดี", "<DE>", "Hallo."]),
    ]
    assert {tuple(span.role for span in example.spans) for example in examples} == {
        ("marker", "text", "marker", "translation")
    }
    assert all(not example.messages and example.end_turn for example in examples)
    assert translated(both_orders=False) == examples[::2]


def test_pairs_that_come_in_both_directions_have_ids_of_their_own() -> None:
    examples = translated([PAIRS[0], PAIRS[0].reversed()])
    assert len({example.id for example in examples}) == 4


def test_a_language_without_a_marker_is_told() -> None:
    with pytest.raises(UsageError, match="the language 'th' has no marker; name it under `vocabulary:`"):
        translated(markers=Markers.for_languages(["de"]))
    with pytest.raises(UsageError, match="needs the markers of an extended vocabulary"):
        translated(markers=None)
