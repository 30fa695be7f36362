"""Decoders on an open graft: who is asked, what is counted, what a long text costs, what is refused before weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

import lingraft as lg
from commands import graft, model  # noqa: F401  (fixtures)
from lingraft.conversation.decoding import FIRST_WINDOW, LAST_WINDOW, chosen_decoder, windows
from lingraft.conversation.file_translation import FileOptions
from lingraft.conversation.open_graft import OpenGraft
from lingraft.core.errors import TooLongError, UsageError
from lingraft.core.sandbox import refusal
from lingraft.core.tasks import ONLY_TRANSLATION
from lingraft.data.records import Generation, Message, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.decoders.direct import drafts
from lingraft.engines.scripted import ScriptedEngine
from lingraft.models.embedding import TextEmbedder
from lingraft.models.graft import find_graft
from lingraft.translation.direct import Translation
from lingraft.translation.wording import TranslationSystem

RULES = [
    {"pattern": "improve: (.*)", "answer": "better \\1"},
    {"pattern": "(eins|zwei|drei|lang)", "answer": "said \\1"},
]
DIRECTION = {"source": "de", "target": "en"}


class Improved(Decoder):
    """The base improves what the system wrote."""

    name = "improved"
    summary = "translate, improve"

    def expected_steps(self) -> list[ExpectedStep]:
        return [ExpectedStep(name="drafts"), ExpectedStep(name="improved", of="base")]

    def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        found = {one.id: one for one in drafts(sources, system, inputs)}
        asked = [
            Request(key, (Message("user", f"improve: {one.text}"),), inputs.sampling, direct=True)
            for key, one in found.items()
        ]
        answers = inputs.ask("improved", asked, "base")
        for key, one in found.items():
            yield replace(one, text=answers[key].text, calls=2, tokens=one.tokens + len(answers[key].token_ids))


@pytest.mark.parametrize("given", ["graft", "model"])
def test_a_graft_and_its_base_as_one_model_have_no_base_to_ask(
    model: Path, graft: Path, tmp_path: Path, given: str
) -> None:
    whole, memory = tmp_path / "whole", tmp_path / "memory.jsonl"
    shutil.copytree(model, whole)
    shutil.copy(find_graft(graft) / "lingraft.json", whole)
    memory.write_text('{"source": "eins", "target": "one"}\n', "utf-8")
    plain = {"kind": "icl", "memory": str(memory), "languages": ["de", "en"], "k": 1}
    place: dict[str, Any] = {given: whole}
    with lg.open_graft(**place, engine={"kind": "scripted", "rules": RULES}, quiet=True) as one:
        for asking in (Improved(), {**plain, "retriever": "embedding"}):
            with pytest.raises(UsageError, match="whole is a graft and its base as one model; give the graft itself"):
                one.decoder(asking, **DIRECTION)
        assert one.decoder(plain, **DIRECTION).name == "icl"


def opened(model: Path, graft: Path | None = None) -> OpenGraft:
    return lg.open_graft(graft, model=model, engine={"kind": "scripted", "rules": RULES}, quiet=True)


def test_each_text_has_its_translation_and_the_calls_it_took(model: Path) -> None:
    texts = ["eins", "12", "drei", "zwei", "eins", "eins\n\n12\nzwei"]
    with opened(model) as one:
        found = one.translate(texts, **DIRECTION, decoder=Improved())
        (page,) = one.translate(texts[-1:], **DIRECTION, decoder=Improved(), document=True)
        plain = one.translate(texts, **DIRECTION)
    said = [None if word == "12" else f"better said {word}" for word in texts[:5]]
    assert [each.text for each in found[:5]] == [one or "12" for one in said]
    assert [each.id for each in found] == list("012345")
    assert [each.calls for each in found[:5]] == [2, 0, 2, 2, 2]
    assert (page.text, page.calls) == ("better said eins\n\n12\nbetter said zwei", 4)
    assert [each.text for each in plain[:2]] == ["said eins", "12"]


@pytest.mark.parametrize("choice", ["rerank", {"kind": "rerank", "samples": 3}])
def test_a_name_or_a_mapping_chooses_and_a_metric_scores(model: Path, choice: Any) -> None:
    with opened(model) as one:
        (found,) = one.translate(["eins"], **DIRECTION, decoder=choice)
    assert (found.text, found.calls) == ("said eins", 8 if choice == "rerank" else 3)


def test_the_graft_answers_for_the_system_and_not_for_the_base(
    model: Path, graft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path | None, list[str]]] = []
    own = ScriptedEngine.generate

    def generate(self: ScriptedEngine, requests: Any, graft: Path | None = None) -> Iterator[Generation]:
        asked.append((graft, [request.id for request in requests]))
        return own(self, requests, graft)

    monkeypatch.setattr(ScriptedEngine, "generate", generate)
    with opened(model, graft) as one:
        one.translate(["eins", "zwei"], decoder=Improved())
    assert asked == [(one.graft, ["0", "1"]), (None, ["0", "1"])]


def test_a_step_that_is_too_long_costs_its_text_and_nothing_is_asked_twice(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    own = ScriptedEngine.generate

    def generate(self: ScriptedEngine, requests: Any, graft: Path | None = None) -> Iterator[Generation]:
        for request in requests:
            text = request.messages[-1].content
            if "improve" in text and "lang" in text:
                raise TooLongError(request.id, "it is full")
            asked.append(text)
            yield from own(self, [request], graft)

    monkeypatch.setattr(ScriptedEngine, "generate", generate)
    with opened(model) as one:
        found = one.translate(["eins", "lang", "zwei"], **DIRECTION, decoder=Improved())
    assert [(each.text, each.failure) for each in found] == [
        ("better said eins", ""),
        ("", "too_long"),
        ("better said zwei", ""),
    ]
    assert len(asked) == len(set(asked)) == 5


def test_a_text_that_the_model_cannot_hold_is_not_asked_for(model: Path, graft: Path) -> None:
    with lg.open_graft(graft, engine="transformers", quiet=True) as one:
        found = one.translate(
            ["Guten Tag.", "Es regnet. " * 400], max_new_tokens=3, decoder={"kind": "rerank", "samples": 2}
        )
        plain = one.translate(["Guten Tag."], max_new_tokens=3, decoder="direct")
        same = one.translate(["Guten Tag."], max_new_tokens=3)
    assert [each.failure == "too_long" for each in found] == [False, True]
    assert plain == same


@pytest.mark.parametrize(
    ("choice", "what"),
    [
        ("tears", "unknown decoder 'tears'; did you mean 'tear'"),
        ({"samples": 3}, "a decoder has a `kind`"),
        ({"kind": "rerank", "sample": 3}, "unknown key 'decoder rerank.sample'; did you mean 'samples'"),
        ({"kind": "rerank", "metric": "chrff"}, "unknown metric 'chrff'"),
        ({"kind": "rerank", "choose": "estimate"}, "chrf compares with references, of which there are none"),
        ({"kind": "tear", "estimator": {"kind": "opnai"}}, "unknown engine"),
        ("pivot", "decoder 'pivot': there is no language to translate"),
        ({"kind": "sitr", "max_word": 9}, "unknown key 'decoder sitr.max_word'; did you mean 'max_words'"),
    ],
)
def test_what_does_not_work_is_refused_before_weights_are_looked_for(choice: Any, what: str, tmp_path: Path) -> None:
    with lg.open_graft(model=tmp_path / "none", quiet=True) as one, pytest.raises(lg.UsageError, match=what):
        one.translate(["eins"], **DIRECTION, decoder=choice)


SUMMARIES = [
    {"pattern": "^Summarise the following German text in German", "answer": "Kurz\nund gut."},
    {"pattern": "^Here is a German text, and a summary", "answer": "Besser."},
    {"pattern": "^Translate the following text from German into English", "answer": "Better."},
    {"pattern": "^Here is a German text, and its translation", "answer": "Much\n\nbetter."},
]


def test_a_decoder_of_summaries_takes_each_text_as_one_document(model: Path) -> None:
    texts = ["Erster Absatz.\n\n12\n\nZweiter Absatz.", "Ein anderer."]
    with lg.open_graft(model=model, engine={"kind": "scripted", "rules": SUMMARIES}, quiet=True) as one:
        found = one.translate(texts, **DIRECTION, decoder="sitr")
        with pytest.raises(UsageError, match="takes each text as a whole, for summaries in another language"):
            one.translate(texts, **DIRECTION, decoder="sitr", document=True)
    assert [(each.text, each.calls, each.failure) for each in found] == [("Much\n\nbetter.", 4, "")] * 2
    assert found[0].steps["improved"] == "Besser."


@pytest.mark.skipif(bool(refusal()), reason=refusal())
def test_a_decoder_of_programs_takes_programming_languages(model: Path) -> None:
    choice = {"kind": "code", "run_code": True, "inputs": 0, "rounds": 0}
    rules = [{"pattern": "^Translate this Java program into Python", "answer": "def twice(n):\n    return 2 * n"}]
    source = "class Solution {\n  public int twice(int n) { return 2 * n; }\n}"
    with lg.open_graft(model=model, engine={"kind": "scripted", "rules": rules}, quiet=True) as one:
        (found,) = one.translate([source], source="JAVA", target="python", decoder=choice)
        for given, what in (
            ({"source": "java"}, "give `source:` and `target:`: programs are translated between python, java, cpp"),
            ({"source": "jva", "target": "cpp"}, "unknown programming language 'jva'; did you mean 'java'"),
            ({"source": "java", "target": "java"}, "from Java into itself; give two languages"),
        ):
            with pytest.raises(UsageError, match=what):
                one.translate([source], **given, decoder=choice)
    assert (found.text, found.failure, found.outcome) == (
        "def twice(n):\n    return 2 * n",
        "",
        "compiles, no calls to compare",
    )


def test_a_file_with_structure_is_not_summarised(model: Path) -> None:
    with opened(model) as one, pytest.raises(UsageError, match="this decoder makes summaries in another language of"):
        lg.translate_file(one, b"# A\n", options=FileOptions(**DIRECTION, format="markdown", decoder="sitr"))


def test_parts_grow_where_an_engine_answers_in_parts() -> None:
    engine = ScriptedEngine([])
    engine.part_size = 4 * LAST_WINDOW
    assert [len(part) for part in windows(range(200), engine)] == [FIRST_WINDOW, 32, 64, 64, 24]
    assert list(windows([], engine)) == []


@pytest.mark.parametrize("choice", ["code", {"kind": "code", "rounds": 3}, {"kind": "code", "run_code": True}])
def test_a_decoder_of_other_work_is_refused_for_that_and_not_for_a_parameter(choice: Any) -> None:
    with pytest.raises(UsageError, match="decoder 'code'") as caught:
        chosen_decoder(choice, ("de", "en"), ONLY_TRANSLATION)
    assert "translation" in str(caught.value)
    assert "run_code" not in str(caught.value)


def test_pairs_are_chosen_by_the_bases_own_states_with_the_graft_off_and_kept(
    model: Path, graft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    memory = tmp_path / "memory.tsv"
    memory.write_text("de\ten\n" + "".join(f"Satz {n}.\tSentence {n}.\n" for n in range(LAST_WINDOW + 6)), "utf-8")
    choice = {"kind": "icl", "k": 2, "retriever": "embedding", "memory": str(memory), "languages": ["de", "en"]}
    read: list[bool] = []
    held: list[bool] = []
    own = TextEmbedder.vectors

    def vectors(self: TextEmbedder, texts: Any) -> Any:
        for lock in (tmp_path / "cache" / "vectors").glob("*/.lock"):
            try:
                FileLock(lock).acquire(timeout=0).lock.release()
                held.append(False)
            except Timeout:
                held.append(True)
        read.append(any("lora" in name for name, _ in self.model.named_modules()))
        return own(self, texts)

    monkeypatch.setattr(TextEmbedder, "vectors", vectors)
    texts = [f"Satz {n}!" for n in range(FIRST_WINDOW + 2)]
    found = []
    for _ in range(2):  # the second opening finds the memory's vectors in the cache
        with lg.open_graft(graft, engine="transformers", quiet=True) as one:
            found.append(one.translate(texts, max_new_tokens=3, decoder=choice))
    assert found[0] == found[1]
    assert all(each.outcome == "pairs shown: 2" for each in found[0])
    assert read == [False] * 5  # the memory once; both windows of texts, twice
    assert held == [True] + [False] * 4  # no other process embeds the same memory meanwhile
    with opened(model) as other, pytest.raises(UsageError, match="the engine 'scripted' does not give; name an"):
        other.translate(["eins"], **DIRECTION, decoder=choice)
