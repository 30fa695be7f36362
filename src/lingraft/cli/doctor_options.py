"""`lingraft doctor`: the state of the environment."""

from __future__ import annotations

from typing import Annotated

import typer


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
    from lingraft.cli.doctor import agree_command, doctor_command, install_command, verify_command

    if install:
        install_command(install)
        return
    if agree:
        agree_command(agree, prompts, limit, model, precision, as_json)
        return
    if verify:
        verify_command(as_json)
        return
    doctor_command(as_json, try_engines, model)
