"""What every registered engine must do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from lingraft.core.hashing import content_hash
from lingraft.data.records import Generation
from lingraft.engines.auto import choose
from lingraft.engines.base import ENGINES, Engine, EngineModel, EngineParams
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel
from models_support import request, tiny_on_disk
from openai_model import ModelAnswers
from openai_server import FakeServer

TEXTS = ["Guten Tag!", "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen.", "x", "你好", "12 o'clock\n\n"]
REQUESTS = [
    *(request(f"plain-{i}", text) for i, text in enumerate(TEXTS)),
    *(request(f"prefill-{i}", text, prefill="Hello.\n\nNote:") for i, text in enumerate(TEXTS)),
    *(request(f"sampled-{i}", text, temperature=1.0, top_p=0.9, seed=3) for i, text in enumerate(TEXTS)),
    *(request(f"stop-{i}", text, stop=("e", "\nNote")) for i, text in enumerate(TEXTS)),
]


APART = ("ray", "vllm")
"""Engines that are installed apart; `make test-engines` tests them. The contract of what they are is tested always."""


def _marks(name: str) -> list[pytest.MarkDecorator]:
    if name == "auto" and choose()[0] in APART:
        return [pytest.mark.skip(reason=f"it is {choose()[0]} here, which is tested under its own name")]
    return [pytest.mark.engines] if name in APART else []


every_engine = pytest.mark.parametrize("name", ENGINES)
every_running_engine = pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in ENGINES])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    """On disk, with the hash of its files, for engines that load it in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINGRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = tiny_on_disk(tmp_path_factory.mktemp("tiny"))
        yield replace(model, files=find_model(str(model.files.folder)))


@pytest.fixture(autouse=True, scope="module")
def served(loaded: LoadedModel) -> Iterator[None]:
    """A server of the same model, for engines that ask one."""
    with FakeServer(ModelAnswers(loaded)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url)
        yield


def made(name: str, loaded: LoadedModel) -> Engine:
    entry = ENGINES.get(name)
    if missing := entry.missing():
        pytest.skip(missing)
    return entry.create(EngineModel.of(loaded), entry.Params())


def answered(name: str, loaded: LoadedModel) -> dict[str, Generation]:
    with closing(made(name, loaded)) as engine:
        answers = list(engine.generate(REQUESTS))
    assert len(answers) == len({answer.id for answer in answers})
    return {answer.id: answer for answer in answers}


@pytest.fixture(scope="module")
def first(loaded: LoadedModel) -> Callable[[str], dict[str, Generation]]:
    """What an engine answers when it is started for the first time, kept: starting takes long."""
    return cache(lambda name: answered(name, loaded))


@every_running_engine
def test_each_request_is_answered_once_within_its_limits(name: str, first: Callable[[str], Any]) -> None:
    answers = first(name)
    assert set(answers) == {asked.id for asked in REQUESTS}
    for asked in REQUESTS:
        answer = answers[asked.id]
        assert answer.finish_reason in ("stop", "stop_string", "length")
        assert len(answer.token_ids) <= asked.sampling.max_new_tokens
        assert Generation.from_json(answer.to_json()) == answer
        assert not (asked.prefill and answer.text.startswith(asked.prefill))


@every_running_engine
def test_the_same_requests_give_the_same_generations(
    name: str, loaded: LoadedModel, first: Callable[[str], Any]
) -> None:
    assert answered(name, loaded) == first(name)


@every_engine
def test_what_decides_the_output_can_be_hashed_and_names_the_engine(name: str) -> None:
    entry = ENGINES.get(name)
    identity = entry.identity(entry.Params())
    assert identity["engine"] in (ENGINES if name in ("auto", "ray") else [name])  # these two stand for another
    assert content_hash(identity) == content_hash(entry.identity(entry.Params()))


@every_engine
def test_parameters_round_trip_through_json_and_refuse_unknown_ones(name: str) -> None:
    entry = ENGINES.get(name)
    assert issubclass(entry.Params, EngineParams)
    params = entry.Params()
    assert entry.Params.model_validate(json.loads(params.model_dump_json())) == params
    with pytest.raises(ValueError, match="no_such_parameter"):
        entry.Params.model_validate({"no_such_parameter": 1})
    assert entry.part_size >= 1


@every_engine
def test_an_engine_says_what_it_is(name: str) -> None:
    entry = ENGINES.get(name)
    assert entry.name == name
    assert entry.summary
    assert "\n" not in entry.summary
    assert isinstance(entry.local, bool)
    assert isinstance(entry.missing(), str)
