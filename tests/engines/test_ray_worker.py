"""A worker in this process: it batches, keeps errors apart and refuses another base than the driver's."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import EngineError, LingraftError, ModelError
from lingraft.engines.base import ENGINES, EngineModel
from lingraft.engines.ray_worker import Worker, WorkerState
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import ModelFiles, find_model
from models_support import request, save_tiny_model
from processes import HANGING


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFiles:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    for name in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"):  # a worker sets them: put back afterwards
        monkeypatch.setenv(name, "1")
    monkeypatch.setitem(ENGINES._targets, "mortal", "mortal:MortalEngine")
    return find_model(str(save_tiny_model(tmp_path / "model")))


def mortal(files: ModelFiles, **params: Any) -> WorkerState:
    return WorkerState(files, "fp32", "mortal", params, 1)


def test_the_answers_are_those_of_the_inner_engine_alone(files: ModelFiles) -> None:
    asked = [request(f"r{i}", "Guten Tag! " * (i % 3 + 1), temperature=float(i % 2), seed=3) for i in range(7)]
    worker = Worker()
    started = worker.start(WorkerState(files, "fp32", "transformers", {"max_batch": 4}, 1))
    answers, usage = worker.answer(asked, None)
    worker.stop()
    alone = TransformersEngine(EngineModel.at(files, "fp32").load(), max_batch=4)
    assert (started.part_size, started.streams) == (alone.part_size, alone.streams)
    assert answers == list(alone.generate(asked))
    assert usage == {}


@pytest.mark.parametrize("streams", [False, True])
def test_batches_asked_at_once_are_each_answered_whole(files: ModelFiles, streams: bool) -> None:
    batches = [[request(f"b{i}-{j}", f"text {i} {j}") for j in range(5)] for i in range(12)]
    worker = Worker()
    assert worker.start(mortal(files, streams=streams)).streams == streams
    with ThreadPoolExecutor(12) as threads:
        given = list(threads.map(lambda batch: worker.answer(batch, None), batches))
    worker.stop()
    for batch, (answers, _) in zip(batches, given, strict=True):
        assert {answer.id: answer.text for answer in answers} == {
            asked.id: asked.messages[0].content.upper() for asked in batch
        }
    assert sum(usage["answered"] for _, usage in given) == 60


def test_an_engine_that_streams_goes_on_with_what_comes_meanwhile(files: ModelFiles, tmp_path: Path) -> None:
    """One call serves all batches: `mortal` answers the oldest request it holds last, which is one of the first."""
    gate, waiting, last = tmp_path / "gate", tmp_path / "gate.waiting", tmp_path / "last"
    worker = Worker()
    worker.start(mortal(files, streams=True, gate=str(gate)))
    with ThreadPoolExecutor(3) as threads:
        answers = []
        for i in range(3):
            batch = [request(f"b{i}-{j}", f"wait once {last}" if i == j == 0 else "x") for j in range(8)]
            answers.append(threads.submit(worker.answer, batch, None))
            while not waiting.exists():  # the first batch is at work when the others come
                time.sleep(0.01)
        while len(worker._waiting) < 2:
            time.sleep(0.01)
        gate.touch()
        others = [len(of.result(HANGING)[0]) for of in answers[1:]]
        held = not answers[0].done()
        last.touch()
        assert len(answers[0].result(HANGING)[0]) == 8
    worker.stop()
    assert others == [8, 8]
    assert held


@pytest.mark.parametrize("streams", [False, True])
def test_after_an_error_the_worker_goes_on(files: ModelFiles, streams: bool) -> None:
    worker = Worker()
    worker.start(mortal(files, streams=streams))
    with pytest.raises(EngineError, match="request 'bad': told to fail"):
        worker.answer([request("good", "x"), request("bad", "fail")], None)
    answers, _ = worker.answer([request("next", "x")], None)
    worker.stop()
    assert [answer.text for answer in answers] == ["X"]


def test_a_graft_that_is_not_on_this_machine_is_named(files: ModelFiles, tmp_path: Path) -> None:
    worker = Worker()
    worker.start(mortal(files))
    with pytest.raises(ModelError, match=r"the worker on .* has no graft at .*nowhere; put it on a file system"):
        worker.answer([request("a", "x")], tmp_path / "nowhere")
    worker.stop()


def test_another_base_or_version_than_the_drivers_is_refused(files: ModelFiles, tmp_path: Path) -> None:
    elsewhere = replace(files, name="no-such-model", folder=tmp_path / "not-mounted")
    refused: list[tuple[WorkerState, type[LingraftError], str]] = [
        (mortal(replace(files, sha256="f" * 64)), ModelError, "found another model in .* not ffffffffffff"),
        (mortal(elsewhere), ModelError, "does not find the base: there is no model at 'no-such-model'"),
        (replace(mortal(files), version="0.0.1"), EngineError, "install one version on all machines"),
    ]
    for work, kind, sentence in refused:
        with pytest.raises(kind, match=f"the worker on .*{sentence}"):
            Worker().start(work)


def test_a_base_that_lies_elsewhere_on_this_machine_is_found_by_its_name(files: ModelFiles, tmp_path: Path) -> None:
    worker = Worker()
    driver = replace(files, folder=tmp_path / "not-mounted")
    worker.start(WorkerState(driver, "fp32", "transformers", {}, 1))
    answers, _ = worker.answer([request("a", "Guten Tag!")], None)
    worker.stop()
    assert len(answers) == 1
