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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Rows that run at once, each in a process of its own; by default one."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", help="Run the rows on this Ray cluster: auto, host:port or ray://host:port; the folder is shared."
        ),
    ] = None,
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

    With --workers, rows run at once, each with its share of the cores (and of the GPUs); a row waits for what it takes
    of others, and one that fails does not stop those that need nothing of it.
    """
    refuse_gpu_alone(gpu, dry_run)
    if dry_run:
        reckoned = api.estimate_bench(file, out=out, gpu=gpu, replace=replace, workers=workers)
        print(printable(str(reckoned), None, lines=True))
        return
    found = api.bench(file, out=out, replace=replace, trust=trust, ask=asking(), quiet=quiet, workers=workers, ray=ray)
    print(printable(str(found), None, lines=True))
