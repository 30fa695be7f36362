"""Batches through the chain, with an inner engine that writes what a script says, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from chain_grafts import base, chained  # noqa: F401  (fixtures)
from chains import MARKERS, ids_of, marked_renderer
from lingraft.conversation.chain import Caps, ChainReader
from lingraft.conversation.chain_engine import ChainEngine, is_carried
from lingraft.core.errors import EngineError, UsageError
from lingraft.data.records import Generation, Message, Request, Sampling, Span
from lingraft.engines.base import Engine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models import graft as grafts
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model

RENDERER = marked_renderer()
READER = ChainReader(RENDERER, MARKERS)


class Script(Engine):
    """Goes on with the first entry of a script whose ids end the prompt; "END" ends the turn."""

    name = "script"
    summary = ""
    part_size = 8

    def __init__(self, *rules: tuple[Sequence[str], Sequence[str]]) -> None:
        self.rules = [(ids_of(READER, *after), ids_of(READER, *then)) for after, then in rules]
        self.rounds: list[list[Request]] = []
        self.closed = False

    @classmethod
    def create(cls, model, params):
        raise NotImplementedError

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        asked = list(requests)
        self.rounds.append(asked)
        for request in reversed(asked):
            ids = list(request.prompt_ids)
            then = next((then for after, then in self.rules if ids[len(ids) - len(after) :] == after), [])
            cut = then[: request.sampling.max_new_tokens]
            ended = bool(cut) and cut[-1] in RENDERER.end_ids
            yield Generation(request.id, "raw", tuple(cut[:-1] if ended else cut), "stop" if ended else "length")

    def close(self) -> None:
        self.closed = True


def ask(id_: str, *texts: str, **sampling: object) -> Request:
    roles = ["user", "assistant"] * len(texts)
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    return Request(id_, messages, Sampling(**{"max_new_tokens": 50, **sampling}))  # type: ignore[arg-type]


def engine(inner: Script, **options: object) -> ChainEngine:
    return ChainEngine(inner, RENDERER, MARKERS, **options)  # type: ignore[arg-type]


def one(chain: ChainEngine, request: Request) -> Generation:
    (found,) = chain.generate([request])
    return found


GOOD = (("",), ("<EN>", " A question ", "<RESPONSE>", " An answer ", "<TH>", " ดี", "END"))


def test_a_good_chain_takes_one_round() -> None:
    inner = Script(GOOD)
    found = one(engine(inner), ask("a", "อากาศ", temperature=0.5, seed=3))
    assert (found.id, found.text, found.finish_reason) == ("a", "ดี", "stop")
    assert [(s.role, s.text) for s in found.segments] == [
        ("english_query", "A question"),
        ("english_reply", "An answer"),
        ("native_reply", "ดี"),
    ]
    assert sum(s.tokens for s in found.segments) == len(found.token_ids)
    ((request,),) = inner.rounds
    assert request.prompt_ids == RENDERER.prompt_ids((Message("user", "อากาศ"),)).ids
    assert (request.sampling.temperature, request.sampling.seed) == (0.5, 3)
    assert request.sampling.max_new_tokens == (32 + 2 * RENDERER.count("อากาศ")) + 50 + 50 + 4


def test_a_query_without_end_costs_no_more_than_a_translation_of_the_message_may() -> None:
    """A graft that never ends the English query is not asked for 512 tokens of it; a long message may have them."""
    inner = Script((("",), ("<EN>", *["1"] * 2000)))
    chain = engine(inner)
    for text in ("อากาศ", "อากาศ" * 200):
        found = one(chain, ask("a", text))
        assert found.segments[0].role == "english_query"
        assert found.segments[0].tokens == 1 + min(512, 32 + 2 * RENDERER.count(text))


def test_missing_markers_are_put_together_in_rounds() -> None:
    inner = Script(
        (("<EN>",), (" A question ", "END")),
        (("<RESPONSE>",), (" An answer ", "<DE>", " gut", "END")),
        (("<TH>",), (" ดี", "END")),
        (("",), ("no chain at all", "END")),
    )
    chain = engine(inner)
    found = list(chain.generate([ask(name, "อากาศ") for name in "abc"]))
    assert sorted(generation.id for generation in found) == ["a", "b", "c"]
    assert [len(asked) for asked in inner.rounds] == [3, 3, 3, 3]
    for generation in found:
        assert generation.text == "ดี"
        assert [(s.text, s.forced) for s in generation.segments] == [
            ("A question", True),
            ("An answer", True),
            ("ดี", True),
        ]
        assert list(generation.token_ids) == ids_of(
            READER, "<EN>", " A question ", "<RESPONSE>", " An answer ", "<TH>", " ดี"
        )
    assert chain.failures == {"no_chain": 3}


def test_a_part_that_runs_over_its_cap_is_cut_and_the_next_one_opened() -> None:
    inner = Script((("<TH>",), (" ดี", "END")), (("",), ("<EN>", "1", "<RESPONSE>", "1" * 40, "<TH>", "x", "END")))
    found = one(engine(inner, caps=Caps(5, 7, 9)), ask("a", "อากาศ"))
    assert [(s.text, s.forced) for s in found.segments] == [("1", False), ("1" * 7, False), ("ดี", True)]
    assert inner.rounds[0][0].sampling.max_new_tokens == 5 + 7 + 9 + 4
    assert inner.rounds[1][0].sampling.max_new_tokens == 9 + 1
    assert found.finish_reason == "stop"


def test_answers_are_as_long_as_the_request_allows() -> None:
    inner = Script((("",), ("<EN>", "1", "<RESPONSE>", "1" * 1500, "<TH>", "2" * 1500, "END")))
    found = one(engine(inner), ask("a", "อากาศ", max_new_tokens=2000))
    assert [(len(s.text), s.forced) for s in found.segments] == [(1, False), (1500, False), (1500, False)]
    assert (len(found.text), found.finish_reason) == (1500, "stop")


def test_a_native_answer_over_its_cap_is_shown_and_said_to_be_cut() -> None:
    inner = Script((("",), ("<EN>", "1", "<RESPONSE>", "1", "<TH>", "2" * 90, "END")))
    found = one(engine(inner), ask("a", "อากาศ", max_new_tokens=6))
    assert (found.text, found.finish_reason) == ("2" * 6, "length")


def test_english_requests_take_the_short_path() -> None:
    inner = Script((("",), ("<RESPONSE>", " An answer", "END")))
    found = one(engine(inner), ask("a", "How is the weather today in Bangkok?"))
    assert (found.text, [s.role for s in found.segments]) == ("An answer", ["english_reply"])
    assert one(engine(Script(GOOD), lang="th"), ask("a", "How is the weather today in Bangkok?")).text == "ดี"
    with pytest.raises(UsageError, match="'fr'"):
        engine(inner, lang="fr")


def test_without_repair_the_fallback_is_shown() -> None:
    inner = Script((("",), ("<EN>", "ask", "<RESPONSE>", "answer", "<EN>", "x", "END")))
    assert one(engine(inner, repair=False), ask("a", "อากาศ")).text == "answer"
    assert one(engine(inner, repair=False, fallback="empty"), ask("a", "อากาศ")).text == ""
    found = one(engine(inner, repair=False, fallback="text"), ask("a", "อากาศ"))
    assert (found.text, found.segments[-1].role) == ("x", "text")
    assert sum(s.tokens for s in found.segments) == len(found.token_ids)


def test_stop_strings_cut_what_is_shown_alone() -> None:
    inner = Script((("",), ("<EN>", "ask!", "<RESPONSE>", "answer!", "<TH>", "ดี! ดี", "END")))
    found = one(engine(inner), ask("a", "อากาศ", stop=("!",)))
    assert (found.text, found.finish_reason) == ("ดี", "stop_string")
    assert inner.rounds[0][0].sampling.stop == ()
    assert found.segments[-1].text == "ดี! ดี"


def test_other_requests_pass_untouched() -> None:
    inner = Script(GOOD)
    message = (Message("user", "อากาศ"),)
    plain = [
        Request("ids", message, Sampling(), prompt_ids=(1, 2)),
        Request("prefill", message, Sampling(), prefill="x"),
        Request("translation", message, Sampling(), direct=True),
        Request("turn", message, Sampling(), turn=(Span("x", "text"),)),
        Request("text", (), Sampling(), prefill="x"),
    ]
    found = {generation.id: generation for generation in engine(inner).generate([*plain, ask("chat", "อากาศ")])}
    assert inner.rounds[0] == plain
    assert all(found[request.id].text == "raw" and not found[request.id].segments for request in plain)
    assert found["chat"].text == "ดี"


def test_earlier_turns_are_in_english() -> None:
    inner = Script(GOOD)
    chain = engine(inner)
    first = one(chain, ask("1", "อากาศ"))
    one(chain, ask("2", "อากาศ", first.text, "ต่อไป"))
    english = RENDERER.prompt_ids(
        [Message("user", "A question"), Message("assistant", "An answer"), Message("user", "ต่อไป")]
    )
    assert inner.rounds[1][0].prompt_ids == english.ids
    one(chain, ask("3", "อากาศ", "อื่น", "ต่อไป"))  # an answer that it has not given
    unknown = RENDERER.prompt_ids([Message("user", "อากาศ"), Message("assistant", "อื่น"), Message("user", "ต่อไป")])
    assert inner.rounds[2][0].prompt_ids == unknown.ids
    later = engine(inner)
    later.learn(ask("1", "อากาศ"), first)
    one(later, ask("2", "อากาศ", first.text, "ต่อไป"))
    assert inner.rounds[3][0].prompt_ids == english.ids


def test_the_context_bounds_rounds() -> None:
    prompt = len(RENDERER.prompt_ids((Message("user", "อากาศ"),)).ids)
    inner = Script((("",), ("<EN>", "1" * 90, "END")))
    found = one(engine(inner, context=prompt + 9, fallback="text"), ask("a", "อากาศ"))
    assert inner.rounds[0][0].sampling.max_new_tokens == 9
    assert len(inner.rounds) == 1
    assert (found.finish_reason, found.text, found.segments[0].text) == ("length", "", "1" * 8)
    with pytest.raises(EngineError, match="'a'"):
        one(engine(inner, context=prompt), ask("a", "อากาศ"))


def test_requests_are_drawn_part_by_part() -> None:
    inner = Script(GOOD)
    drawn = []

    def requests() -> Iterator[Request]:
        for number in range(20):
            drawn.append(number)
            yield ask(str(number), "อากาศ")

    answers = engine(inner).generate(requests())
    next(answers)
    assert len(drawn) == 8
    assert sorted(int(a.id) for a in answers) == sorted(set(range(20)) - {0})


def test_an_engine_that_loses_a_request_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Script(GOOD)
    lose: Callable[..., Iterator[Generation]] = lambda requests, graft=None: iter(())  # noqa: E731
    monkeypatch.setattr(inner, "generate", lose)
    with pytest.raises(EngineError, match="'a' was not answered"):
        one(engine(inner), ask("a", "อากาศ"))


def test_it_closes_the_inner_engine_and_is_not_made_by_name() -> None:
    inner = Script(GOOD)
    chain = engine(inner)
    chain.close()
    assert inner.closed
    assert chain.usage() == {}
    with pytest.raises(EngineError, match="wraps"):
        ChainEngine.create(None, None)  # type: ignore[arg-type]


def test_what_is_carried_to_another_language_is_not_answered_as_the_base_does() -> None:
    native, english = ask("a", "อากาศวันนี้เป็นอย่างไร"), ask("b", "How is the weather in Bangkok?")
    assert is_carried(native, MARKERS)
    assert not is_carried(english, MARKERS)  # behind the marker of an English answer alone
    assert not is_carried(replace(native, direct=True), MARKERS)
    assert not is_carried(replace(native, prefill="x"), MARKERS)
    assert is_carried(english, MARKERS, "th")


def test_a_graft_is_put_on_its_base_once_for_all_rounds(
    base: Path, chained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds where it brings a vocabulary, and there are as many rounds as markers that it does not write."""

    class Apart(TransformersEngine):
        keeping = Engine.keeping

    put: list[Path | None] = []
    grafted = grafts.grafted

    def counted(loaded: LoadedModel, folder: Path | None) -> AbstractContextManager[LoadedModel]:
        put.append(folder)
        return grafted(loaded, folder)

    monkeypatch.setattr(grafts, "grafted", counted)
    loaded = load_model(find_model(str(base)), "fp32")
    requests = [ask("a", "สวัสดี", max_new_tokens=4), replace(ask("b", "Hello", max_new_tokens=4), direct=True)]
    found, counts = [], []
    for inner in (TransformersEngine(loaded), Apart(loaded)):
        put.clear()
        found.append(
            {answer.id: answer for answer in ChainEngine(inner, RENDERER, MARKERS).generate(requests, chained)}
        )
        assert set(put) == {chained}
        counts.append(len(put))
    assert counts[0] == 1
    assert counts[1] > 2
    assert found[0] == found[1]
    assert len(found[0]["a"].segments) == 3
