"""Which engine the tests of the server have behind it: `--serve-engine` of pytest, by default the model in memory.

`openai` is a server of this process that speaks as vLLM does, `vllm` is vLLM itself.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.token_streams import TokenStreams
from lingraft.engines.vllm import VllmEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel
from lingraft.routing.base import GRAFT, Route
from lingraft.serving.streamed import StreamWriting
from openai_model import ModelAnswers, ModelStream
from openai_server import FakeServer

CHOSEN = "transformers"
_OPEN = ExitStack()
atexit.register(_OPEN.close)


def hidden() -> int:
    """Return the width of a tiny model that the chosen engine can compute with."""
    return 128 if CHOSEN == "vllm" else 32


def writing(model: Callable[[], LoadedModel], key: object) -> Mapping[Route, StreamWriting]:
    """Return what begins to write with the chosen engine; {} where that is the model in memory.

    Args:
        model: gives it.
        key: that tells it from others.
    """
    if CHOSEN == "transformers":
        return {}
    return {GRAFT: StreamWriting(_streams(CHOSEN, key, model), None)}


def step() -> bool:
    """Let the engine compute, where it does so in the thread that takes its tokens."""
    return sum(one.step() for one in _KNOWN.values()) > 0


_KNOWN: dict[tuple[str, object], TokenStreams] = {}


def _streams(engine: str, key: object, model: Callable[[], LoadedModel]) -> TokenStreams:
    if (engine, key) not in _KNOWN:
        loaded = model()
        if engine == "vllm":
            _KNOWN[engine, key] = _vllm(loaded)
            return _KNOWN[engine, key]
        server = _OPEN.enter_context(FakeServer(ModelAnswers(loaded), stream=ModelStream(loaded)))
        params = OpenAIEngine.Params(base_url=server.url)
        made = OpenAIEngine.create(EngineModel.of(loaded), params)
        _KNOWN[engine, key] = _OPEN.enter_context(made.token_streams({None: loaded.renderer}))
    return _KNOWN[engine, key]


def _vllm(loaded: LoadedModel) -> TokenStreams:
    """Let vLLM write, in this process, with a model that is saved for it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    folder = Path(_OPEN.enter_context(tempfile.TemporaryDirectory()))
    loaded.model.save_pretrained(folder)
    loaded.renderer.tokenizer.save_pretrained(folder)
    params = VllmEngine.Params(kv_cache_gib=0.25)
    made = VllmEngine.create(EngineModel.at(find_model(str(folder)), "fp32"), params)
    _OPEN.callback(made.close)
    return _OPEN.enter_context(made.token_streams({None: loaded.renderer}))
