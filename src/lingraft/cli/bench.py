"""`lingraft bench`: rows of one recipe side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import DryRun, GpuOption, Quiet, Replace, Trust, refuse_gpu_alone
from lingraft.cli.run import asking
from lingraft.core.printable import printable


def bench(
    file: Annotated[Path, typer.Argument(help="A bench file: a recipe, and rows that change keys of it.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the bench; by default benches/<name>.")] = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Run the rows of a bench file on the same base, pairs, prompts and seeds, and set them in one table.

    Each row is a run in a folder of its own. What the base answered for one row is taken over by those after it. With
    `choose`, values such as learning rates are tried for rows and chosen by the development set; with `equal_tokens`,
    rows are trained once more on as many tokens as another, for a second table. A killed bench continues where it was
    when the same command is given again. --dry-run prints the hours by row.
    """
    refuse_gpu_alone(gpu, dry_run)
    if dry_run:
        print(printable(str(api.estimate_bench(file, out=out, gpu=gpu, replace=replace)), None, lines=True))
        return
    found = api.bench(file, out=out, replace=replace, trust=trust, ask=asking(), quiet=quiet)
    print(printable(str(found), None, lines=True))
