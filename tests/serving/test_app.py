"""The endpoint's answers: streams against whole ones, token counts, conversations that go on in English, the chain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains import MARKERS
from endpoints import CAPS, THAI, answerer, ask, asking, client, content, streamed, tiny
from lingraft.conversation.chain import Caps
from lingraft.conversation.chain_engine import ChainEngine
from lingraft.conversation.history import History
from lingraft.data.records import Message, Request, Sampling, Segment
from lingraft.engines.transformers import TransformersEngine
from lingraft.serving.stops import StopStrings


def without_seconds(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if not name.startswith("seconds")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("text", [THAI, "How is the weather?"])
def test_a_stream_says_what_the_whole_answer_says(seed: int, chain: bool, text: str) -> None:
    with client(answerer(chain=chain, seed=seed)) as http:
        fields = {"lingraft": {"chain": True}, "stream_options": {"include_usage": True}}
        whole = ask(http, text, **fields)
        first, *middle, last, usage = streamed(http, text, **fields)
    choice = whole["choices"][0]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert content(middle) == choice["message"]["content"]
    assert last["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert without_seconds(last["lingraft"]) == without_seconds(whole["lingraft"])
    assert {chunk["id"] for chunk in (first, *middle, last, usage)} == {first["id"]} != {whole["id"]}
    assert {chunk["object"] for chunk in (first, *middle, last, usage)} == {"chat.completion.chunk"}


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_that_of_the_chain_engine(seed: int) -> None:
    model = tiny(seed)
    engine = ChainEngine(TransformersEngine(model), model.renderer, MARKERS, CAPS)
    (expected,) = engine.generate([Request("a", (Message("user", THAI),), Sampling(max_new_tokens=100))])
    with client(answerer(seed=seed)) as http:
        found = ask(http, THAI, lingraft={"chain": True})
    assert found["choices"][0]["message"] == {"role": "assistant", "content": expected.text}
    segments = [Segment.from_dict(segment) for segment in found["lingraft"]["chain"]["segments"]]
    assert tuple(segments) == expected.segments
    assert found["usage"]["completion_tokens"] == len(expected.token_ids)


def test_usage_adds_up() -> None:
    with client() as http:
        found = ask(http, THAI)
    usage, figures = found["usage"], found["lingraft"]
    prompt = tiny().renderer.prompt_ids([Message("user", THAI)]).ids
    assert usage["prompt_tokens"] == len(prompt)
    assert set(figures["tokens"]) == {"english_query", "english_reply", "native_reply"}
    assert usage["completion_tokens"] == sum(figures["tokens"].values())
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    hidden = figures["tokens"]["english_query"] + figures["tokens"]["english_reply"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": hidden}
    assert 0 < figures["seconds_to_first_visible_token"] <= figures["seconds"]
    assert figures["seconds_queued"] >= 0
    assert "chain" not in figures


def test_only_the_native_answer_is_visible_unless_the_chain_is_asked_for() -> None:
    with client() as http:
        hidden = streamed(http, THAI)
        shown = streamed(http, THAI, lingraft={"chain": True})
    assert all("lingraft" not in chunk for chunk in hidden[:-1])
    assert content(hidden) == content(shown)
    chain = shown[-1]["lingraft"]["chain"]
    query, english, native = chain["segments"]
    assert content(shown) == native["text"]
    assert query["forced"] is True
    assert chain["failure"] == "no_chain"
    extra = [chunk["lingraft"] for chunk in shown[1:-1] if "lingraft" in chunk]
    started = [one["started"] for one in extra if "started" in one]
    assert [one["role"] for one in started] == ["english_query", "english_reply", "native_reply"]
    for segment in (query, english):
        deltas = [one["delta"]["text"] for one in extra if one.get("delta", {}).get("role") == segment["role"]]
        assert "".join(deltas) == segment["text"]
        assert next(one["forced"] for one in started if one["role"] == segment["role"]) == segment["forced"]


def test_a_second_turn_is_asked_with_english_history() -> None:
    renderer = tiny().renderer
    with client() as http:
        first = ask(http, THAI, lingraft={"chain": True})
        answer = first["choices"][0]["message"]["content"]
        second = ask(http, THAI, answer, "2 + 2")  # tells no language: that of the turn before
        changed = ask(http, THAI, answer + "!", "2 + 2")
        body = asking(THAI, f"{answer}\n", "2 + 2")
        body["messages"] = [{"role": "system", "content": "It is Monday."}, *body["messages"]]
        dated = http.post("/v1/chat/completions", json=body).json()
    query, english = (segment["text"] for segment in first["lingraft"]["chain"]["segments"][:2])
    assert query
    assert english

    def tokens(*messages: Message) -> int:
        return len(renderer.prompt_ids(messages).ids)

    asked = [Message("user", query), Message("assistant", english), Message("user", "2 + 2")]
    assert second["usage"]["prompt_tokens"] == tokens(*asked)
    assert second["lingraft"]["history"] == {"turns": 1, "known": 1}
    assert second["lingraft"]["language"] == "th"
    native = [Message("user", THAI), Message("assistant", answer + "!"), Message("user", "2 + 2")]
    assert changed["usage"]["prompt_tokens"] == tokens(*native)
    assert changed["lingraft"]["history"] == {"turns": 1, "known": 0}
    assert dated["usage"]["prompt_tokens"] == tokens(Message("system", "It is Monday."), *asked)


def test_what_is_longest_unused_is_forgotten() -> None:
    known, answer = History(2), (Segment("english_reply", "Yes.", 2),)
    talks = [[Message("user", str(number))] for number in range(3)]
    for talk in talks[:2]:
        known.learn(talk, "ja", answer)

    def remembers(number: int) -> bool:
        return known.answers([*talks[number], Message("assistant", "ja")]) == [answer]

    assert remembers(0)
    known.learn(talks[2], "ja", answer)
    assert [remembers(number) for number in range(3)] == [True, False, True]


def test_a_conversation_that_was_shortened_is_known_by_its_turns() -> None:
    answer = (Segment("english_query", "And B?", 3), Segment("english_reply", "Yes.", 2))
    talk = [Message("user", "A?"), Message("assistant", "ja"), Message("user", "B?")]
    end = [Message("user", "B?"), Message("assistant", "ja")]
    for by_turn, found in ((True, answer), (False, ())):
        history = History(by_turn=by_turn)
        history.learn(talk, "ja", answer)
        assert history.answers(end) == [found]
        assert history.answers([*talk, Message("assistant", "ja")]) == [(), answer]


def test_limits_bound_parts_or_all_of_it() -> None:
    with client(answerer(caps=Caps(5, 30, 30))) as http:
        each = ask(http, THAI, max_tokens=4)
        total = ask(http, THAI, max_completion_tokens=9, lingraft={"chain": True})
        direct = ask(http, "Hello", max_tokens=3)
    assert each["lingraft"]["tokens"] == {"english_query": 6, "english_reply": 5, "native_reply": 5}
    assert each["choices"][0]["finish_reason"] == "length"
    assert total["usage"]["completion_tokens"] == 9
    assert total["choices"][0]["finish_reason"] == "length"
    assert total["lingraft"]["chain"]["state"] == "unfinished"
    assert direct["lingraft"]["tokens"] == {"english_reply": 4}
    with client(answerer(chain=False)) as http:
        assert ask(http, THAI, max_tokens=9, max_completion_tokens=4)["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("chain", [True, False])
def test_a_stop_string_ends_the_visible_part_and_the_work(chain: bool) -> None:
    with client(answerer(chain=chain)) as http:
        full = ask(http, THAI, lingraft={"chain": True})
        text = full["choices"][0]["message"]["content"]
        stop = text[len(text) // 3 : len(text) // 3 + 3]
        whole = ask(http, THAI, stop=[stop, "never written"])
        chunks = streamed(http, THAI, stop=stop)
        again = ask(http, THAI, text.split(stop)[0], "2 + 2")
    assert len(text) > 5
    assert whole["choices"][0]["message"]["content"] == text.split(stop)[0] == content(chunks)
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] < full["usage"]["completion_tokens"]
    assert again["lingraft"]["history"] == {"turns": 1, "known": int(chain)}


@given(st.text("ab \n", max_size=30), st.text("ab \n", min_size=1, max_size=4), st.data())
def test_stop_strings_cut_alike_however_the_text_comes(text: str, stop: str, data: st.DataObject) -> None:
    cut, shown, at = StopStrings([stop]), "", 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text) - at))
        shown += cut.take(text[at : at + size])
        at += size
        assert text.split(stop)[0].startswith(shown)
    shown += cut.take("", last=True)
    assert shown == cut.given == text.split(stop)[0]
    assert bool(cut.hit) == (stop in text)


def test_sampling_follows_the_seed_which_is_told_where_none_was_sent() -> None:
    with client() as http:
        first = ask(http, THAI, temperature=1.5)
        again = ask(http, THAI, temperature=1.5, seed=first["lingraft"]["seed"])
        others = {ask(http, THAI, temperature=1.5, seed=seed)["choices"][0]["message"]["content"] for seed in range(4)}
        greedy = ask(http, THAI)
    assert again["choices"] == first["choices"]
    assert len(others) > 1
    assert "seed" not in greedy["lingraft"]


def test_the_language_can_be_chosen() -> None:
    with client() as http:
        assert ask(http, "Hello", lingraft={"language": "de"})["lingraft"]["language"] == "de"
        assert ask(http, THAI, lingraft={"language": "en"})["lingraft"]["tokens"].keys() == {"english_reply"}


def test_a_content_has_a_bounded_number_of_parts() -> None:
    part = {"type": "text", "text": ""}
    with client() as http:
        for count, said in ((256, ""), (257, "a list of at most 256 parts"), (70_000, "more than 16,384 lists")):
            body = {"messages": [{"role": "user", "content": [part] * count}], "max_tokens": 1}
            response = http.post("/v1/chat/completions", json=body)
            assert response.status_code == (400 if said else 200)
            assert not said or said in response.json()["error"]["message"]


def test_contents_in_parts_and_neutral_parameters_are_understood() -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]
    with client() as http:
        plain = ask(http, "Hello\nthere")
        body = {"messages": [{"role": "user", "content": parts, "name": "me"}], "n": 1, "tools": [], "logprobs": False}
        body |= {"user": "me", "metadata": {"a": "b"}, "presence_penalty": 0.0, "response_format": {"type": "text"}}
        found = http.post("/v1/chat/completions", json=body).json()
    assert found["choices"] == plain["choices"]
    assert found["model"] == "tiny"


def test_models_and_health() -> None:
    with client() as http:
        (card,) = http.get("/v1/models").json()["data"]
        assert http.get("/v1/models/tiny").json() == card
        assert http.get("/health").json() == {"status": "ok", "requests": 0, "answered": 0, "failures": {}}
    assert (card["id"], card["object"]) == ("tiny", "model")
    assert card["lingraft"] == {"chat": "tcot", "languages": ["en", "th", "de"]}
    with client(answerer(chain=False)) as http:
        assert http.get("/v1/models/tiny").json()["lingraft"] == {"chat": "direct"}
