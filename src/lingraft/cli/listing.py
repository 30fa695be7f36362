"""`lingraft list`: what can be named in a recipe."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lingraft import api


def list_things(
    kind: Annotated[str, typer.Argument(help="methods | tuners | suites | engines | metrics | recipes")],
) -> None:
    """List what can be named in a recipe: name, one line, paper."""
    entries = api.list_entries(kind)
    table = Table(box=None, pad_edge=False, show_header=True)
    for column in ("name", "what", *(("paper",) if kind != "recipes" else ())):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(*map(Text, (entry.name, entry.summary, entry.paper)[: len(table.columns)]))
    Console(highlight=False).print(table)
