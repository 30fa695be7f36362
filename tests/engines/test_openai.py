"""The openai engine: what it sends to each kind of server, and what it makes of the answers."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from builders import FAMILIES
from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Message, Request, Span
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.transformers import TransformersEngine
from models_support import request, tiny_loaded
from openai_model import ModelAnswers
from openai_server import FakeServer, chat, choice
from processes import HANGING

LOADED = tiny_loaded(scale=3.0)
RENDERER = LOADED.renderer
TEXTS = ("Guten Tag!", "x", "今天天气很好", "Sie wissen nicht alles. " * 4, "12")
OWNERS = {"vllm": "vllm", "llama.cpp": "llamacpp", "other": "openai"}


def engine(server: FakeServer, loaded: Any = LOADED, **params: Any) -> OpenAIEngine:
    settings = {"base_url": server.url, "backoff": 0.001, "longest_wait": 0.01, "attempts": 2, **params}
    return OpenAIEngine.create(EngineModel.of(loaded), OpenAIEngine.Params(**settings))


def answers(server: FakeServer, requests: list[Request], **params: Any) -> dict[str, Generation]:
    return {found.id: found for found in engine(server, **params).generate(requests)}


def local(requests: list[Request], loaded: Any = LOADED) -> dict[str, Generation]:
    return {found.id: found for found in TransformersEngine(loaded).generate(requests)}


@pytest.mark.parametrize("family", ["smollm2", "llama2", "qwen25"])
def test_greedy_answers_of_a_server_equal_those_of_the_model_in_process(family: str) -> None:
    loaded = tiny_loaded(family, scale=3.0)
    asked = [
        each
        for i, text in enumerate(TEXTS)
        for each in (
            request(f"p{i}", text, top=3),
            request(f"f{i}", text, prefill="Hello.\n\nNote: "),
            request(f"s{i}", text, stop=("e", "a", "\n"), max_new_tokens=30),
        )
    ]
    with FakeServer(ModelAnswers(loaded)) as server:
        found = {each.id: each for each in engine(server, loaded).generate(asked)}
    expected = local(asked, loaded)
    assert {each.finish_reason for each in expected.values()} == {"length", "stop_string"}
    for id_, each in expected.items():
        assert replace(found[id_], logprobs=None) == replace(each, logprobs=None)
        for one, two in zip(found[id_].logprobs or (), each.logprobs or (), strict=True):
            assert [token for token, _ in one] == [token for token, _ in two]
            assert [value for _, value in one] == pytest.approx([value for _, value in two], abs=2e-3)


def test_sampled_requests_carry_a_seed_of_their_own_and_vllm_adds_nothing_to_the_sampling() -> None:
    asked = [request(f"r{i}", "Hi", temperature=0.7, top_p=0.9, seed=5) for i in range(3)] + [request("g", "Hi")]
    with FakeServer(ModelAnswers(LOADED)) as server:
        answers(server, asked, concurrency=1)
        answers(server, asked, concurrency=1)
    sampled = [body for body in server.bodies if body["temperature"] > 0]
    assert len({body["seed"] for body in sampled}) == 3
    assert server.bodies[:4] == server.bodies[4:]
    for body in sampled:
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 12)
    for body in server.bodies:
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
        assert body["stop_token_ids"] == list(RENDERER.end_ids)
    assert "seed" not in next(body for body in server.bodies if body["temperature"] == 0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_prompt_sent_as_text_is_read_as_the_same_tokens_or_refused(family: str) -> None:
    loaded = tiny_loaded(family)
    asked = [request(f"r{i}", text, prefill=fill) for i, text in enumerate(TEXTS) for fill in ("", "Hello. Note:")]
    sent: list[Request] = []
    refusals: list[str] = []
    with FakeServer(lambda _: choice("ok"), owned_by="openai") as server:
        for one in asked:
            try:
                sent += [one for _ in engine(server, loaded).generate([one])]
            except EngineError as error:
                refusals.append(str(error))
    assert all("cannot be sent as text" in said for said in refusals)
    assert len(sent) == len(server.bodies) == len(asked) - len(refusals)
    for one, body in zip(sent, server.bodies, strict=True):
        ids = loaded.renderer.prompt_ids(one.messages, one.prefill).ids
        assert tuple(loaded.renderer.tokenizer(body["prompt"]).input_ids) == ids
        assert not {"top_k", "min_p", "stop_token_ids", "return_token_ids"} & set(body)
    if family in ("smollm2", "llama3", "qwen25", "gemma2"):
        assert len(sent) == len(asked)


def test_control_tokens_in_a_users_text_are_not_sent_as_text() -> None:
    with (
        FakeServer(lambda _: choice("ok"), owned_by="openai") as server,
        pytest.raises(EngineError, match=r"request 'a': its prompt cannot be sent as text"),
    ):
        answers(server, [request("a", "What is <|im_end|>?")])
    assert server.bodies == []


def test_a_server_without_token_ids_gives_text_that_is_tokenised_here() -> None:
    replies = {"a": choice("Hello, you."), "b": choice(" Hello", reason="length"), "c": choice("One. Two\n\nThree")}
    asked = [request(id_, id_, stop=("\n\n",) if id_ == "c" else ()) for id_ in replies]
    with FakeServer(lambda body: replies[body["prompt"].split("user\n")[-1][0]], owned_by="openai") as server:
        found = answers(server, asked)
    assert [(found[id_].text, found[id_].finish_reason) for id_ in "abc"] == [
        ("Hello, you.", "stop"),
        ("Hello", "length"),
        ("One. Two", "stop_string"),
    ]
    for one in found.values():
        assert RENDERER.decode(one.token_ids) == one.text
    with (
        FakeServer(lambda _: choice("ok"), owned_by="openai") as server,
        pytest.raises(EngineError, match=r"request 'a' asks for log-probabilities by token id, which this server"),
    ):
        answers(server, [request("a", "Hi", top=2)])


def test_markers_and_plain_text_are_for_completions_alone() -> None:
    turn = (Span("<|endoftext|>", "marker"), Span("Hi there", "text"))  # any control token can be a marker
    asked = [replace(request("a", "Hi"), turn=turn), replace(request("b", "Hi"), messages=(), turn=turn)]
    with FakeServer(lambda _: chat("ok"), owned_by="vllm") as server:
        for one in asked:
            with pytest.raises(EngineError, match=r"goes on from markers or from plain text.*engine\.api completions"):
                answers(server, [one], api="chat")
    with FakeServer(ModelAnswers(LOADED)) as server:
        found = answers(server, asked)
        sent = sorted(body["prompt"] for body in server.bodies)
    assert {id_: each.text for id_, each in found.items()} == {each.id: each.text for each in local(asked).values()}
    assert sent == sorted(list(RENDERER.prompt_ids(one.messages, turn=turn).ids) for one in asked)


@pytest.mark.parametrize(
    ("kind", "way", "expected"),
    [
        ("vllm", "auto", {"add_generation_prompt": False, "continue_final_message": True}),
        ("llama.cpp", "auto", {}),
        ("other", "assistant_message", {}),
        ("other", "auto", None),
        ("vllm", "refuse", None),
    ],
)
def test_chat_opens_the_answer_as_the_server_can(kind: str, way: str, expected: dict[str, bool] | None) -> None:
    messages = (Message("system", "Be brief."), Message("user", "Hi"))
    asked = replace(request("a", "", prefill=" Sure.\nNote: ", stop=("END",)), messages=messages)
    written = "Sure.\nNote: the rest" if kind == "other" else " the rest"  # some servers repeat the beginning
    with FakeServer(lambda _: chat(written), owned_by=OWNERS[kind]) as server:
        if expected is None:
            with pytest.raises(EngineError, match="request 'a' continues a given beginning"):
                answers(server, [asked], api="chat", chat_prefill=way)
            return
        found = answers(server, [asked], api="chat", chat_prefill=way)["a"]
    assert (found.text, found.finish_reason) == ("the rest", "stop_string")  # it may have been: the server does not say
    (body,) = server.bodies
    assert body["messages"] == [
        *(each.to_dict() for each in messages),
        {"role": "assistant", "content": "Sure.\nNote:"},
    ]
    assert {key: body[key] for key in body if key.startswith(("add_", "continue_"))} == expected
    assert server.paths == ["/v1/chat/completions"]


def test_log_probabilities_of_chat_are_read_as_vllm_and_llama_cpp_give_them() -> None:
    ids = [*RENDERER.plain_ids("Hello"), RENDERER.end_of_turn_id]

    def best(token: int, rank: int, kind: str) -> dict[str, Any]:
        name = {"id": token, "token": "?"} if kind == "llama.cpp" else {"token": f"token_id:{token}"}
        return {**name, "logprob": -0.5 - rank, "bytes": None}

    for kind in ("vllm", "llama.cpp"):
        rows = [{**best(id_, 0, kind), "top_logprobs": [best(3, 1, kind), best(id_, 0, kind)]} for id_ in ids]
        more = {"token_ids": ids} if kind == "vllm" else {}
        reply = chat("Hello", logprobs={"content": rows}, **more)
        with FakeServer(lambda _, reply=reply: reply, owned_by=OWNERS[kind]) as server:  # type: ignore[misc]
            found = answers(server, [request("a", "Hi", top=2)], api="chat")["a"]
        assert server.bodies[0]["logprobs"] is True
        assert found.token_ids == tuple(ids[:-1])
        assert found.logprobs == tuple(((id_, -0.5), (3, -1.5)) for id_ in ids)  # that of the end token, too
        with (
            FakeServer(lambda _, reply=reply: reply, owned_by=OWNERS[kind]) as server,  # type: ignore[misc]
            pytest.raises(EngineError, match="no log-probabilities for each token"),
        ):
            answers(server, [request("a", "Hi", top=3)], api="chat")


def test_requests_are_drawn_as_needed_and_never_more_at_once_than_allowed() -> None:
    drawn: list[str] = []

    def endless() -> Iterator[Request]:
        number = 0
        while True:
            drawn.append(f"r{number}")
            yield request(drawn[-1], "Hi")
            number += 1

    together = threading.Barrier(4)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        if len(server.bodies) <= 4:
            together.wait(HANGING)  # breaks unless four are there at once
        return choice("ok")

    with FakeServer(answer, owned_by="openai") as server:
        server.delay = 0.01
        stream = engine(server, concurrency=4).generate(endless())
        for done in range(1, 25):
            next(stream)
            assert len(drawn) <= done + 8
        stream.close()  # type: ignore[attr-defined]
        assert server.most == 4


def test_closing_the_generator_breaks_off_what_is_under_way() -> None:
    with FakeServer(lambda _: choice("ok"), lambda number, _: "dribble" if number else "", owned_by="openai") as server:
        stream = engine(server, concurrency=3).generate(request(f"r{i}", "Hi") for i in range(9))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert server.aborted.wait(HANGING)


def test_use_and_cost_are_counted_and_the_budget_is_never_exceeded() -> None:
    prompt = len(RENDERER.prompt_ids((Message("user", "Hi"),)).ids)
    reply = {**choice("ok"), "usage": {"prompt_tokens": prompt, "completion_tokens": 2}}
    each, most = prompt * 3e-6 + 2 * 5e-6, prompt * 3e-6 + 12 * 5e-6
    budget = 20.5 * each + most
    with FakeServer(lambda _: reply, owned_by="openai") as server:
        asking = engine(server, price_prompt=3.0, price_completion=5.0, budget=budget)
        found: list[Generation] = []
        with pytest.raises(EngineError, match=r"request 'r21' may cost .* raise engine.budget, finished parts are"):
            found.extend(asking.generate(request(f"r{i}", "Hi") for i in range(100)))
    done = len(found)
    assert done == 21
    usage = asking.usage()
    assert math.isclose(usage.pop("cost"), done * each, abs_tol=1e-6)
    assert usage == {"requests": done, "prompt_tokens": done * prompt, "completion_tokens": 2 * done}
    assert asking.usage() == {}


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_a_server_with_another_tokenizer_is_refused_before_anything_is_asked(kind: str) -> None:
    def same(text: str) -> list[int]:
        return list(RENDERER.tokenizer.encode(text, add_special_tokens=False))

    other = tiny_loaded("llama3").renderer.tokenizer
    for tokenize in (same, lambda text: list(other.encode(text, add_special_tokens=False))):
        with FakeServer(lambda _: choice("ok"), owned_by=OWNERS[kind], tokenize=tokenize) as server:
            if tokenize is same:
                assert answers(server, [request("a", "Hi")])["a"].text == "ok"
                assert server.bodies[0]["prompt"] == list(RENDERER.prompt_ids((Message("user", "Hi"),)).ids)
                continue
            with pytest.raises(EngineError, match="another tokenizer than the local model"):
                answers(server, [request("a", "Hi")])
            assert server.bodies == []
            assert answers(server, [request("a", "Hi")], prompt="text")["a"].text == "ok"


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (choice("ok", reason="content_filter"), "content filter withheld the answer"),
        ({**choice("ok", reason="length"), "usage": {"completion_tokens": 5}}, "ended the answer after 5 of 12 tokens"),
        ({**choice("ok"), "usage": {"prompt_tokens": 3}}, "read 3 prompt tokens of the"),
    ],
)
def test_answers_that_the_servers_limits_have_spoilt_are_refused(reply: dict[str, Any], complaint: str) -> None:
    with (
        FakeServer(lambda _: reply, owned_by="openai") as server,
        pytest.raises(EngineError, match=f"request 'a': .*{complaint}"),
    ):
        answers(server, [request("a", "Hi")])
    assert len(server.bodies) == 1
