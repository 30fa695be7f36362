"""The ray engine: its parameters, and, where Ray is installed, real workers that are killed in the midst of work."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from lingraft.core.errors import EngineError, UsageError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel
from lingraft.engines.ray import RayEngine
from lingraft.engines.ray_pool import share
from lingraft.engines.resumable import plan_parts
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.loading import load_model
from models_support import request, save_tiny_model, with_adapter
from processes import HANGING, start

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_the_inner_engine_is_checked_and_its_defaults_are_filled_in() -> None:
    params = RayEngine.Params(inner={"kind": "transformers", "max_batch": 4}, workers=3)
    assert params.inner == {"kind": "transformers", "max_batch": 4, "batch_tokens": 24_576}
    assert RayEngine.Params.model_validate(params.model_dump(mode="json")) == params
    alone = TransformersEngine.Params(max_batch=4)
    assert RayEngine.identity(params) == TransformersEngine.identity(alone)
    assert RayEngine.identity(params.model_copy(update={"workers": 8})) == RayEngine.identity(params)


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        ({"kind": "transfomers"}, "the kind 'transfomers' is no engine for a worker; did you mean 'transformers'?"),
        ({"kind": "ray"}, "the kind 'ray' is no engine for a worker"),
        ({}, "the kind None is no engine for a worker"),
        ({"kind": "transformers", "max_batsh": 4}, "unknown key 'max_batsh'; did you mean 'max_batch'?"),
        ({"kind": "transformers", "max_batch": 0}, "max_batch: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_inner_engine_is_one_sentence(inner: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RayEngine.Params(inner=inner)
    (problem,) = caught.value.errors()
    assert sentence in problem["msg"]


@pytest.mark.parametrize(
    ("cores", "workers", "each"),
    [([8], 2, 4), ([8], 3, 2), ([2], 4, 1), ([16, 4], 3, 5), ([16, 4], 5, 4), ([0, 8], 2, 4), ([0], 1, 1)],
)
def test_each_worker_gets_the_most_cores_with_which_all_find_room(cores: list[int], workers: int, each: int) -> None:
    assert share(cores, workers) == each


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINGRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield find_model(str(save_tiny_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def engine(files: ModelFiles) -> Iterator[Engine]:
    params = RayEngine.Params(inner={"kind": "transformers", "max_batch": 16}, workers=2)
    made = RayEngine.create(EngineModel.at(files, "fp32"), params)
    yield made
    made.close()


@pytest.fixture(scope="module")
def alone(files: ModelFiles) -> TransformersEngine:
    return TransformersEngine(load_model(files, "fp32"), max_batch=16)


def asked(count: int) -> list[Request]:
    """Return requests of all kinds; some are longer than others."""
    kinds: Sequence[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 3},
        {"stop": ("e",)},
        {"top": 2},
        {"prefill": "It's"},
    ]
    return [request(f"r{i}", "Das Wetter ist schön. " * (1 + i % 7), **kinds[i % 5]) for i in range(count)]


def by_id(answers: list[Generation]) -> dict[str, Generation]:
    assert len(answers) == len({answer.id for answer in answers})
    return {answer.id: answer for answer in answers}


def one_by_one(engine: Engine, requests: list[Request], graft: Path | None = None) -> dict[str, Generation]:
    parts = plan_parts(requests, engine.part_size)
    return by_id([answer for part in parts for answer in engine.generate(part, graft)])


def workers() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.name().startswith("ray::Worker")]


@with_ray
@pytest.mark.engines
def test_the_answers_are_those_of_the_inner_engine_alone(
    engine: Engine, alone: TransformersEngine, tmp_path: Path, files: ModelFiles
) -> None:
    requests = asked(200)
    assert engine.part_size == alone.part_size
    assert by_id(list(engine.generate(requests))) == one_by_one(alone, requests)
    with_adapter(load_model(files, "fp32").model).save_pretrained(tmp_path)
    grafted = by_id(list(engine.generate(requests, tmp_path)))
    assert grafted == one_by_one(alone, requests, tmp_path)
    assert grafted != one_by_one(alone, requests)


@with_ray
@pytest.mark.engines
def test_workers_alone_keep_kernels_of_the_hub_out(engine: RayEngine) -> None:
    import ray

    before = sys.modules.get("kernels", "left"), os.environ.get("USE_HUB_KERNELS")
    list(engine.generate(asked(70)))
    kept_out = (None, "0")
    for actor in [place.actor for place in engine._pool._places]:
        found = actor.__ray_call__.remote(lambda _: (sys.modules.get("kernels", "left"), os.environ["USE_HUB_KERNELS"]))
        assert ray.get(found) == kept_out
    assert (sys.modules.get("kernels", "left"), os.environ.get("USE_HUB_KERNELS")) == before


@with_ray
@pytest.mark.engines
def test_requests_are_drawn_as_they_are_needed(engine: Engine) -> None:
    drawn = 0

    def counted() -> Iterator[Request]:
        nonlocal drawn
        for asking in asked(2000):
            drawn += 1
            yield asking

    answers = engine.generate(counted())
    next(answers)
    assert drawn <= 4 * engine.part_size  # two parts with each worker
    rest = list(answers)
    assert (drawn, len(rest)) == (2000, 1999)


@with_ray
@pytest.mark.engines
def test_a_killed_worker_loses_nothing_and_doubles_nothing(engine: Engine, alone: TransformersEngine) -> None:
    requests = asked(600)
    assert len(workers()) == 2
    answers = engine.generate(requests)
    first = next(answers)
    victim = workers()[0]
    victim.send_signal(signal.SIGKILL)
    assert by_id([first, *answers]) == one_by_one(alone, requests)
    assert engine.usage() in ({"workers_lost": 1}, {})  # nothing is counted if its work was done by then
    assert victim.pid not in [worker.pid for worker in workers()]


@with_ray
@pytest.mark.engines
def test_a_workers_error_is_the_inner_engines_sentence_and_the_engine_goes_on(
    engine: Engine, alone: TransformersEngine
) -> None:
    wrong = [*asked(70), request("too-long", "x", max_new_tokens=10_000)]
    with pytest.raises(EngineError) as here:
        list(alone.generate(wrong))
    with pytest.raises(EngineError) as there:
        list(engine.generate(wrong))
    assert str(there.value) == str(here.value)
    assert "'too-long'" in str(there.value)
    assert there.value.__cause__ is None  # nor is there a traceback of Ray's
    assert by_id(list(engine.generate(asked(70)))) == one_by_one(alone, asked(70))


@with_ray
@pytest.mark.engines
@pytest.mark.model
@pytest.mark.long
def test_the_embedded_model_answers_as_it_does_alone() -> None:
    embedded = find_model("smollm2-135m-instruct")
    requests = [request(f"r{i}", f"Name {i + 2} rivers in Germany.", max_new_tokens=8) for i in range(70)]
    made = RayEngine.create(EngineModel.at(embedded, "fp32"), RayEngine.Params(workers=2))
    try:
        answers = by_id(list(made.generate(requests)))
    finally:
        made.close()
    assert answers == one_by_one(TransformersEngine(load_model(embedded, "fp32")), requests)


@with_ray
@pytest.mark.engines
def test_more_gpus_than_there_are_and_no_cluster_are_told_in_one_sentence(files: ModelFiles) -> None:
    scripts = {
        "gpus=3": "2 workers with 3 GPUs each do not fit on this machine",
        "address='127.0.0.1:1'": "no connection to a Ray cluster at '127.0.0.1:1'",
    }
    for given, sentence in scripts.items():
        process = start(
            f"""
            import sys
            from lingraft.engines import EngineModel
            from lingraft.engines.ray import RayEngine
            from lingraft.core.errors import UsageError
            from lingraft.models.files import find_model
            try:
                RayEngine.create(EngineModel.at(find_model(sys.argv[1])), RayEngine.Params(workers=2, {given}))
            except UsageError as error:
                print(error)
            """,
            files.folder,
        )
        words, noise = process.communicate(timeout=HANGING)
        assert sentence in words
        assert words.count("\n") == 1, words
        assert noise == ""


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_command_that_gets_it_is_named(files: ModelFiles) -> None:
    with pytest.raises(UsageError, match=r"Ray is not installed; run `pip install 'lingraft\[ray\]'`"):
        RayEngine.create(EngineModel.at(files), RayEngine.Params())
