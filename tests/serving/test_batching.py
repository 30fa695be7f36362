"""Requests that are answered together: each has the answer that it has alone, and none can stop the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import pytest
import torch

from chains import MARKERS
from clients import Raw, chat, split
from endpoints import AT_ONCE, CAPS, THAI, answerer, asking, batching, content, events, served, tiny, until
from lingraft.conversation.chain import Caps
from lingraft.conversation.writing import Waits, never
from lingraft.routing.base import GRAFT
from lingraft.serving.answerer import Answerer, Piece
from lingraft.serving.batches import Batches
from lingraft.serving.queue import RequestQueue
from lingraft.serving.request import ChatRequest
from lingraft.serving.rounds import End, Rounds, side_by_side
from processes import HANGING

PATH = "/v1/chat/completions"
LONG = Caps(20, 20, 600)

BODIES: list[dict[str, Any]] = [
    asking(THAI),
    asking("How is the weather?", stream=True),
    asking("Guten Tag", temperature=1.2, seed=4),
    asking(THAI, n=3, temperature=1.0, seed=1),
    asking(THAI, stream=True, logprobs=True, top_logprobs=2),
    asking("x " * 400, max_tokens=4),
    asking("Hello", "Hi", "And now?"),
    asking("Hello", max_tokens=2),
    asking(THAI, stop="a", stream=True),
    asking("How are you?", lingraft={"chain": True}),
]


def told(response: httpx2.Response) -> Any:
    """Return what an answer says, streamed or whole."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        chunks = events(response.text)
        rows = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
        return content(chunks), [row["token"] for one in rows for row in one["content"]]
    found = response.json()
    return [choice["message"]["content"] for choice in found["choices"]], found["usage"]


@pytest.mark.parametrize("chain", [True, False])
def test_each_has_the_answer_that_it_has_alone(chain: bool) -> None:
    bodies = [{**body, "lingraft": {}} for body in BODIES] if not chain else BODIES
    with served(answerer(chain=chain)) as (url, _), httpx2.Client(timeout=HANGING) as http:
        alone = [told(http.post(url + PATH, json=body)) for body in bodies]
    answers, batches = batching(chain=chain)
    with (
        served(answers, batches=batches) as (url, desk),
        httpx2.Client(timeout=HANGING) as http,
        ThreadPoolExecutor(len(bodies)) as threads,
    ):
        together = list(threads.map(lambda body: told(http.post(url + PATH, json=body)), bodies))
        until(lambda: desk.inside == 0)
    assert together == alone
    assert not batches.step()


class Counted(Batches):
    """Counts the rows that steps are taken with."""

    def __init__(self) -> None:
        super().__init__(AT_ONCE)
        self.rows: list[int] = []

    def step(self) -> bool:
        self.rows.append(len(self._batches[0]._rows))
        return super().step()


def several(caps: Caps = LONG) -> tuple[Answerer, Counted]:
    model, batches = tiny(), Counted()
    return Answerer(model, None, caps, writing={GRAFT: batches.writing(model)}), batches


def test_answers_share_steps_and_a_client_that_leaves_gives_its_slot_free() -> None:
    answers, batches = several()
    with served(answers, batches=batches) as (url, desk):
        leaving = [Raw(url) for _ in range(AT_ONCE)]
        for raw in leaving:
            raw.send(chat(THAI, stream=True))
        until(lambda: AT_ONCE in batches.rows)
        with Raw(url) as honest:
            honest.send(chat("Hello", max_tokens=3))
            for raw in leaving:
                raw.reset()
            assert b"200 OK" in honest.some()
        until(lambda: desk.inside == 0 and not batches._batches[0]._rows)


def test_more_than_fit_are_told_when_to_come_again() -> None:
    answers, batches = several()
    with served(answers, waiting=2, batches=batches) as (url, desk):
        held = [Raw(url, source="127.0.0.1").send(chat(THAI, stream=True)) for _ in range(AT_ONCE + 2)]
        until(lambda: desk.inside == AT_ONCE + 2)
        with Raw(url) as more:
            status, headers, body = split(
                more.send(chat("Hello").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)).rest()
            )
        assert status == 503
        assert 2 <= int(headers["retry-after"]) <= 12
        assert f"{AT_ONCE} requests are answered, 2 wait".encode() in body
        for raw in held:
            raw.reset()
        until(lambda: desk.inside == 0)


def test_a_model_that_computes_no_numbers_is_an_error_for_all_and_the_server_goes_on() -> None:
    model, batches = tiny(), Batches(AT_ONCE)
    answers = Answerer(model, None, CAPS, writing={GRAFT: batches.writing(model)})
    weight: Any = model.model.get_input_embeddings().weight
    before = weight.detach().clone()
    with served(answers, batches=batches) as (url, _), httpx2.Client(timeout=HANGING) as http:
        with torch.no_grad():
            weight.fill_(float("nan"))
        broken = http.post(url + PATH, json=asking("Hello"))
        with torch.no_grad():
            weight.copy_(before)
        assert (broken.status_code, broken.json()["error"]["code"]) == (500, "model_broken")
        assert http.post(url + PATH, json=asking("Hello")).status_code == 200


class Failing(Answerer):
    """Fails at some questions."""

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        if question.messages[0].content == "fail":
            raise RuntimeError("a secret of this machine")
        yield from super().answer(question, left)


def test_a_failure_is_its_own_requests_alone() -> None:
    model, batches = tiny(), Batches(AT_ONCE)
    answers = Failing(model, MARKERS, CAPS, writing={GRAFT: batches.writing(model)})
    with (
        served(answers, batches=batches) as (url, _),
        httpx2.Client(timeout=HANGING) as http,
        ThreadPoolExecutor(6) as threads,
    ):
        bodies = [asking("fail" if number % 2 else THAI) for number in range(6)]
        found = list(threads.map(lambda body: http.post(url + PATH, json=body), bodies))
    assert [one.status_code for one in found] == [200, 500] * 3
    assert "secret" not in "".join(one.text for one in found)


def test_clients_that_ask_for_much_leave_turns_to_others() -> None:
    """Two of four places are one client's; the third request of it waits behind another client's first."""

    async def run() -> list[str]:
        desk, order, may = RequestQueue(waiting=8, at_once=2), list[str](), threading.Event()

        def work(mark: str) -> Iterator[str | Waits]:
            while not may.is_set():
                yield Waits()
            yield mark

        async def ask(client: str, mark: str) -> None:
            with desk.place(10, client) as place:
                async for item in desk.serve(lambda: work(mark), place):
                    order.append(item)

        try:
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(ask, "a", f"a{number}")
                await anyio.wait_all_tasks_blocked()
                group.start_soon(ask, "b", "b0")
                await anyio.wait_all_tasks_blocked()
                assert desk.served == 2
                may.set()
        finally:
            desk.close()
        return order

    order = anyio.run(run)
    assert sorted(order) == ["a0", "a1", "a2", "a3", "b0"]
    assert order.index("b0") <= 3


def test_work_side_by_side_goes_on_in_turn() -> None:
    def counting(name: str, most: int) -> Generator[str | Waits, None, int]:
        for number in range(most):
            yield f"{name}{number}"
            yield Waits()
        return most

    found = list(side_by_side({"a": counting("a", 1), "b": counting("b", 2)}))
    assert [item if isinstance(item, Waits) else item[1] for item in found] == ["a0", "b0", Waits(), "b1", Waits()]


def test_a_step_that_fails_ends_the_work_and_no_other() -> None:
    steps = iter([RuntimeError("no memory")])
    got: list[Any] = []
    ended = threading.Event()

    def step() -> bool:
        for error in steps:
            raise error
        return False

    def deliver(item: Any) -> None:
        got.append(item)
        if isinstance(item, End):
            ended.set()

    def work(*items: Any) -> Generator[Any, None, None]:
        yield from items

    rounds = Rounds(step)
    try:
        rounds.begin(work("a", Waits(), "b"), deliver, threading.Event())
        assert ended.wait(HANGING)
        ended.clear()
        rounds.begin(work("c", Waits(), "d"), deliver, threading.Event())
        assert ended.wait(HANGING)
    finally:
        rounds.close()
    assert [one.error is None if isinstance(one, End) else one for one in got] == ["a", False, "c", "d", True]
