"""`lingraft agree`: whether two engines write the same."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.core.printable import printable
from lingraft.core.streams import json_text

DEFAULT_PROMPTS, DEFAULT_LIMIT = "starter:prompts.jsonl", 32


def agree(
    first: Annotated[
        str, typer.Argument(help="An engine: `lingraft list engines`.", autocompletion=names_of("engines"))
    ],
    second: Annotated[str, typer.Argument(help="Another one.", autocompletion=names_of("engines"))],
    prompts: Annotated[str, typer.Option("--prompts", help="File of prompts to ask.")] = DEFAULT_PROMPTS,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of them.")] = DEFAULT_LIMIT,
    model: Annotated[str, typer.Option("--model", help="Alias, folder or hub id.")] = "smollm2-135m-instruct",
    precision: Annotated[str, typer.Option("--precision", help="auto | bf16 | fp32")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Ask two engines the same prompts, greedily, and say where their answers part and whether rounding explains it."""
    print_agreement(first, second, prompts, limit, model, precision, as_json)


def print_agreement(
    first: str, second: str, prompts: str, limit: int, model: str, precision: str, as_json: bool
) -> None:
    """Print how far two engines agree; the arguments are those of `lingraft.api.agree`."""
    found = api.agree(first, second, prompts=prompts, limit=limit, model=model, precision=precision)
    if as_json:
        print(json_text(found.to_dict(), indent=2))
    else:
        print(printable(str(found), None, lines=True))
