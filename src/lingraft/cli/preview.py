"""`lingraft preview`: rendered training examples."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lingraft import api
from lingraft.cli.options import RecipeArgument, Trust
from lingraft.cli.run import asking
from lingraft.core.printable import printable


def preview(
    recipe: RecipeArgument,
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes, e.g. stages.0.method=vanilla.")] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Examples to show for each system.")] = 2,
    trust: Trust = False,
) -> None:
    """Show rendered training examples, supervised text in colour, and a request of each round of questions that methods
    ask; writes nothing.

    The base writes the few rationales that are shown.
    """
    console = Console(soft_wrap=True, highlight=False)
    stage = None
    for example in api.preview(recipe, overrides or [], rows=rows, trust=trust, ask=asking()):
        if example.stage != stage:
            stage = example.stage
            console.rule(Text(stage), characters="─")
        if example.note:
            console.print(printable(example.note), markup=False)
            if example.text:
                console.print(example.text)
                console.print()
            continue
        counts = f"{example.tokens} tokens, {example.supervised} supervised"
        console.print(Text(f"{printable(example.id)}: {counts}", style="bold"))
        console.print(example.text)
        console.print()
