"""Answering many requests in parts, with engines that answer out of order, twice, not at all, or fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Message, Request, Sampling
from lingraft.engines.base import Engine, EngineModel
from lingraft.engines.resumable import generate as generate_parts
from lingraft.engines.resumable import plan_parts
from lingraft.engines.scripted import Rule, ScriptedEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.loading import LoadedModel
from lingraft.store.parts import PartStore

IDENTITY = {"model": "abc"}


def request(id_: str, text: str = "hello") -> Request:
    return Request(id_, (Message("user", text),), Sampling(8))


REQUESTS = [request(f"r{i}", f"say {i}") for i in range(10)]


def scripted(rules: Sequence[Rule] = (Rule(pattern=r"say (\d+)", answer=r"said \1"),), part_size: int = 3) -> Any:
    engine = ScriptedEngine(rules)
    engine.part_size = part_size
    return engine


class Bent(Engine):
    """Answers with whatever a function makes of the requests."""

    name: ClassVar[str] = "bent"
    summary: ClassVar[str] = "answers wrongly"

    def __init__(self, bend: Callable[[list[Generation]], list[Generation]]) -> None:
        self._bend = bend

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> Bent:
        raise NotImplementedError

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        yield from self._bend([Generation(asked.id, "text", (1, 2), "stop") for asked in requests])


class Streaming(Bent):
    """Wants everything at once and works on `window` requests at a time, the newest first."""

    streams: ClassVar[bool] = True
    part_size = 3

    def __init__(self, window: int) -> None:
        self._window = window
        self.drawn: list[str] = []

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        rows = iter(requests)
        held = list(islice(rows, self._window))
        while held:
            asked = held.pop()
            self.drawn.append(asked.id)
            yield Generation(asked.id, f"said {asked.id}", (1,), "stop")
            held += islice(rows, 1)


def generate(engine: Engine, requests: Sequence[Request], folder: Path, **options: Any) -> dict[str, Generation]:
    """Answer the requests and read the answers back."""
    assert generate_parts(engine, requests, folder, **options) == len(requests)
    return {answer.id: answer for answer in map(Generation.from_json, PartStore(folder).lines())}


def test_parts_hold_all_requests_in_order() -> None:
    parts = list(plan_parts(REQUESTS, 4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [asked for part in parts for asked in part] == REQUESTS
    assert list(plan_parts([], 4)) == []


def test_answers_given_out_of_order_are_restored(tmp_path: Path) -> None:
    engine = scripted()
    answers = generate(engine, REQUESTS, tmp_path, identity=IDENTITY)
    assert engine.asked == ["r2", "r1", "r0", "r5", "r4", "r3", "r8", "r7", "r6", "r9"]  # backwards within a part
    assert list(answers) == [asked.id for asked in REQUESTS]
    assert [answers[f"r{i}"].text for i in range(10)] == [f"said {i}" for i in range(10)]
    assert answers["r7"].token_ids == tuple(b"said 7")
    again = scripted()
    assert generate(again, REQUESTS, tmp_path, identity=IDENTITY) == answers
    assert again.asked == []


@pytest.mark.parametrize(
    ("bend", "complaint"),
    [
        (lambda answers: answers[:-1], "left out 1 requests, such as 'r9'"),
        (lambda answers: [], "left out 10 requests, such as 'r0'"),
        (lambda answers: [*answers, answers[4]], "answered request 'r4' twice or unasked"),
        (lambda answers: [*answers, Generation("x", "", (), "stop")], "answered request 'x' twice or unasked"),
    ],
)
def test_a_wrong_set_of_answers_is_refused(
    tmp_path: Path, bend: Callable[[list[Generation]], list[Generation]], complaint: str
) -> None:
    with pytest.raises(EngineError, match=f"engine 'bent' {complaint}"):
        generate(Bent(bend), REQUESTS, tmp_path, identity=IDENTITY)
    complete = len(bend([Generation(asked.id, "", (), "stop") for asked in REQUESTS])) >= len(REQUESTS)
    assert len(list(tmp_path.iterdir())) == complete


def test_two_requests_of_one_id_are_refused(tmp_path: Path) -> None:
    engine = scripted()
    with pytest.raises(EngineError, match="'r3' is asked twice"):
        generate(engine, [*REQUESTS, request("r3", "another")], tmp_path, identity=IDENTITY)
    assert engine.asked == []


def test_after_a_failure_the_finished_parts_are_not_asked_again(tmp_path: Path) -> None:
    whole = Rule(pattern=r"say (\d+)", answer=r"said \1")
    engine = scripted([Rule(pattern="say 7", fail=True), whole])
    with pytest.raises(EngineError, match="request 'r7'"):
        generate(engine, REQUESTS, tmp_path / "a", identity=IDENTITY)
    assert {"r0", "r5"} <= set(engine.asked)
    resumed = scripted([whole])
    progress: list[tuple[int, int]] = []
    answers = generate(resumed, REQUESTS, tmp_path / "a", identity=IDENTITY, progress=lambda *now: progress.append(now))
    assert sorted(resumed.asked) == ["r6", "r7", "r8", "r9"]
    assert progress[0] == (6, 0)
    assert progress[-1] == (10, 4 * len("said 7"))
    assert answers == generate(scripted([whole]), REQUESTS, tmp_path / "b", identity=IDENTITY)
    names = [sorted((path.name, path.read_bytes()) for path in (tmp_path / run).iterdir()) for run in "ab"]
    assert names[0] == names[1]


def test_answers_of_another_model_or_to_other_requests_are_not_taken(tmp_path: Path) -> None:
    generate(scripted(), REQUESTS, tmp_path, identity=IDENTITY)
    other = scripted()
    generate(other, REQUESTS, tmp_path, identity={"model": "def"})
    assert len(other.asked) == 10
    changed = [*REQUESTS[:5], request("r5", "say 55"), *REQUESTS[6:]]
    third = scripted()
    answers = generate(third, changed, tmp_path, identity={"model": "def"})
    assert sorted(third.asked) == ["r3", "r4", "r5"]
    assert answers["r5"].text == "said 55"
    fewer = generate(scripted(), changed[:3], tmp_path, identity={"model": "def"})
    assert list(fewer) == ["r0", "r1", "r2"]


def test_nothing_asked_is_nothing_answered(tmp_path: Path) -> None:
    assert generate(scripted(), [], tmp_path, identity=IDENTITY) == {}


@pytest.mark.parametrize("window", [1, 4, 100])
def test_an_engine_that_streams_gets_all_at_once_and_finished_parts_are_kept(tmp_path: Path, window: int) -> None:
    engine = Streaming(window)
    answers = generate(engine, REQUESTS, tmp_path, identity=IDENTITY)
    assert list(answers) == [asked.id for asked in REQUESTS]
    assert len(list(tmp_path.iterdir())) == 4
    next(tmp_path.glob("part-000001-*")).unlink()
    again = Streaming(window)
    assert generate(again, REQUESTS, tmp_path, identity=IDENTITY) == answers
    assert sorted(again.drawn) == ["r3", "r4", "r5"]


def test_an_engine_that_streams_and_stops_early_is_found_out(tmp_path: Path) -> None:
    class Lazy(Streaming):
        def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
            yield from islice(super().generate(requests), 6)

    with pytest.raises(EngineError, match="left out"):
        generate(Lazy(1), REQUESTS, tmp_path, identity=IDENTITY)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("parameters", "size"),
    [(1_000, 256), (135_000_000, 256), (494_000_000, 64), (1_540_000_000, 32), (7_000_000_000, 16)],
)
def test_a_kill_costs_the_less_answers_the_larger_the_model_is(parameters: int, size: int) -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(1, parameters, bias=False)
    loaded = SimpleNamespace(model=model, device=torch.device("cpu"))
    assert TransformersEngine.saved_together(cast("LoadedModel", loaded)) == size
