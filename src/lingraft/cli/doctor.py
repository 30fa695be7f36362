"""`lingraft doctor`: what is installed, what is missing and how to get it, and whether each engine answers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lingraft import api
from lingraft.cli.agree import DEFAULT_LIMIT, DEFAULT_PROMPTS, print_agreement
from lingraft.cli.options import advise, given, refuse_ignored
from lingraft.core.errors import StoreError, UsageError
from lingraft.core.packages import OPTIONAL
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    try_engines: Annotated[bool, typer.Option("--try-engines", help="Ask each engine one prompt.")] = False,
    model: Annotated[str, typer.Option("--model", help="Model for --try-engines.")] = "smollm2-135m-instruct",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all models known on this machine; exit 1 if one is damaged.")
    ] = False,
    agree: Annotated[str | None, typer.Option("--agree", hidden=True)] = None,
    prompts: Annotated[str, typer.Option("--prompts", hidden=True)] = DEFAULT_PROMPTS,
    limit: Annotated[int, typer.Option("--limit", min=1, hidden=True)] = DEFAULT_LIMIT,
    precision: Annotated[str, typer.Option("--precision", hidden=True)] = "auto",
    install: Annotated[str | None, typer.Option("--install", hidden=True)] = None,
) -> None:
    """Show environment, versions, devices, engines and optional parts, and how to get what is missing."""
    if install is not None:
        refuse_ignored(context, {"install"}, "with --install")
        advise(f"lingraft install {install}")
        api.install(install)
        return
    if agree is not None:
        refuse_ignored(context, {"agree", "prompts", "limit", "precision", "model", "as_json"}, "with --agree")
        names = [name.strip() for name in agree.split(",")]
        if len(names) != 2:
            raise UsageError(f"--agree takes two engines, such as transformers,vllm, not {agree!r}")
        advise(f"lingraft agree {names[0]} {names[1]}")
        print_agreement(names[0], names[1], prompts, limit, model, precision, as_json)
        return
    if verify:
        refuse_ignored(context, {"verify", "as_json"}, "with --verify")
        verify_command(as_json)
        return
    asked = given(context).keys()
    refuse_ignored(context, asked - {"prompts", "limit", "precision"}, "here; see `lingraft agree`")
    if try_engines:
        refuse_ignored(context, {"try_engines", "model", "as_json"}, "with --try-engines")
    else:
        refuse_ignored(context, {"as_json"}, "without --try-engines")
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
        state = "installed" if present else f"not installed; lingraft install {name}"
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
