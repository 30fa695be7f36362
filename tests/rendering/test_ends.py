"""An answer ends where the base ends it, by `generation_config.json`, whoever writes it. Truth: `model.generate`, which
is told nothing but that file. The model's next token is forced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from lingraft.conversation.stream import stream_direct
from lingraft.conversation.writing import Done
from lingraft.core.errors import ModelError
from lingraft.data.records import Request, Sampling
from lingraft.engines.base import EngineModel
from lingraft.engines.library_decoder import LibraryDecoder
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model, load_renderer
from lingraft.rendering.ends import end_ids
from lingraft.serving.answerer import Answer, Answerer
from lingraft.serving.request import ChatRequest
from models_support import forced_llama
from openai_model import ModelAnswers
from openai_server import FakeServer
from template_support import HI, OPENED_BY_THE_NEXT, ROLES, tokenizer_of

ASKED = Request("a", HI, Sampling(24))


def saved(folder: Path, end: str) -> Path:
    """Write a model that answers "X!", ends with a control token, and goes on if nobody stops it."""
    tokenizer = tokenizer_of(OPENED_BY_THE_NEXT, ROLES)
    ends = tokenizer.convert_tokens_to_ids([tokenizer.eos_token, "<|user|>", "<|observation|>"])
    (line_end,) = tokenizer("\n", add_special_tokens=False).input_ids
    words = tokenizer.convert_tokens_to_ids(["X", "!", end, "W", "h", "y", "?"])
    model = forced_llama(tokenizer, [line_end, *words, tokenizer.convert_tokens_to_ids("<|assistant|>")])
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[0])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["<|user|>", "<|observation|>"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load_model(find_model(str(folder)), "fp32", torch.device("cpu"))


def by_the_library(folder: Path, loaded: LoadedModel) -> tuple[int, ...]:
    """What the base writes by itself, without the token that ends it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([loaded.renderer.prompt_ids(HI).ids])
    written = model.generate(prompt, max_new_tokens=24, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert written[-1] in loaded.renderer.end_ids
    return tuple(written[:-1])


def test_engines_end_an_answer_where_the_base_does(folder: Path, loaded: LoadedModel) -> None:
    expected = by_the_library(folder, loaded)
    assert loaded.renderer.decode(expected) == "X!"
    (found,) = TransformersEngine.create(EngineModel.at(loaded.files, "fp32"), TransformersEngine.Params()).generate(
        [ASKED]
    )
    assert (found.text, found.token_ids, found.finish_reason) == ("X!", expected, "stop")
    with FakeServer(ModelAnswers(loaded)) as server:
        engine = OpenAIEngine.create(EngineModel.of(loaded), OpenAIEngine.Params(base_url=server.url))
        (served,) = engine.generate([ASKED])
    assert (served.text, served.token_ids, served.finish_reason) == ("X!", expected, "stop")


def test_the_librarys_own_loop_ends_there_too(
    folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.engines.slot_cache.layers_for_slots", lambda model, width: 0)
    engine = TransformersEngine(loaded)
    assert isinstance(engine._decoder(32), LibraryDecoder)
    (found,) = engine.generate([ASKED])
    assert (found.token_ids, found.finish_reason) == (by_the_library(folder, loaded), "stop")


def test_a_conversation_and_the_server_end_there_too(loaded: LoadedModel) -> None:
    *_, done = stream_direct(loaded, HI, 24)
    assert isinstance(done, Done)
    assert (done.text, done.state) == ("X!", "complete")
    *_, answer = Answerer(loaded, None).answer(ChatRequest(messages=HI, max_tokens=24))
    assert isinstance(answer, Answer)
    assert (answer.text, answer.finish_reason) == ("X!", "stop")


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({"generation_config.json": '{"eos_token_id": [3, 1, 3]}', "config.json": '{"eos_token_id": 2}'}, (3, 1)),
        ({"generation_config.json": '{"eos_token_id": 4}', "config.json": "{}"}, (4,)),
        ({"generation_config.json": "{}", "config.json": '{"eos_token_id": [2, 5]}'}, (2, 5)),
        ({"config.json": '{"eos_token_id": null, "text_config": {"eos_token_id": 6}}'}, (6,)),
        ({"config.json": '{"eos_token_id": [null, -1, true, "x"]}'}, ()),
        ({}, ()),
    ],
)
def test_where_a_models_files_say_that_it_ends(tmp_path: Path, files: dict[str, str], ends: tuple[int, ...]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert end_ids(tmp_path) == ends


@pytest.mark.parametrize("text", ["{", "[]", '{"text_config": 3}'])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json is damaged .*copy the model anew"):
        end_ids(tmp_path)


def test_ids_that_the_tokenizer_does_not_know_end_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path, "<|user|>")
    tokens = len(load_renderer(find_model(str(folder))).tokenizer)
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": [{tokens + 50}, 2]}}')
    assert 2 in load_renderer(find_model(str(folder))).end_ids
    assert max(load_renderer(find_model(str(folder))).end_ids) < tokens
