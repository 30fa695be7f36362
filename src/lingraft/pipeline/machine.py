"""This machine: what is installed, what is missing and how to get it, whether engines answer and models are whole."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.environment import cache_folder
from lingraft.core.errors import LingraftError, UsageError, suggestion
from lingraft.core.own_environments import OWN_ENVIRONMENTS
from lingraft.core.packages import OPTIONAL, is_installed
from lingraft.data.readers import PromptFile, read_prompts
from lingraft.data.records import Message, Rejected, Request, Sampling
from lingraft.engines.agreement import EngineAgreement, agreement
from lingraft.engines.auto import choose
from lingraft.engines.base import ENGINES, EngineModel
from lingraft.models.devices import best_device, resolve_dtype
from lingraft.models.files import ALIASES, find_model
from lingraft.models.hashes import hashed_folders, model_hash, sealed_model
from lingraft.store.artefacts import verify

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
        "optional": {module: is_installed(module) for module in OPTIONAL},
        "engines": {name: ENGINES.get(name).missing() for name in ENGINES},
        "auto": choose()[1],
        "environments": {name: one.installed() for name, one in OWN_ENVIRONMENTS.items()},
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


@dataclass(frozen=True)
class ComparedEngines:
    """Two engines that were asked the same: their names, the model, the type of its weights, how far they agree."""

    engines: tuple[str, str]
    model: str
    dtype: str
    agreement: EngineAgreement

    def to_dict(self) -> dict[str, Any]:
        """Return what was compared and the figures, JSON-ready."""
        compared = {"engines": list(self.engines), "model": self.model, "dtype": self.dtype}
        return {**compared, **self.agreement.to_dict()}

    def __str__(self) -> str:
        return f"{' and '.join(self.engines)}, {self.model} in {self.dtype}: {self.agreement}"


def compare_engines(first: str, second: str, prompts: str, limit: int, model: str, precision: str) -> ComparedEngines:
    """Return how far two engines agree on greedy answers to the first prompts of a file.

    Args:
        first: name of an engine.
        second: name of the other one.
        prompts: file of general prompts.
        limit: how many of them are asked.
        model: alias, folder or hub id.
        precision: "auto", "bf16" or "fp32".

    Raises:
        UsageError: no such engine or precision, or one of the engines is not installed.
        LingraftError: prompts or model cannot be used, or an engine fails.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError(f"the precision is auto, bf16 or fp32, not {precision!r}")
    for kind in (first, second):
        if missing := ENGINES.get(kind).missing():
            raise UsageError(f"engine {kind}: {missing}")
    rows = islice((row for row in read_prompts(PromptFile(path=prompts)) if not isinstance(row, Rejected)), limit)
    requests = [Request(row.record.id, row.record.messages, Sampling(max_new_tokens=64)) for row in rows]
    files = find_model(model)
    one, other = (
        ENGINES.get(kind).create(EngineModel.at(files, precision), ENGINES.get(kind).Params())
        for kind in (first, second)
    )
    dtype = str(resolve_dtype(precision, best_device())).removeprefix("torch.")
    return ComparedEngines((first, second), model, dtype, agreement(one, other, requests, dtype=dtype))


def install_environment(name: str, say: Callable[[str], None]) -> Path:
    """Make an environment of its own for what cannot share Lingraft's, in the cache folder, and return its folder.

    Raises:
        UsageError: there is no such environment.
        StoreError: an installation failed.
    """
    if name not in OWN_ENVIRONMENTS:
        raise UsageError(f"there is nothing to install that is called {name!r}{suggestion(name, OWN_ENVIRONMENTS)}")
    return OWN_ENVIRONMENTS[name].install(say)


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
