"""The openai engine against a server that fails in every way: nothing lost, nothing twice, attempts counted."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.resumable import generate
from lingraft.store.parts import PartStore
from nursery import born
from openai_requests import IDENTITY, LOADED, asked
from openai_server import FAULTS, STATUS, STRANGE, FakeServer, choice
from processes import heard, killed, tree

RENDERER = LOADED.renderer


def written(prompt: list[int]) -> str:
    """What the server writes: a word that depends on every id of the prompt."""
    return "said " + hashlib.sha256(repr(list(prompt)).encode()).hexdigest()[:12]


def answer(body: dict[str, Any]) -> dict[str, Any]:
    text = written(body["prompt"])
    return choice(text, [*RENDERER.plain_ids(text), RENDERER.end_of_turn_id])


def expected(requests: list[Request]) -> dict[str, str]:
    return {one.id: written(list(RENDERER.prompt_ids(one.messages).ids)) for one in requests}


def engine(server: FakeServer, **params: Any) -> OpenAIEngine:
    settings = {"base_url": server.url, "backoff": 0.001, "longest_wait": 0.02, "timeout": 60.0, **params}
    return OpenAIEngine.create(EngineModel.of(LOADED), OpenAIEngine.Params(**settings))


def results(folder: Path) -> dict[str, Generation]:
    return {found.id: found for found in map(Generation.from_json, PartStore(folder).lines())}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_hundred_answers_through_a_storm_of_faults(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    plan = [draw.choice(FAULTS) if draw.random() < 0.4 else "" for _ in range(5000)]
    for place, fault in enumerate(FAULTS):  # each at least once
        plan[3 * place] = fault
    harmless = draw.sample(range(len(plan)), 1000)
    for place in harmless:
        plan[place] = plan[place] or draw.choice(["text_plain", "chunked"])
    strange: set[tuple[str, str]] = set()

    def fault(number: int, body: dict[str, Any]) -> str:
        """Give a prompt no strange answer a second time: what is the same each time does not pass."""
        form = {"stale": "no_id"}.get(plan[number], plan[number])  # the first stale answer has no mark either
        if form not in STRANGE:
            return plan[number]
        key = (repr(body["prompt"]), form)
        known = key in strange
        strange.add(key)
        return "" if known else plan[number]

    requests = asked(200)
    with FakeServer(answer, fault) as server:
        asking = engine(server, concurrency=draw.choice([3, 16, 40]), attempts=40)
        asking.part_size = 32
        assert generate(asking, requests, tmp_path, identity=IDENTITY) == 200
    found = results(tmp_path)
    assert list(found) == [one.id for one in requests]  # in their order, each once
    assert {id_: one.text for id_, one in found.items()} == expected(requests)
    usage = asking.usage()
    failed = [fault for fault in server.committed if fault in FAULTS]
    assert set(failed) == set(FAULTS)
    assert usage["requests"] == 200
    assert sum(usage["retries"].values()) == len(failed)
    assert len(server.bodies) == 200 + len(failed)
    for status in STATUS:
        assert usage["retries"][status[:3]] == sum(fault[:3] == status[:3] for fault in failed)
    assert usage["retries"]["oversized"] == failed.count("huge")
    assert usage["completion_tokens"] == sum(len(RENDERER.plain_ids(text)) + 1 for text in expected(requests).values())


@pytest.mark.parametrize("fault", ["slow", "dribble"])
def test_an_answer_that_takes_too_long_is_asked_again(fault: str) -> None:
    requests = asked(6)
    with FakeServer(answer, lambda number, _: fault if number < 2 else "") as server:
        asking = engine(server, timeout=3)
        found = {one.id: one.text for one in asking.generate(requests)}
    assert found == expected(requests)
    assert asking.usage()["retries"] == {"timeout": 2}


def test_an_answer_sent_twice_is_not_taken_for_the_next() -> None:
    requests = asked(30)
    with FakeServer(answer, lambda number, _: "twice" if number % 2 else "") as server:
        found = {one.id: one.text for one in engine(server, concurrency=1).generate(requests)}
    assert found == expected(requests)


def test_a_request_that_never_succeeds_is_named_with_the_last_reason(tmp_path: Path) -> None:
    requests = asked(8)
    spoilt = list(RENDERER.prompt_ids(requests[5].messages).ids)
    with FakeServer(answer, lambda _, body: "502" if body["prompt"] == spoilt else "") as server:
        asking = engine(server, attempts=3, concurrency=1)
        asking.part_size = 2
        with pytest.raises(EngineError, match=r"request 'r5': no usable .* in 3 attempts, the last: status 502: not"):
            generate(asking, requests, tmp_path, identity=IDENTITY)
        assert sum(body["prompt"] == spoilt for body in server.bodies) == 3
        assert {"r0", "r1", "r2", "r3"} <= set(results(tmp_path))
        before = len(server.bodies)
        server.fault = lambda number, body: ""
        assert generate(asking, requests, tmp_path, identity=IDENTITY) == 8
        finished = [list(RENDERER.prompt_ids(one.messages).ids) for one in requests[:4]]
        assert not any(body["prompt"] in finished for body in server.bodies[before:])
    assert {id_: one.text for id_, one in results(tmp_path).items()} == expected(requests)


def test_a_server_that_goes_away_and_comes_back_is_waited_for() -> None:
    requests = asked(12)
    with FakeServer(answer) as server:
        asking = engine(server, concurrency=2, backoff=0.05, longest_wait=0.1, attempts=1000)
        stream = asking.generate(requests)
        found = [next(stream)]
        port = server.stop()

        def come_back() -> None:
            while not asking._retries["connection"]:
                time.sleep(0.01)
            server.start(port)

        back = threading.Thread(target=come_back)
        back.start()
        found += stream
        back.join()
    assert {one.id: one.text for one in found} == expected(requests)
    assert asking.usage()["retries"]["connection"] >= 1


KILLED = """
    import sys
    from pathlib import Path
    from lingraft.engines import EngineModel
    from lingraft.engines.openai import OpenAIEngine
    from lingraft.engines.resumable import generate
    from openai_requests import IDENTITY, LOADED, asked

    engine = OpenAIEngine.create(EngineModel.of(LOADED), OpenAIEngine.Params(base_url=sys.argv[1], concurrency=4))
    engine.part_size = 5
    print("ready", flush=True)
    generate(engine, asked(40), Path(sys.argv[2]), identity=IDENTITY)
"""


def test_a_killed_job_asks_again_for_unfinished_parts_only(tmp_path: Path) -> None:
    requests = asked(40)
    with FakeServer(answer, lambda number, _: "500" if number % 7 == 3 else "") as server:
        server.free = 33  # at most 4 of the 7 parts that were begun and should be whole can wait for another attempt
        process = born(KILLED, server.url, tmp_path / "a")
        heard(process, "ready")
        while len(list((tmp_path / "a").glob("part-*"))) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        killed(process)
        finished = set(results(tmp_path / "a"))
        assert 15 <= len(finished) < 40
        server.free = None
        server.released.set()
        before = len(server.bodies)
        resumed = engine(server)
        resumed.part_size = 5
        assert generate(resumed, requests, tmp_path / "a", identity=IDENTITY) == 40
        prompts = Counter(tuple(body["prompt"]) for body in server.bodies[before:])
        again = {one.id for one in requests if prompts[RENDERER.prompt_ids(one.messages).ids]}
        assert again == {one.id for one in requests} - finished
        undisturbed = engine(server)
        undisturbed.part_size = 5
        generate(undisturbed, requests, tmp_path / "b", identity=IDENTITY)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
