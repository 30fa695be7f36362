"""The openai engine against a real `vllm serve` of the embedded model in float32, on loopback."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model
from models_support import request, with_adapter
from processes import HANGING

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make test-engines"),
]
TEXTS = (
    "Guten Tag!",
    "Translate to German: The weather is nice today.",
    "What is 2+2?",
    "Schreib ein Haiku über Regen.",
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(find_model("smollm2-135m-instruct"), "fp32", torch.device("cpu"))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs for this module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(find_model("smollm2-135m-instruct").folder), "--served-model-name", "smol"]
    command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "16", "--enforce-eager"]
    command += ["--enable-lora", "--max-lora-rank", "8"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **settings})
    try:
        end = time.monotonic() + HANGING
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(HANGING)


def asked() -> list[Request]:
    return [
        each
        for i, text in enumerate(TEXTS)
        for each in (
            request(f"plain{i}", text, top=3, max_new_tokens=24),
            request(f"prefill{i}", text, prefill="Sure. Here it is: ", max_new_tokens=24),
            request(f"lines{i}", text, prefill="Hallo!\n\nNote:\n\n", max_new_tokens=24),
            request(f"stop{i}", text, stop=(" is", ".", "\n"), max_new_tokens=24),
        )
    ]


def served(url: str, loaded: LoadedModel, requests: list[Request], graft: Path | None = None, **params: Any) -> Any:
    engine = OpenAIEngine.create(EngineModel.of(loaded), OpenAIEngine.Params(base_url=url, **params))
    return {found.id: found for found in engine.generate(requests, graft)}


def assert_equal(found: dict[str, Generation], expected: dict[str, Generation]) -> None:
    assert {id_: replace(each, logprobs=None) for id_, each in found.items()} == {
        id_: replace(each, logprobs=None) for id_, each in expected.items()
    }
    for id_, each in expected.items():
        for one, two in zip(found[id_].logprobs or (), each.logprobs or (), strict=True):
            assert [value for _, value in one] == pytest.approx([value for _, value in two], abs=5e-3)


@pytest.mark.parametrize("params", [{}, {"prompt": "text"}, {"api": "chat"}])
def test_greedy_answers_equal_those_in_process(url: str, loaded: LoadedModel, params: dict[str, str]) -> None:
    # As text, newlines at the end of a prefill are other tokens than in running text.
    requests = [each for each in asked() if not params or not each.id.startswith("lines")]
    expected = {found.id: found for found in TransformersEngine(loaded).generate(requests)}
    assert {found.finish_reason for found in expected.values()} >= {"length", "stop_string", "stop"}
    assert_equal(served(url, loaded, requests, **params), expected)


def test_sampling_follows_the_seed(url: str, loaded: LoadedModel) -> None:
    def drawn(seed: int) -> Any:
        settings = {"temperature": 1.0, "top_p": 0.9, "seed": seed}
        return served(url, loaded, [request(f"r{i}", "Tell me a story.", top=2, **settings) for i in range(4)])

    first = drawn(1)
    assert {found.text for found in first.values()} == {found.text for found in drawn(1).values()}
    assert len({found.text for found in first.values()}) == 4
    assert {found.text for found in first.values()} != {found.text for found in drawn(2).values()}
    assert all(len(row) == 2 for found in first.values() for row in found.logprobs or ())


def test_a_graft_is_loaded_used_and_let_go(url: str, loaded: LoadedModel, tmp_path: Path) -> None:
    adapted = with_adapter(loaded.model)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.mul_(0.05)
    adapted.save_pretrained(tmp_path)
    adapted.unload()
    requests = [request(f"r{i}", text, top=2, max_new_tokens=24) for i, text in enumerate(TEXTS)]
    base = {found.id: found for found in TransformersEngine(loaded).generate(requests)}
    expected = {found.id: found for found in TransformersEngine(loaded).generate(requests, tmp_path)}
    assert expected != base
    assert_equal(served(url, loaded, requests, tmp_path, load_grafts=True), expected)
    assert_equal(served(url, loaded, requests), base)
    assert [card["id"] for card in httpx2.get(f"{url}/models", trust_env=False).json()["data"]] == ["smol"]


def test_what_the_server_refuses_is_told_at_once(url: str, loaded: LoadedModel) -> None:
    with pytest.raises(EngineError, match=r"request 'long': .* status 400: .*1024 tokens"):
        served(url, loaded, [request("long", "word " * 2000)])
    with pytest.raises(EngineError, match=r"request 'r': .* status 404: .*`nope` does not exist"):
        served(url, loaded, [request("r", "Hi")], model="nope")
