"""The translation chain of thought, and the baseline without the chain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Example, Generation, Message, Prompt, Request
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.base_native import NativeReplay
from lingraft.methods.native_sft import NativeSFT
from lingraft.methods.recovery import Recovery
from lingraft.methods.tcot import TCoT
from lingraft.translation.markers import Markers
from lingraft.translation.wording import DEFAULT

MARKERS = Markers.for_languages(["th"])
PROMPTS = [
    Prompt("p0", (Message("user", "Who is there? "),), reference="It is the wind."),
    Prompt("p1", (Message("user", "Wer ist da?"),), lang="de"),
    Prompt(
        "p2",
        (
            Message("system", "Be brief."),
            Message("user", "Hi."),
            Message("assistant", "Hello."),
            Message("user", "And now?"),
        ),
    ),
    Prompt("p3", (Message("user", "Say nothing."),)),
]
THAI = {
    "Who is there?": "ใครอยู่ที่นั่น",
    "It is the wind.": "มันคือลมพัด",
    "Nobody is here.": "ไม่มีใครอยู่ที่นี่",
    "Believe me.": "เชื่อฉันเถอะ",
    "And now?": "แล้วตอนนี้ล่ะ",
}
ANSWERS = {"recovery:p0": "Nobody is here. Believe me.\n", "recovery:p2": "Nobody is here.", "recovery:p3": ""}
METHODS = pytest.mark.parametrize("kind", [TCoT, NativeSFT])


def thai(request: Request) -> Generation:
    return Generation(request.id, THAI[request.turn[1].text], (1,), "stop")


def made(kind: type[NativeReplay], **params: Any) -> NativeReplay:
    return kind(kind.Params.model_validate(params))


def run(
    method: NativeReplay,
    answers: dict[str, str] | None = None,
    translate: Callable[[Request], Generation] = thai,
    prompts: list[Prompt] = PROMPTS,
    markers: Markers | None = MARKERS,
    cut: bool = False,
) -> tuple[list[Example], dict[str, int], list[Request]]:
    inputs = MethodInputs((), prompts, seed=1, markers=markers)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    given = ANSWERS if answers is None else answers
    generations = {
        request.id: Generation(request.id, given[request.id], (1,), "length" if cut else "stop")
        for request in method.requests(inputs)
    }
    follow_ups = list(method.follow_ups(inputs, generations))
    assert not {request.id for request in follow_ups} & set(generations)
    generations |= {request.id: translate(request) for request in follow_ups}
    tally = Tally()
    return list(method.examples(inputs, generations, tally)), dict(tally.filters), follow_ups


@METHODS
def test_examples_are_known_but_for_their_translations_once_the_base_has_answered(kind: type[NativeReplay]) -> None:
    method = made(kind)
    whole, _, _ = run(method)
    inputs = MethodInputs((), PROMPTS, seed=1, markers=MARKERS)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    answers = {id_: Generation(id_, text, (1,), "stop") for id_, text in ANSWERS.items()}
    known = list(method.known_examples(inputs, answers))
    assert [example.id for example in known] == [example.id for example in whole]
    kept = {"english_query", "english_reply", "marker"}
    for one, other in zip(known, whole, strict=True):
        assert [span for span in one.spans if span.role in kept] == [span for span in other.spans if span.role in kept]
        assert one.messages[:-1] == other.messages[:-1]
        assert {span.text for span in one.spans if span.role not in kept} == {"a"}


def test_a_chain_begins_with_its_question_and_may_hold_an_answer_that_is_given() -> None:
    assert [made(TCoT).least_tokens(PROMPTS[0], len), made(NativeSFT).least_tokens(PROMPTS[0], len)] == [14, 0]
    assert made(TCoT, answers="reference").least_tokens(PROMPTS[0], len) == 14 + 15


def test_the_chain_holds_question_and_answer_in_english_and_the_answer() -> None:
    examples, tally, follow_ups = run(made(TCoT))
    assert tally == {"kept": 2, "empty": 1}
    assert [example.id for example in examples] == ["tcot:p0", "tcot:p2"]
    first, second = examples
    assert first.messages == (Message("user", "ใครอยู่ที่นั่น"),)
    assert [(span.role, span.text) for span in first.spans] == [
        ("marker", "<EN>"),
        ("english_query", "Who is there?"),
        ("marker", "<RESPONSE>"),
        ("english_reply", "Nobody is here. Believe me."),
        ("marker", "<TH>"),
        ("native_reply", "ไม่มีใครอยู่ที่นี่ เชื่อฉันเถอะ"),
    ]
    assert first.end_turn
    assert second.messages == (*PROMPTS[2].messages[:3], Message("user", "แล้วตอนนี้ล่ะ"))
    assert [request.id for request in follow_ups] == [
        "translation:th:p0:query:0",
        "translation:th:p0:reply:0",
        "translation:th:p0:reply:1",
        "translation:th:p2:query:0",
        "translation:th:p2:reply:0",
    ]


def test_markers_weigh_as_much_as_the_recipe_says() -> None:
    plain, weighted = (run(made(TCoT, marker_weight=weight))[0][0].spans for weight in (1.0, 20.0))
    assert [span.weight for span in weighted] == [20.0, 1.0, 20.0, 1.0, 20.0, 1.0]
    assert tuple(replace(span, weight=1.0) for span in weighted) == plain


def test_the_baseline_has_the_same_texts_without_the_chain() -> None:
    chain, tally, follow_ups = run(made(TCoT))
    direct = run(made(NativeSFT))
    assert direct[1:] == (tally, follow_ups)
    for long, short in zip(chain, direct[0], strict=True):
        assert short.messages == long.messages
        assert short.spans == long.spans[-1:]
        assert short.id == long.id.replace("tcot", "native_sft")


@METHODS
def test_answers_are_asked_for_as_recovery_asks(kind: type[NativeReplay]) -> None:
    params = {"max_answer_tokens": 40, "temperature": 0.5}
    inputs = MethodInputs((), [prompt for prompt in PROMPTS if prompt.lang == "en"], seed=7, markers=MARKERS)
    asked = list(Recovery(Recovery.Params.model_validate(params)).requests(inputs))
    assert list(made(kind, **params).requests(inputs)) == asked
    assert len(list(made(kind, max_prompts=2, **params).requests(inputs))) == 2


@METHODS
def test_what_is_not_good_enough_is_dropped_and_counted(kind: type[NativeReplay]) -> None:
    def other(texts: dict[str, str], reason: str = "stop") -> dict[str, int]:
        changed = THAI | texts
        return run(
            made(kind),
            translate=lambda request: Generation(request.id, changed[request.turn[1].text], (1,), reason),
        )[1]

    assert other({"And now?": "And now?"}) == {"kept": 1, "query_echo": 1, "empty": 1}
    assert other({"Believe me.": ""}) == {"kept": 1, "reply_empty": 1, "empty": 1}
    assert other({"Nobody is here.": "Niemand ist heute hier, und das ist gut."}) == {
        "reply_wrong_language": 2,
        "empty": 1,
    }
    assert other({}, reason="length") == {"query_unfinished": 2, "empty": 1}
    assert run(made(kind), cut=True)[1] == {"truncated": 2, "empty": 1}
    assert run(made(kind), cut=True)[2] == []


@METHODS
def test_given_answers_take_the_place_of_the_base(kind: type[NativeReplay]) -> None:
    examples, tally, follow_ups = run(made(kind, answers="reference"))
    assert tally == {"kept": 1, "no_reference": 2}
    assert examples[0].spans[-1].text == "มันคือลมพัด"
    assert [request.id for request in follow_ups] == ["translation:th:p0:query:0", "translation:th:p0:reply:0"]


@METHODS
def test_each_prompt_is_carried_to_one_language_and_all_get_about_as_many(kind: type[NativeReplay]) -> None:
    prompts = [Prompt(f"p{i}", (Message("user", f"Question {i}?"),), reference="Yes, it is.") for i in range(300)]
    inputs = MethodInputs((), prompts, seed=1, markers=Markers.for_languages(["th", "de", "cs"]))
    method = made(kind, answers="reference")
    inputs = replace(inputs, prepared=method.prepare(inputs))
    follow_ups = list(method.follow_ups(inputs, {}))
    chosen = {request.id.split(":")[2]: request.id.split(":")[1] for request in follow_ups}
    assert len(chosen) == 300
    assert min(Counter(chosen.values()).values()) > 70
    assert {request.turn[2].text for request in follow_ups} == {"<TH>", "<DE>", "<CS>"}
    backwards = replace(inputs, prompts=prompts[::-1])
    assert {r.id for r in method.follow_ups(backwards, {})} == {r.id for r in follow_ups}
    only = made(kind, answers="reference", languages=["de"])
    inputs = replace(inputs, prepared=only.prepare(inputs))
    assert {request.turn[2].text for request in only.follow_ups(inputs, {})} == {"<DE>"}


@METHODS
def test_a_file_of_translations_asks_nothing(kind: type[NativeReplay], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [{"source": source, "target": target} for source, target in THAI.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    method = made(kind, translations=str(path))
    examples, tally, follow_ups = run(method)
    assert follow_ups == []
    assert tally == {"kept": 1, "reply_not_given": 1, "empty": 1}
    assert examples[0].spans[-1].text == "ไม่มีใครอยู่ที่นี่"
    before = method.prepare(MethodInputs((), PROMPTS, markers=MARKERS))
    path.write_text(json.dumps({"source": "a", "target": "ข"}) + "\n", "utf-8")
    assert method.prepare(MethodInputs((), PROMPTS, markers=MARKERS)) != before
    with pytest.raises(DataError, match=r"none\.jsonl"):
        run(made(kind, translations=str(tmp_path / "none.jsonl")))


@METHODS
def test_another_model_is_asked_for_whole_texts(kind: type[NativeReplay]) -> None:
    engine = {"kind": "openai", "model": "m"}
    method = made(kind, translator=engine)
    assert method.translator == engine
    assert made(kind).translator is None

    def whole(request: Request) -> Generation:
        source = request.messages[0].content.partition("\n\n")[2]
        return Generation(
            request.id, " ".join(THAI[part] for part in source.replace(". ", ".|").split("|")), (1,), "stop"
        )

    examples, tally, follow_ups = run(method, translate=whole)
    assert tally == {"kept": 2, "empty": 1}
    assert len(follow_ups) == 4
    assert examples[0].spans[-1].text == "ไม่มีใครอยู่ที่นี่ เชื่อฉันเถอะ"


def test_parameters_that_do_not_go_together_are_told() -> None:
    with pytest.raises(ValueError, match="an engine needs a `kind`"):
        made(TCoT, translator={"model": "m"})
    with pytest.raises(ValueError, match="leave out one of the two"):
        made(TCoT, translator={"kind": "openai"}, translations="a.jsonl")
    with pytest.raises(ValueError, match="English already"):
        made(TCoT, languages=["th", "en-GB"])
    with pytest.raises(UsageError, match="the language 'fr' has no marker"):
        run(made(TCoT, languages=["fr"], translator={"kind": "openai"}))
    with pytest.raises(UsageError, match="the graft translates behind the markers"):
        run(made(NativeSFT, languages=["fr"]), markers=None)
    with pytest.raises(UsageError, match="no language to carry to"):
        run(made(NativeSFT, translator={"kind": "openai"}), markers=None)


def test_the_baseline_needs_no_markers_where_another_model_translates() -> None:
    def whole(request: Request) -> Generation:
        return Generation(request.id, "Das ist ja wirklich eine gute Frage.", (1,), "stop")

    examples, tally, _ = run(
        made(NativeSFT, languages=["de"], translator={"kind": "openai"}), translate=whole, markers=None
    )
    assert tally == {"kept": 2, "empty": 1}
    assert {example.spans[0].text for example in examples} == {"Das ist ja wirklich eine gute Frage."}


@pytest.mark.parametrize(
    ("params", "wording"),
    [
        ({}, DEFAULT),
        ({"translator_instruction": "In {target_name}: {source}"}, "In {target_name}: {source}"),
        ({"instructions": ["Now {target_name}: {source}"]}, "Now {target_name}: {source}"),
        (
            {"instructions": ["Now: {source}"], "translator_instruction": "In {target_name}: {source}"},
            "In {target_name}: {source}",
        ),
    ],
)
def test_an_engine_is_asked_to_translate_in_words_of_its_own(params: dict[str, Any], wording: str) -> None:
    method = made(TCoT, translator={"kind": "openai"}, languages=["th"], **params)
    asked: list[str] = []

    def whole(request: Request) -> Generation:
        asked.append(request.messages[0].content)
        return Generation(request.id, "ไม่มีใครอยู่ที่นี่", (1,), "stop")

    run(method, translate=whole)
    assert asked[0] == wording.format(source="Who is there?", source_name="English", target_name="Thai")
    assert not method.teaches_translation()  # however it is worded, that is not how the graft is asked
    with pytest.raises(ValidationError, match=r"has no \{source\}"):
        made(TCoT, translator_instruction="Translate.")


@METHODS
@pytest.mark.parametrize(
    ("lengths", "said"),
    [  # of 8 answers; 160 is the limit
        ([160] * 5 + [60, 70, 90], "5 of 8 answers exceed 160 tokens (median of the others 70); raise"),
        ([160] * 8, "8 of 8 answers exceed 160 tokens; raise `max_answer_tokens`, or take answers that came with"),
        ([160] * 4 + [60] * 4, ""),
    ],
)
def test_too_many_cut_answers_are_told_before_they_are_translated(
    kind: type[NativeReplay], lengths: list[int], said: str
) -> None:
    prompts = [Prompt(f"p{i}", (Message("user", f"Say {i}."),), reference="Yes.") for i in range(8)]
    method = made(kind, max_answer_tokens=160)
    inputs = MethodInputs((), prompts, seed=1, markers=MARKERS)
    answers = {
        request.id: Generation(request.id, "An answer.", (1,) * n, "length" if n == 160 else "stop")
        for request, n in zip(method.requests(inputs), lengths, strict=True)
    }
    found = method.shortfall(inputs, answers)
    assert found.startswith(said) if said else found == ""
    assert "`answers: reference`" in found or not said
    assert made(kind, answers="reference").shortfall(inputs, {}) == ""
