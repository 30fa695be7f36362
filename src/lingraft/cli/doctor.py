"""`lingraft doctor`: what is installed, what is missing and how to get it, and whether each engine answers."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lingraft import api
from lingraft.core.errors import StoreError, UsageError, suggestion
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    try_engines: Annotated[bool, typer.Option("--try-engines", help="Ask each engine one prompt.")] = False,
    agree: Annotated[
        str | None, typer.Option("--agree", help="Compare two engines' greedy answers, e.g. transformers,vllm.")
    ] = None,
    prompts: Annotated[str, typer.Option("--prompts", help="Prompts for --agree.")] = "starter:prompts.jsonl",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Prompts asked by --agree.")] = 32,
    precision: Annotated[str, typer.Option("--precision", help="auto | bf16 | fp32, for --agree.")] = "auto",
    model: Annotated[
        str, typer.Option("--model", help="Model for --try-engines and --agree.")
    ] = "smollm2-135m-instruct",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all models known on this machine; exit 1 if one is damaged.")
    ] = False,
    install: Annotated[
        str | None, typer.Option("--install", help="Make an environment of its own in the cache folder: comet.")
    ] = None,
) -> None:
    """Show environment, versions, devices, engines and optional parts, and how to get what is missing."""
    if install:
        install_command(install)
        return
    if agree:
        agree_command(agree, prompts, limit, model, precision, as_json)
        return
    if verify:
        verify_command(as_json)
        return
    from lingraft.pipeline.machine import OPTIONAL

    found = api.doctor(try_engines=try_engines, model=model)
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


def verify_command(as_json: bool) -> None:
    """Print whether each model that is known on this machine is whole.

    Raises:
        StoreError: one is not.
    """
    found = api.verify_models()
    if as_json:
        print(json_text(found, indent=2))
    else:
        for folder, wrong in found.items():
            print(f"{printable(folder)}: {printable(wrong or 'whole')}")
    damaged = [folder for folder, wrong in found.items() if wrong]
    if damaged:
        raise StoreError(f"{len(damaged)} of {len(found)} folders are damaged, such as {damaged[0]}; see above")


def agree_command(names: str, prompts: str, limit: int, model: str, precision: str, as_json: bool) -> None:
    """Print how far two engines agree on greedy answers to the first prompts of a file.

    Raises:
        UsageError: not two engines, or one of them is not installed.
    """
    from lingraft.data.readers import PromptSource, read_prompts
    from lingraft.data.records import Rejected, Request, Sampling
    from lingraft.engines.agreement import agreement
    from lingraft.engines.base import ENGINES, EngineModel
    from lingraft.models.devices import best_device, resolve_dtype
    from lingraft.models.files import find_model

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


def install_command(name: str) -> None:
    """Make an environment of its own for what cannot share Lingraft's, in the cache folder.

    Raises:
        UsageError: there is no such environment.
        StoreError: an installation failed.
    """
    from lingraft.metrics import comet_environment

    if name != "comet":
        raise UsageError(f"--install knows no {name!r}{suggestion(name, ['comet'])}")
    say = Reporter().say
    say(f"COMET's environment is ready: {comet_environment.install(say)}")
