"""Streams against batches: the same tokens, the same text, markers put in the same places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains import MARKERS, loaded, marked_renderer
from lingraft.conversation.chain import Caps
from lingraft.conversation.chain_engine import ChainEngine
from lingraft.conversation.stream import stream_direct, stream_reply
from lingraft.conversation.text_pieces import TextStream
from lingraft.conversation.writing import Done, PartStart, TextDelta, TokenWriter
from lingraft.core.errors import EngineError
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.transformers import TransformersEngine

CAPS = Caps(6, 8, 10)
ASK = (Message("user", "อากาศวันนี้"),)


def texts(events: list) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            found[event.role] = found.get(event.role, "") + event.text
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("family", "gain"), [("smollm2", 0.0), ("smollm2", 3.0), ("llama2", 2.0)])
def test_a_greedy_stream_writes_what_the_batch_writes(seed: int, family: str, gain: float) -> None:
    model = loaded(seed, family, gain)
    events = list(stream_reply(model, ASK, MARKERS, CAPS))
    *_, done = events
    assert isinstance(done, Done)
    engine = ChainEngine(TransformersEngine(model), model.renderer, MARKERS, CAPS)
    (batch,) = engine.generate([Request("a", ASK, Sampling(max_new_tokens=100))])
    assert done.text == batch.text
    assert done.segments == batch.segments
    assert texts(events) == {segment.role: segment.text for segment in done.segments if segment.text}
    started = [(event.role, event.forced) for event in events if isinstance(event, PartStart)]
    assert started == [(segment.role, segment.forced) for segment in done.segments]
    assert [role for role, _ in started] == ["english_query", "english_reply", "native_reply"]


def test_only_the_native_answer_is_visible_and_timed() -> None:
    events = list(stream_reply(loaded(0), ASK, MARKERS, CAPS))
    visible = {event.role for event in events if not isinstance(event, Done) and event.visible}
    assert visible == {"native_reply"}
    done = events[-1]
    assert isinstance(done, Done)
    timing = done.timing
    assert timing.first_visible is not None
    assert 0 < timing.first_token < timing.first_visible <= timing.total
    assert timing.prompt_tokens == len(loaded(0).renderer.prompt_ids(ASK).ids)
    english = list(stream_reply(loaded(0), ASK, MARKERS, CAPS, lang="en"))
    assert {event.role for event in english if isinstance(event, TextDelta)} == {"english_reply"}
    assert all(event.visible for event in english if isinstance(event, TextDelta))


def test_without_repair_the_rest_is_written_outside_of_the_chain() -> None:
    model = loaded(1)
    events = list(stream_reply(model, ASK, MARKERS, CAPS, repair=False))
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.state, done.failure) == ("no_chain", "no_chain")
    assert [segment.role for segment in done.segments] == ["text"]
    assert done.text == texts(events)["text"] != ""
    assert done.timing.first_visible is not None


def test_a_direct_answer_is_that_of_the_engine() -> None:
    model = loaded(2)
    events = list(stream_direct(model, ASK, 12))
    (batch,) = TransformersEngine(model).generate([Request("a", ASK, Sampling(max_new_tokens=12))])
    done = events[-1]
    assert isinstance(done, Done)
    assert done.text == batch.text.strip() == texts(events)["text"]
    assert done.segments[0].tokens == len(batch.token_ids)
    assert done.state == ("complete" if batch.finish_reason == "stop" else "unfinished")


def test_sampling_follows_its_seed() -> None:
    def answer(seed: int) -> str:
        *_, done = stream_direct(loaded(3), ASK, 12, temperature=1.5, seed=seed)
        assert isinstance(done, Done)
        return done.text

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(5)}) > 1


def test_a_conversation_that_fills_the_context_is_refused() -> None:
    model = loaded(0)
    with pytest.raises(EngineError, match="begin a new one"):
        TokenWriter(model, [1] * 2048)
    long = (Message("user", "1" * 1985),)
    room = 2048 - len(model.renderer.prompt_ids(long).ids)
    assert 0 < room < 10
    *_, done = stream_reply(model, long, MARKERS, CAPS, lang="th")
    assert isinstance(done, Done)
    assert sum(segment.tokens for segment in done.segments) == room
    assert done.state == "unfinished"


@pytest.mark.parametrize("family", ["smollm2", "llama2", "gemma2"])
@given(data=st.data())
def test_streamed_text_is_whole_characters(family: str, data: st.DataObject) -> None:
    renderer = marked_renderer(family)
    text = data.draw(st.text(alphabet=" ab\nดีห้ม天🙂é", max_size=20))
    ids = renderer.plain_ids(text)
    stream = TextStream(renderer)
    parts = [stream.step(id_) for id_ in ids]
    assert "\ufffd" not in "".join(parts)
    assert "".join([*parts, stream.rest()]) == renderer.decode(ids).strip()


def test_a_cut_character_comes_at_the_end() -> None:
    renderer = marked_renderer()
    ids = renderer.plain_ids(" ok 🙂")[:-1]
    stream = TextStream(renderer)
    assert "".join(stream.step(id_) for id_ in ids) == "ok"
    assert stream.rest() == " \ufffd"
