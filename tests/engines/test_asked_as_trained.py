"""A graft is asked with the variables that the chat template had in its training, whoever asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama
from lingraft.conversation.opening import open_model
from lingraft.data.records import Request, Sampling
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.models.export import export_graft
from lingraft.models.files import find_model
from lingraft.models.graft import Direction, GraftInfo, graft_renderer, grafted, write_info
from lingraft.models.graft_seal import INFO as FILE
from lingraft.models.loading import LoadedModel, load_model
from models_support import with_adapter
from openai_server import FakeServer, chat, choice
from template_support import HI, library_prompt, prompt_of, tokenizer_of, turns

THINKS = turns(opened="{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}")
OFF, ON = {"enable_thinking": False}, {"enable_thinking": True}
ASKED = Request("a", HI, Sampling(1))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tokenizer_of(THINKS)
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(find_model(str(folder)), "fp32", torch.device("cpu"))


def graft_of(loaded: LoadedModel, folder: Path, template: Any) -> Path:
    """Write a graft whose `lingraft.json` says `template`, or nothing of it."""
    with_adapter(tiny_llama(loaded.renderer.tokenizer)).save_pretrained(folder)
    info = GraftInfo(
        schema="lingraft.graft/1",
        method="vanilla",
        instruction="{source}",
        directions=[Direction(source="de", target="en")],
        base_id=str(loaded.files.folder),
        base_sha256=loaded.files.sha256,
    )
    write_info(folder, info)
    values = json.loads((folder / FILE).read_text("utf-8"))
    values.pop("template")
    (folder / FILE).write_text(json.dumps(values if template == "absent" else {**values, "template": template}))
    return folder


@pytest.mark.parametrize(
    ("template", "variables"),
    [(OFF, OFF), ({}, {}), (None, {}), ("absent", {}), (ON, ON)],
    ids=["off", "none", "null", "older", "on"],
)
def test_a_graft_is_asked_as_it_was_trained(
    loaded: LoadedModel, tmp_path: Path, template: Any, variables: dict[str, bool]
) -> None:
    folder = graft_of(loaded, tmp_path / "graft", template)
    expected = library_prompt(loaded.renderer, **variables)
    ids = tuple(loaded.renderer.tokenizer(expected, add_special_tokens=False).input_ids)
    with grafted(loaded, folder) as on:
        assert on.renderer.prompt_ids(HI).ids == ids
    assert graft_renderer(loaded.files, folder).prompt_ids(HI).ids == ids
    assert prompt_of(loaded.renderer) == library_prompt(loaded.renderer, **OFF)  # the base itself
    with FakeServer(lambda body: choice("ok", [5], "length")) as server:
        params = OpenAIEngine.Params(base_url=server.url, grafts={str(folder): "mine"})
        list(OpenAIEngine.create(EngineModel.of(loaded), params).generate([ASKED], folder))
    assert tuple(server.bodies[0]["prompt"]) == ids
    with open_model(folder, None) as (chatting, _):
        assert chatting.renderer.prompt_ids(HI).ids == ids


@pytest.mark.parametrize(("owner", "given"), [("vllm", OFF), ("llamacpp", OFF), ("openai", None)])
def test_a_server_that_renders_itself_gets_the_variables_where_it_takes_them(
    loaded: LoadedModel, owner: str, given: dict[str, bool] | None
) -> None:
    with FakeServer(lambda body: chat("ok"), owned_by=owner) as server:
        params = OpenAIEngine.Params(base_url=server.url, api="chat")
        list(OpenAIEngine.create(EngineModel.of(loaded), params).generate([ASKED]))
        own = {"chat_template_kwargs": {"enable_thinking": True}}
        params = OpenAIEngine.Params(base_url=server.url, api="chat", extra_body=own)
        list(OpenAIEngine.create(EngineModel.of(loaded), params).generate([ASKED]))
    first, second = server.bodies
    assert first.get("chat_template_kwargs") == given
    assert second["chat_template_kwargs"] == own["chat_template_kwargs"]


@pytest.mark.parametrize(("template", "variables"), [(OFF, OFF), ({}, {}), ("absent", {}), (ON, ON)])
def test_an_exported_model_is_asked_as_its_graft_was_trained(
    loaded: LoadedModel, tmp_path: Path, template: Any, variables: dict[str, bool]
) -> None:
    graft = graft_of(loaded, tmp_path / "graft", template)
    export_graft(graft, tmp_path / "model", None, "fp32")
    with open_model(None, str(tmp_path / "model")) as (chatting, _):
        assert prompt_of(chatting.renderer) == library_prompt(loaded.renderer, **variables)
