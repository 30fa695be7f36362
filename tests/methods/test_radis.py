"""RaDis: what is asked, which rationales are kept, and what is learnt from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Generation, Pair
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.radis import DELIMITERS, FILTERS, RaDis, RaDisParams
from lingraft.methods.vanilla import Vanilla
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.translation.direct import Source, extract

GOOD = ' The word "schön" is an adjective here, and the verb takes the second position in German.'
PAIR = Pair("a", "Das Wetter ist heute schön.", "The weather is nice today.", "de", "en")
PARAGRAPHS = Pair("b", "Eins.\n\nZwei:\n\n- drei", "One.\n\nTwo:\n\n- three\n\n\nFour", "de", "en")
MANY = [
    Pair(f"p{i}", f"Wir gehen um {i} Uhr zum Hafen.", f"We walk to the harbour at {i} o'clock.", "de", "en")
    for i in range(3000)
]


def examples(
    pairs: Sequence[Pair],
    answers: dict[str, Generation] | str | None = None,
    *,
    finish: str = "stop",
    seed: int = 1,
    **params: Any,
) -> tuple[list[Example], Counter[str]]:
    """Return the examples when each request is answered with one text (or as `answers` says), and the tally."""
    method = RaDis(RaDisParams(**params))
    inputs = prepared(method, pairs, seed)
    if not isinstance(answers, dict):
        text = GOOD if answers is None else answers
        answers = {request.id: Generation(request.id, text, (1,), finish) for request in method.requests(inputs)}
    tally = Tally()
    out = list(method.examples(inputs, answers, tally))
    assert sum(tally.filters.values()) == len(list(method.requests(inputs)))
    return out, tally.filters


def prepared(method: RaDis, pairs: Sequence[Pair], seed: int = 1) -> MethodInputs:
    inputs = MethodInputs(pairs, seed=seed)
    return replace(inputs, prepared=method.prepare(inputs))


def vanilla(pairs: Sequence[Pair], seed: int = 1, **params: Any) -> list[Example]:
    method = Vanilla(Vanilla.Params(**params))
    return list(method.examples(MethodInputs(pairs, seed=seed), {}, Tally()))


# What is asked and what is made of it


def test_the_base_continues_its_own_turn_after_reference_and_delimiter() -> None:
    method = RaDis(RaDisParams(max_rationale_tokens=40, temperature=0.7, top_p=0.9))
    (request,) = method.requests(prepared(method, [PAIR], seed=5))
    assert request.prefill == "The weather is nice today.\n\nNote:"
    assert PAIR.source in request.messages[-1].content
    sampling = request.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (40, 0.7, 0.9, 5)
    assert sampling.stop == ()
    ((example,), _) = examples([PAIR])
    assert [(span.text, span.role, span.weight) for span in example.spans] == [
        (PAIR.target, "translation", 1.0),
        ("\n\nNote:", "separator", 1.0),
        (GOOD, "rationale", 1.0),
    ]
    assert "".join(span.text for span in example.spans[:2]) == request.prefill  # learnt as it was asked
    assert example.messages == request.messages
    assert example.end_turn


@pytest.mark.parametrize("family", ["smollm2", "llama2", "llama3", "qwen25", "mistral_v03", "gemma2"])
@pytest.mark.parametrize("pair", [PAIR, PARAGRAPHS], ids=["sentence", "paragraphs"])
def test_the_ids_asked_with_begin_the_ids_learnt(family: str, pair: Pair) -> None:
    renderer = Renderer(tiny_tokenizer(family))
    method = RaDis(RaDisParams())
    (request,) = method.requests(prepared(method, [pair]))
    ((example,), _) = examples([pair])
    asked = renderer.prompt_ids(request.messages, request.prefill).ids
    assert renderer.render(example).input_ids[: len(asked)] == asked


def test_share_zero_is_vanilla() -> None:
    method = RaDis(RaDisParams(rationale_share=0.0))
    assert list(method.requests(prepared(method, MANY))) == []
    assert examples(MANY, rationale_share=0.0) == (vanilla(MANY), Counter())
    varied = examples(MANY, rationale_share=0.0, instructions="varied", seed=7)[0]
    assert varied == vanilla(MANY, instructions="varied", seed=7)
    assert len({example.messages[0].content[:12] for example in varied}) > 3


def test_a_share_of_the_pairs_gets_a_rationale_whatever_the_order_or_company() -> None:
    found, tally = examples(MANY, rationale_share=0.3)
    chosen = {example.id for example in found if len(example.spans) == 3}
    deviation = (3000 * 0.3 * 0.7) ** 0.5
    assert abs(len(chosen) - 900) < 3.3 * deviation  # p = 0.001
    assert tally == {"kept": len(chosen)}
    half = examples(MANY[::-1][:1500], rationale_share=0.3)[0]
    assert {example.id for example in half if len(example.spans) == 3} == chosen & {pair.id for pair in MANY[1500:]}
    # A larger share adds to a smaller one, and another seed draws anew.
    more = {example.id for example in examples(MANY, rationale_share=0.6)[0] if len(example.spans) == 3}
    assert chosen < more
    assert {e.id for e in examples(MANY, rationale_share=0.3, seed=2)[0] if len(e.spans) == 3} != chosen
    plain = {example.id: example for example in vanilla(MANY)}
    assert all(example == plain[example.id] for example in found if example.id not in chosen)


# Weight


def translation_losses(rendered: Rendered) -> tuple[list[int], list[float]]:
    """Return the ids of the translation's tokens and weight x cross-entropy of each on a tiny model, without the
    training code."""
    model = tiny_llama(tiny_tokenizer(), seed=3)
    ids = torch.tensor([rendered.input_ids])
    with torch.inference_mode():
        logits = model(ids).logits[0].double()
    end = rendered.prompt_length + sum(s >= 0 and rendered.roles[s] == "translation" for s in rendered.span_of)
    chosen = [
        i for i in range(rendered.prompt_length, end) if rendered.input_ids[i] not in Renderer(tiny_tokenizer()).end_ids
    ]
    losses = [rendered.weights[i] * float(torch.nn.functional.cross_entropy(logits[i - 1], ids[0, i])) for i in chosen]
    return [rendered.input_ids[i] for i in chosen], losses


@pytest.mark.parametrize("pair", [PAIR, PARAGRAPHS], ids=["sentence", "paragraphs"])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 4.0])
def test_the_loss_on_the_reference_is_that_of_vanilla_whatever_the_rationales_weight(pair: Pair, weight: float) -> None:
    renderer = Renderer(tiny_tokenizer())
    ((example,), _) = examples([pair], rationale_weight=weight)
    tokens, losses = translation_losses(renderer.render(example))
    plain_tokens, plain_losses = translation_losses(renderer.render(vanilla([pair])[0]))
    assert tokens == plain_tokens
    assert renderer.decode(tokens) == pair.target
    assert losses == pytest.approx(plain_losses, abs=1e-6)


def test_weight_zero_is_vanilla() -> None:
    method = RaDis(RaDisParams(rationale_weight=0.0))
    assert list(method.requests(prepared(method, MANY))) == []
    assert examples(MANY, rationale_weight=0.0) == (vanilla(MANY), Counter())


def test_the_weight_is_that_of_the_rationales_tokens_alone() -> None:
    renderer = Renderer(tiny_tokenizer())
    rendered = renderer.render(examples([PAIR], rationale_weight=0.25)[0][0])
    weights = {
        (rendered.roles[span] if span >= 0 else "prompt", weight)
        for span, weight in zip(rendered.span_of, rendered.weights, strict=True)
    }
    end = ("rationale", 1.0)  # the end of the turn is learnt in full, whatever comes before it
    assert weights == {("prompt", 0.0), ("translation", 1.0), ("separator", 1.0), ("rationale", 0.25), end}
    assert [weight for span, weight in zip(rendered.span_of, rendered.weights, strict=True) if span == 2][-2:] == [
        0.25,
        1,
    ]


# Delimiter


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("count", range(len(DELIMITERS)))
def test_auto_takes_the_first_delimiter_that_is_in_no_pair(side: str, count: int) -> None:
    pairs = [PAIR] + [
        replace(PAIR, id=f"x{i}", **{side: f"Hello. {delimiter.strip()} more"})
        for i, delimiter in enumerate(DELIMITERS[:count])
    ]
    assert RaDis(RaDisParams()).prepare(MethodInputs(pairs)) == {"delimiter": DELIMITERS[count]}


def test_a_delimiter_that_occurs_in_the_data_is_refused() -> None:
    pairs = [PAIR, *(replace(PAIR, id=f"x{i}", target=delimiter.strip()) for i, delimiter in enumerate(DELIMITERS))]
    with pytest.raises(UsageError, match="occurs in pair 'x4'; set the parameter `delimiter`"):
        RaDis(RaDisParams()).prepare(MethodInputs(pairs))
    with pytest.raises(UsageError, match="delimiter ' nice ' occurs in pair 'a'"):
        RaDis(RaDisParams(delimiter=" nice ")).prepare(MethodInputs([PAIR]))
    with pytest.raises(ValueError, match="white space alone"):
        RaDisParams(delimiter="\n\n")


@pytest.mark.parametrize("delimiter", ["auto", " || ", "\n### Why\n", "\n\nErklärung:"])
@pytest.mark.parametrize("pair", [PAIR, PARAGRAPHS], ids=["sentence", "paragraphs"])
def test_a_translation_is_read_back_from_what_is_learnt(delimiter: str, pair: Pair) -> None:
    method = RaDis(RaDisParams(delimiter=delimiter))
    inputs = prepared(method, [pair])
    ((example,), _) = examples([pair], delimiter=delimiter)
    assert example.spans[0].text == pair.target
    written = "".join(span.text for span in example.spans)
    (stop,) = method.stop(inputs)
    assert stop not in pair.target
    cut = Generation(pair.id, written[: written.index(stop)], (1, 2, 3), "stop_string")  # as an engine does
    found = extract(Source(pair.id, pair.source, "de", "en"), cut)
    assert (found.text, found.failure) == (pair.target, "")


# Filters

BAD = {
    "empty": "  \n ",
    "too_short": " It is so.",
    "looping": " The word is nice" + " and the word is nice" * 12,
    "wrong_language": " Il tempo è bello oggi, e per questo motivo andiamo al vecchio porto a mangiare il pesce.",
    "echo": " Das Wetter ist heute schön, oder?",
    "second_translation": " Here is a different way to say it in a few more words.\nEnglish: It is a lovely day.",
}


def test_every_filter_is_tried_here() -> None:
    assert set(BAD) == set(FILTERS) == set(RaDisParams().filters)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_drops_what_it_is_for_and_keeps_the_pair(name: str) -> None:
    found, tally = examples([PAIR], BAD[name])
    assert tally == {name: 1}
    assert found == vanilla([PAIR])
    assert examples([PAIR], BAD[name], filters=[name])[1] == {name: 1}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_is_off_drops_nothing(name: str) -> None:
    others = [other for other in FILTERS if other != name]
    text = BAD[name]
    found, tally = examples([PAIR], text, filters=[] if name == "empty" else others)
    assert tally == {"kept": 1}
    assert found[0].spans[2].text == text.rstrip()


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        '\n\n1. "schön" means nice, beautiful or lovely.\n2. The verb comes second: "ist".\n',
        " In English, the adverb goes to the end of the sentence, in German to the middle.",
        " Das Adverb steht im Deutschen vor dem Adjektiv, im Englischen dagegen am Ende des Satzes.",
        " The translation keeps the tense; English readers expect the adverb last.",
    ],
)
def test_a_good_rationale_passes_all_filters(text: str) -> None:
    found, tally = examples([PAIR], text)
    assert tally == {"kept": 1}
    assert found[0].spans[2].text == text.rstrip()


def test_the_line_that_repeats_the_translation_is_found() -> None:
    text = " The sentence speaks about the weather, in simple words.\n\nThe weather is nice today!"
    assert examples([PAIR], text)[1] == {"second_translation": 1}


def test_languages_are_judged_only_where_they_are_known() -> None:
    norwegian = Pair("n", "The weather is nice today.", "Været er fint i dag.", "en", "nb")
    assert examples([norwegian], BAD["wrong_language"])[1] == {"wrong_language": 1}
    own = " Setningen handler om været, og ordet fint betyr at det er hyggelig å være ute i dag."
    assert examples([norwegian], own)[1] == {"kept": 1}
    unknown = Pair("h", "The weather is nice today.", "Nā ʻano maikaʻi i kēia lā.", "en", "haw")
    assert examples([unknown], BAD["wrong_language"])[1] == {"kept": 1}
    assert examples([PAIR], " Oggi è bello.", min_rationale_words=0)[1] == {"kept": 1}  # too short to judge


def test_min_rationale_words_counts_words() -> None:
    assert examples([PAIR], " one two three", min_rationale_words=3)[1] == {"kept": 1}
    assert examples([PAIR], " one two three", min_rationale_words=4)[1] == {"too_short": 1}
    chinese = Pair("c", "The weather is nice.", "天气好。", "en", "zh")
    assert examples([chinese], "这句话说的是天气", min_rationale_words=8)[1] == {"kept": 1}


def test_a_rationale_cut_by_the_limit_does_not_teach_the_end_of_turn() -> None:
    ((example,), tally) = examples([PAIR], GOOD[:-10], finish="length")
    assert tally == {"kept_truncated": 1}
    assert not example.end_turn
    renderer = Renderer(tiny_tokenizer())
    assert not set(renderer.end_ids) & set(renderer.render(example).input_ids[-3:])
    ((whole,), _) = examples([PAIR])
    assert renderer.render(whole).input_ids[-1] in renderer.end_ids
    assert examples([PAIR], GOOD, finish="length", truncated="drop") == (vanilla([PAIR]), {"truncated": 1})
    assert examples([PAIR], GOOD, truncated="drop")[1] == {"kept": 1}
    assert examples([PAIR], BAD["looping"], finish="length")[1] == {"looping": 1}


def test_the_tally_adds_up_to_the_requests() -> None:
    texts = [GOOD, *BAD.values()]
    answers = {
        pair.id: Generation(pair.id, texts[i % 7], (1,), "length" if i % 14 == 0 else "stop")
        for i, pair in enumerate([replace(PAIR, id=f"p{i}") for i in range(70)])
    }
    pairs = [replace(PAIR, id=f"p{i}") for i in range(70)]
    _, tally = examples(pairs, answers)
    assert tally == {"kept": 5, "kept_truncated": 5, **dict.fromkeys(FILTERS, 10)}


@pytest.mark.parametrize(
    "params",
    [
        {"rationale_weight": -1},
        {"rationale_weight": float("inf")},
        {"rationale_weight": float("nan")},
        {"rationale_share": 1.1},
        {"max_rationale_tokens": 0},
        {"filters": ["bad"]},
        {"truncated": "maybe"},
        {"top_p": 0},
    ],
)
def test_parameters_outside_their_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        RaDisParams(**params)


@pytest.mark.parametrize("filters", [[], list(FILTERS)])
@pytest.mark.parametrize("text", [f" <think>Hm.</think>{GOOD}", f"<think>{GOOD}", f"{GOOD}</think>{GOOD}"])
def test_thoughts_are_never_a_rationale(text: str, filters: list[str]) -> None:
    found, tally = examples([PAIR], text, filters=filters)
    assert tally == {"thinking": 1}
    assert found == vanilla([PAIR])


def test_an_empty_block_of_thoughts_is_no_part_of_a_rationale() -> None:
    found, tally = examples([PAIR], f"<think>\n\n</think>\n\n{GOOD.strip()}")
    assert tally == {"kept": 1}
    assert found[0].spans[2].text == GOOD.strip()


def made(**params: Any) -> RaDis:
    return RaDis(RaDisParams(**params))


SERVER = {"kind": "openai", "model": "big"}
IN_WORDS = "{request}\n[{reference}]\nWhy, in braces {{}}?"


@pytest.mark.parametrize("writer", ["base", "before", SERVER])
def test_whoever_writes_the_rationales_goes_on_behind_the_reference(writer: Any) -> None:
    method = made(rationales=writer)
    this = method.round(0, prepared(method, [PAIR]), {})
    assert this is not None
    assert (this.of, method.round(1, prepared(method, [PAIR]), {})) == (writer, None)
    assert list(this.requests()) == list(made().requests(prepared(made(), [PAIR])))  # asked alike, whoever it is
    (told,) = method.expected_rounds()
    assert (told.of, told.key, told.tokens) == (writer, "rationales", 72.0)


def test_an_engine_that_only_answers_questions_is_asked_in_words() -> None:
    method = made(rationales=SERVER, rationale_prompt=IN_WORDS, delimiter="\n\nNote:")
    inputs = prepared(method, [PAIR])
    (request,) = method.requests(inputs)
    (plain,) = made().requests(prepared(made(), [PAIR]))
    question = plain.messages[-1].content
    assert request.messages[-1].content == f"{question}\n[{PAIR.target}]\nWhy, in braces {{}}?"
    assert request.prefill == ""
    answers = {PAIR.id: Generation(PAIR.id, "The verb comes late in the sentence.\n", (1,), "stop")}
    (example,) = method.examples(inputs, answers, Tally())
    assert example.messages == plain.messages  # what is learnt is asked for as ever
    assert "".join(span.text for span in example.spans) == (
        f"{PAIR.target}\n\nNote: The verb comes late in the sentence."
    )


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"rationales": "teacher"}, "rationales"),
        ({"rationales": {"model": "x"}}, "an engine needs a `kind`"),
        ({"rationale_prompt": IN_WORDS}, "rationale_prompt is for an engine as `rationales`"),
        ({"rationales": SERVER, "rationale_prompt": "{request}"}, "it needs .request. and .reference., each once"),
        ({"rationales": SERVER, "rationale_prompt": "{request:>99}{reference}"}, "each once, and no other field"),
        ({"rationales": SERVER, "rationale_prompt": IN_WORDS, "targets": "soft"}, "set `targets: hard`, or drop it"),
    ],
)
def test_a_source_of_rationales_that_cannot_be_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**params)
