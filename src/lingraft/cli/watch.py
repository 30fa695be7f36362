"""`lingraft watch`: how far a run or a bench has come, from outside."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lingraft import api
from lingraft.cli.options import Command
from lingraft.core.errors import StoreError
from lingraft.core.printable import printable

if TYPE_CHECKING:
    from lingraft.watching.states import WatchedBench, WatchedRun

BESIDE = "\N{NO-BREAK SPACE}"
"""Stands for the page beside the folder, where `--html` names no file."""


class WatchCommand(Command):
    """A command whose `--html` may stand without a file."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse; see the base class."""
        following = [*args[1:], "-"]
        given = [
            f"--html={BESIDE}" if word == "--html" and after.startswith("-") else word
            for word, after in zip(args, following, strict=False)
        ]
        return super().parse_args(context, given)


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a bench; it need not exist yet.")],
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="[FILE]", help="Also write a page; default: RUN.watch.html beside the folder."),
    ] = None,
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Show how far a run has come: stages done, running and to come with estimates, losses by role, learning rate, the
    development set's way on the frontier, the last rationale and chain, rows left out.

    It reads the run's folder and nothing else, so that it can be started at any time, also by another user, and ended
    with Ctrl-C; the run does not notice. It ends when the run does. Of a bench, it shows the rows, and the one at work.
    Where no terminal reads, it prints once; with --html it then goes on for the page, which needs no server and loads
    itself anew.
    """
    folder = run
    page = None if html is None else folder.resolve().with_name(f"{folder.resolve().name}.watch.html")
    if html is not None and html != BESIDE:
        page = Path(html)
    try:
        if once:
            _print(api.watch(folder, html=page, every=every))
        elif sys.stdout.isatty():
            _live(folder, page, every)
        else:
            _plain(folder, page, every)
    except KeyboardInterrupt:  # the usual way to end it
        return


def _print(state: WatchedRun | WatchedBench) -> None:
    """Print all of a state, in a terminal as wide as it is."""
    from lingraft.watching.terminal import fitting

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Group(*fitting(state.blocks(console.width), console.width)))
    else:
        print(state)


def _live(folder: Path, page: Path | None, every: float) -> None:
    """Show one state after the other, each as far as there is room; what was in the terminal comes back at the end."""
    from lingraft.watching.terminal import fitting

    state: WatchedRun | WatchedBench | None = None
    console = Console(highlight=False)
    where = f"; page: {printable(page)}" if page else ""
    foot = Text(f"Every {every:g} s{where}. Ctrl-C ends this, not the run.", "dim")
    try:
        with Live(console=console, screen=True, auto_refresh=False) as screen:
            while state is None or not state.over:
                state = _next(folder, page, every, state)
                lines = fitting(state.blocks(console.width), console.width, console.height - 2)
                screen.update(Group(*lines, Text(""), foot), refresh=True)
                if not state.over:
                    time.sleep(every)
    finally:
        if state is not None:
            _print(state)


def _plain(folder: Path, page: Path | None, every: float) -> None:
    state = api.watch(folder, html=page, every=every)
    _print(state)
    sys.stdout.flush()
    while page is not None and not state.over:
        time.sleep(every)
        state = _next(folder, page, every, state)


def _next(
    folder: Path, page: Path | None, every: float, before: WatchedRun | WatchedBench | None
) -> WatchedRun | WatchedBench:
    """Look again.

    Raises:
        StoreError: what was there is not any more.
    """
    state = api.watch(folder, html=page, every=every)
    if before is not None and before.status != "not started" and state.status == "not started":
        raise StoreError(f"{folder} is no longer there, or empty: it was moved or removed while it was watched")
    return state
