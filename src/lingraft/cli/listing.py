"""`lingraft list`: what a recipe or a command can name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lingraft import api
from lingraft.cli.completion import entries, kinds

if TYPE_CHECKING:
    from lingraft.recipe.keys import Parameter
    from lingraft.recipe.listing import Entry


def list_things(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="methods, tuners, objectives, decoders, engines, suites, metrics, mergers, documents or recipes; all "
            "by default.",
            autocompletion=kinds,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="One of them, e.g. radis: its parameters.", autocompletion=entries)
    ] = None,
) -> None:
    """List what can be named in a recipe or a command, and its parameters: `lingraft list methods radis`."""
    from lingraft.recipe.listing import KINDS

    console = Console(highlight=False, soft_wrap=False)
    if kind is not None and name is not None:
        _print_entry(console, *api.describe_entry(kind, name))
        return
    for number, one in enumerate(KINDS if kind is None else (kind,)):
        found = api.list_entries(one)
        if kind is None:
            console.print("\n" * bool(number) + one.capitalize(), style="bold")
        _print_list(console, found)


def _print_list(console: Console, found: list[Entry]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what", *(("paper",) if any(entry.paper for entry in found) else ())):
        table.add_column(column, overflow="fold")
    for entry in found:
        table.add_row(*map(Text, (entry.name, entry.summary, entry.paper)[: len(table.columns)]))
    console.print(table)


def _print_entry(console: Console, entry: Entry, parameters: list[Parameter]) -> None:
    """Print what an entry is and each of its parameters: name, type, default, and what it is for."""
    console.print(Text(f"{entry.name}: {entry.summary}"))
    if entry.paper:
        console.print(Text(f"Paper: {entry.paper}"))
    if not parameters:
        console.print("It has no parameters.")
    for one in parameters:
        facts = [one.form.replace("`", ""), *(["required"] if one.required else [])]
        facts += [f"default {one.default}"] if one.default else []
        console.print()
        console.print(Text.assemble((one.name, "bold"), f" ({'; '.join(facts)})"))
        console.print(Padding(Text(one.description), (0, 0, 0, 2)))
