"""Running text, several answers, log-probabilities, answers that said nothing, and the figures for Prometheus."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import torch
from starlette.testclient import TestClient

from endpoints import CAPS, THAI, answerer, ask, asking, client, content, events, served, streamed, tiny, until
from lingraft.conversation.text_pieces import TextStream
from lingraft.conversation.writing import never
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.serving.answerer import Answerer, Piece
from lingraft.serving.request import ChatRequest
from processes import HANGING

PATH = "/v1/completions"


def complete(http: TestClient, prompt: Any, **fields: Any) -> dict[str, Any]:
    """Return what is written behind prompts."""
    response = http.post(PATH, json={"prompt": prompt, **fields})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def expected(ids: list[int], most: int = 12) -> str:
    """Return what the engine writes behind token ids."""
    request = Request("a", (), Sampling(max_new_tokens=most), prompt_ids=tuple(ids))
    (found,) = TransformersEngine(tiny()).generate([request])
    return found.text


def test_text_goes_on_as_the_engine_goes_on() -> None:
    ids = [tiny().renderer.tokenizer.encode(text) for text in ("The weather is", "Hello", "12 + 4 =")]
    with client(answerer(chain=False)) as http:
        texts = [complete(http, one, max_tokens=12)["choices"][0]["text"] for one in ids]
        together = complete(http, ids, max_tokens=12)
        said = complete(http, "Hello", max_tokens=12)
    assert texts == [expected(one) for one in ids]
    assert [one["text"] for one in together["choices"]] == texts
    assert [one["index"] for one in together["choices"]] == [0, 1, 2]
    assert together["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert said["choices"][0]["text"] == texts[1]
    assert (said["object"], said["choices"][0]["finish_reason"]) == ("text_completion", "length")
    assert said["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize("chain", [True, False])
def test_streamed_text_is_the_whole_text(chain: bool) -> None:
    fields = {"max_tokens": 12, "temperature": 1.2, "seed": 3, "n": 2, "logprobs": 2}
    with client(answerer(chain=chain)) as http:
        whole = complete(http, ["Hello", "A b"], **fields)
        body = {"prompt": ["Hello", "A b"], "stream": True, "stream_options": {"include_usage": True}, **fields}
        *chunks, last = events(http.post(PATH, json=body).text)
    assert last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [one["choices"][0] for one in chunks if one["choices"][0]["index"] == choice["index"]]
        assert "".join(one["text"] for one in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            assert [value for one in mine if one["logprobs"] for value in one["logprobs"][name]] == values
        assert len(choice["logprobs"]["tokens"]) <= 12
    texts = [choice["text"] for choice in whole["choices"]]
    assert len(set(texts)) > 2


def test_choices_are_those_of_the_seeds_that_follow() -> None:
    with client(answerer(chain=False)) as http:
        several = ask(http, THAI, temperature=1.5, seed=7, n=3)
        alone = [ask(http, THAI, temperature=1.5, seed=seed) for seed in (7, 8, 9)]
        chunks = streamed(http, THAI, temperature=1.5, seed=7, n=3)
    texts = [choice["message"]["content"] for choice in several["choices"]]
    assert texts == [one["choices"][0]["message"]["content"] for one in alone]
    assert len(set(texts)) == 3
    assert several["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    assert several["usage"]["completion_tokens"] == sum(one["usage"]["completion_tokens"] for one in alone)
    assert [choice["lingraft"]["seed"] for choice in several["choices"]] == [7, 8, 9]
    for index, text in enumerate(texts):
        assert content([one for one in chunks if one["choices"][0]["index"] == index]) == text


@pytest.mark.parametrize("chain", [True, False])
def test_log_probabilities_are_the_models_own(chain: bool) -> None:
    model = tiny()
    with client(answerer(chain=chain)) as http:
        found = ask(http, "Hello", logprobs=True, top_logprobs=3)
        plain = ask(http, "Hello")
        chunks = streamed(http, "Hello", logprobs=True, top_logprobs=3)
    (choice,) = found["choices"]
    assert choice["message"] == plain["choices"][0]["message"]
    assert plain["choices"][0]["logprobs"] is None
    rows = choice["logprobs"]["content"]
    together = [
        row for one in chunks if one["choices"][0]["logprobs"] for row in one["choices"][0]["logprobs"]["content"]
    ]
    assert together == rows
    assert all(row["token"].strip() in choice["message"]["content"] for row in rows if row["bytes"] is not None)
    for row in rows:
        best = row["top_logprobs"]
        assert len(best) == 3
        assert best[0]["logprob"] == row["logprob"] == max(one["logprob"] for one in best)  # greedy
        assert row["bytes"] is None or bytes(row["bytes"]).decode() == row["token"]
    if not chain:
        ids = torch.tensor([model.renderer.prompt_ids([Message("user", "Hello")]).ids])
        with torch.inference_mode():
            first = torch.log_softmax(model.model(input_ids=ids).logits[0, -1], dim=-1)
        assert math.isclose(rows[0]["logprob"], float(first.max()), abs_tol=1e-3)


def test_log_probabilities_end_where_the_text_does() -> None:
    with client(answerer(chain=False)) as http:
        full = ask(http, THAI, logprobs=True)["choices"][0]
        text = full["message"]["content"]
        stop = text[len(text) // 2 : len(text) // 2 + 2]
        cut = ask(http, THAI, logprobs=True, stop=stop)["choices"][0]
    assert cut["message"]["content"] == text.split(stop)[0]
    rows = cut["logprobs"]["content"]
    assert rows == full["logprobs"]["content"][: len(rows)]
    assert 0 < len(rows) < len(full["logprobs"]["content"])


def test_an_assistant_may_have_said_nothing() -> None:
    body = asking("Hello", "", "And now?")
    with client(answerer(chain=False)) as http:
        empty = http.post("/v1/chat/completions", json=body).json()
        body["messages"][1] = {"role": "assistant", "content": None, "refusal": None, "tool_calls": None}
        nothing = http.post("/v1/chat/completions", json=body).json()
    assert nothing["choices"] == empty["choices"]
    assert nothing["usage"] == empty["usage"]


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({}, "prompt", "required"),
        ({"prompt": []}, "prompt", "token ids"),
        ({"prompt": [1, "a"]}, "prompt", "token ids"),
        ({"prompt": [-1]}, "prompt", "token ids"),
        ({"prompt": [10**6]}, "prompt", "tokens, from 0 on"),
        ({"prompt": ""}, "prompt", "no token"),
        ({"prompt": "1" * 5000}, "prompt", "no room"),
        ({"prompt": [5] * 5000}, "prompt", "no room"),
        ({"prompt": ["a"] * 17, "n": 2}, "prompt", "more than 32"),
        ({"prompt": "a", "echo": True}, "echo", "leave it out"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "leave it out"),
        ({"prompt": "a", "logprobs": True}, "logprobs", "integer"),
        ({"prompt": "a", "lingraft": {"chain": True}}, "lingraft", "conversations"),
        ({"prompt": "a", "lingraft": {"route": "base"}}, "lingraft.route", "leave it out"),
    ],
)
def test_bad_prompts_are_named(fields: dict[str, Any], param: str, word: str) -> None:
    with client(answerer(chain=False)) as http:
        response = http.post(PATH, json=fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert word in error["message"]


def test_white_space_is_part_of_running_text() -> None:
    renderer = tiny().renderer
    before, after = renderer.tokenizer.encode("one"), renderer.tokenizer.encode(" two  \n")
    raw, bare = TextStream(renderer, behind=before), TextStream(renderer)
    assert "".join(map(raw.step, after)) + raw.rest() == " two  \n"
    assert "".join(map(bare.step, after)) + bare.rest() == "two"


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_openai_engine_has_the_texts_of_the_model_itself(api: str) -> None:
    texts = {"a": THAI, "b": "How are you?", "c": "Guten Tag"}
    requests = [Request(id_, (Message("user", text),), Sampling(max_new_tokens=9)) for id_, text in texts.items()]
    own = {one.id: one.text for one in TransformersEngine(tiny()).generate(requests)}
    with served(answerer(chain=False)) as (url, _):
        params = OpenAIEngine.Params(base_url=f"{url}/v1", api=api)
        engine = OpenAIEngine.create(EngineModel.of(tiny()), params)
        found = {one.id: one.text for one in engine.generate(requests)}
    assert {id_: text.strip() for id_, text in found.items()} == {id_: text.strip() for id_, text in own.items()}


def test_the_official_client_writes_text_and_reads_log_probabilities() -> None:
    openai = pytest.importorskip("openai")
    with (
        served(answerer(chain=False)) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=HANGING) as official,
    ):
        whole = official.completions.create(model="tiny", prompt="Hello", max_tokens=9, logprobs=2)
        chunks = list(official.completions.create(model="tiny", prompt="Hello", max_tokens=9, stream=True))
        messages: Any = [{"role": "user", "content": "Hello"}]
        chat = official.chat.completions.create(
            model="tiny", messages=messages, n=2, temperature=1.0, logprobs=True, top_logprobs=2
        )
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.token_logprobs)
    assert [choice.index for choice in chat.choices] == [0, 1]
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2


def test_figures_for_prometheus_add_up() -> None:
    with client(answerer(caps=CAPS), key="secret") as http:
        assert http.get("/metrics").status_code == 401
        http.headers["Authorization"] = "Bearer secret"
        found = ask(http, THAI)
        several = complete(http, "Hello", n=2, max_tokens=3)
        assert http.post(PATH, json={}).status_code == 400
        response = http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [-+.e\d]+(inf)?', line), line
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['lingraft_requests_total{kind="chat",status="200"}'] == "1"
    assert values['lingraft_requests_total{kind="completion",status="200"}'] == "1"
    assert values['lingraft_requests_total{kind="completion",status="400"}'] == "1"
    usages = [found["usage"], several["usage"]]
    assert int(values["lingraft_prompt_tokens_total"]) == sum(usage["prompt_tokens"] for usage in usages)
    assert int(values["lingraft_generation_tokens_total"]) == sum(usage["completion_tokens"] for usage in usages)
    assert values["lingraft_first_text_seconds_count"] == "2"
    assert values['lingraft_request_seconds_bucket{le="+Inf"}'] == values["lingraft_request_seconds_count"] == "2"
    assert values['lingraft_failures_total{failure="no_chain"}'] == "1"
    assert (values["lingraft_requests_running"], values["lingraft_requests_waiting"]) == ("0", "0")


class Waiting(Answerer):
    """Begins to answer when it may."""

    def __init__(self) -> None:
        super().__init__(tiny(), None, CAPS)
        self.may = threading.Event()

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        assert self.may.wait(HANGING)
        yield from super().answer(question, left)


def test_figures_count_who_is_sent_away() -> None:
    answers = Waiting()
    with (
        served(answers, waiting=0) as (url, desk),
        ThreadPoolExecutor(1) as threads,
        httpx2.Client(timeout=HANGING) as http,
    ):
        first = threads.submit(http.post, f"{url}{PATH}", json={"prompt": "a"})
        until(lambda: desk.served == 1)
        assert http.post(f"{url}{PATH}", json={"prompt": "a"}).status_code == 503
        text = http.get(f"{url}/metrics").text
        answers.may.set()
        assert first.result().status_code == 200
    assert 'lingraft_requests_total{kind="completion",status="503"} 1\n' in text
    assert "lingraft_requests_running 1\n" in text
