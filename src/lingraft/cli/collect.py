"""`lingraft collect`: results of benches without texts, and rows of several folders as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import Quiet
from lingraft.core.printable import printable


def collect(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of benches, or of results that were collected before.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write: a new one, or results of before, whose rows are all here."),
    ],
    quiet: Quiet = False,
) -> None:
    """Write the results of benches without their texts, and join rows that were run on several machines or days.

    The folder has the table, the page and the bench file, and of each finished row the scorecard and the results of
    each item: numbers that may be shared, which `lingraft compare` reads. No text of pairs, prompts or answers goes
    along, and no path of this machine.

    Rows stand in the order of the first folder; a row that is finished in one is taken from there. Folders of different
    benches are refused (another base, other test items, questions, seeds or training data), and so is a row that was
    run twice with other results. Results grow: lingraft collect results today --out results
    """
    found = api.collect(folders, out, quiet=quiet)
    print(printable(str(found), None, lines=True))
