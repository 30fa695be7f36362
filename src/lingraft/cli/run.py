"""`lingraft run` and `lingraft tune`: a whole recipe, or one made of options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft import api
from lingraft.api.recipes import PROMPTS
from lingraft.cli.completion import names_of
from lingraft.cli.layouts import TUNE_OPTIONS, FileLayout, of_prompts
from lingraft.cli.options import (
    Aligned,
    DryRun,
    Fields,
    Format,
    GpuOption,
    Quiet,
    RecipeArgument,
    Replace,
    TestAligned,
    TestFields,
    TestFormat,
    Trust,
    refuse_gpu_alone,
)
from lingraft.core.environment import world_size
from lingraft.core.errors import UsageError, options
from lingraft.core.printable import printable

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.trust import Act


def run(
    recipe: RecipeArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, e.g. stages.0.train.epochs=2 pairs.train.0.limit=500.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; by default runs/<name>.")] = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Run a whole recipe: read, synthesise, train, translate, evaluate, report.

    A killed run continues where it was when the same command is given again, or the run's folder as the recipe; a
    finished one does nothing. A folder holds one experiment: another recipe, base, seed or test set needs another
    folder, or --replace.
    """
    execute(recipe, out, overrides=overrides or [], dry_run=dry_run, gpu=gpu, replace=replace, trust=trust, quiet=quiet)


def tune(
    pairs: Annotated[
        str, typer.Option("--pairs", help="Training pairs (JSONL, TSV, CSV, TMX, hub:org/name, opus:TED2020 ...).")
    ],
    test: Annotated[str, typer.Option("--test", help="Held-out pairs.")],
    source: Annotated[str, typer.Option("--from", help="Source language, e.g. de.")],
    target: Annotated[str, typer.Option("--to", help="Target language, e.g. en.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    model: Annotated[str, typer.Option("--model", help="Alias, folder or hub id.")] = "smollm2-135m-instruct",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="keep: vanilla with the base's own answers replayed, and switched on for translations alone; or see "
            "`lingraft list methods`.",
            autocompletion=names_of("methods", "keep"),
        ),
    ] = "keep",
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            help="General prompts, to measure what is kept; repeatable. By default starter:prompts.jsonl.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            help="Also train this method; repeatable. By default vanilla.",
            autocompletion=names_of("methods"),
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option("--epochs", help="Passes over the pairs; a fraction uses a part. Default: 1."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Train on the first N pairs; all by default.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn. Default: 1.")] = None,
    both: Annotated[bool, typer.Option("--both-directions", help="Train each pair in both directions.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key, e.g. seed=2; repeatable.")
    ] = None,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    test_fields: TestFields = None,
    test_format: TestFormat = "auto",
    test_aligned: TestAligned = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Tune a model on pairs and measure what it gained and kept: `run` without writing a recipe.

    Plain fine-tuning (vanilla) is trained as well, to compare with, unless --compare names other methods.
    """
    changes = _changes({"seed": seed, "stages.0.train.epochs": epochs, "pairs.train.0.limit": limit}, overrides or [])
    with options(of_prompts(TUNE_OPTIONS, prompts)):
        recipe = api.tuning_recipe(
            FileLayout(fields or (), format, aligned or ()).entries([pairs], source, target),
            FileLayout(test_fields or (), test_format, test_aligned or (), prefix="--test-").entries(
                [test], source, target
            ),
            source=source,
            target=target,
            name=out.resolve().name,
            model=model,
            method=method,
            prompts=prompts or PROMPTS,
            compare=compare,
            both_directions=both,
            overrides=changes,
            quiet=quiet,
        )
        execute(recipe, out, dry_run=dry_run, gpu=gpu, replace=replace, trust=trust, quiet=quiet)


def _changes(own: Mapping[str, object], overrides: Sequence[str]) -> list[str]:
    """Return the changes to a recipe that options ask for, by key, and those of --set.

    Raises:
        UsageError: one is given in both ways.
    """
    given = {key: value for key, value in own.items() if value is not None}
    for override in overrides:
        key = override.partition("=")[0]
        if key in given:
            raise UsageError(f"--{key.rpartition('.')[2]} and --set {key}=... say the same; give one of them")
    return [*(f"{key}={value}" for key, value in given.items()), *overrides]


def execute(
    recipe: Recipe | str,
    out: Path | None,
    *,
    overrides: Sequence[str] = (),
    dry_run: bool,
    replace: bool,
    quiet: bool,
    gpu: str | None = None,
    trust: bool = False,
) -> None:
    """Run a recipe, or print what that would do.

    What it runs and sends is asked for in a terminal, unless it was allowed before or is by `trust`.

    Raises:
        LingraftError: as `lingraft.api.run`; what can be known before it starts stops the dry run as well.
    """
    refuse_gpu_alone(gpu, dry_run)
    if dry_run:
        found = api.estimate(recipe, overrides, out=out, gpu=gpu, replace=replace)
        print(printable(str(found), None, lines=True))
        return
    api.run(recipe, overrides, out=out, replace=replace, trust=trust, ask=asking(), quiet=quiet)


def asking() -> Callable[[Sequence[Act]], bool] | None:
    """Return what asks the user whether a recipe may run and send what it does; None where there is nobody to ask."""
    return _asked if sys.stdin.isatty() and sys.stderr.isatty() and world_size() == 1 else None


def _asked(wanted: Sequence[Act]) -> bool:
    """List what a recipe runs and sends, in full, and return whether the user allows it."""
    print("lingraft: this recipe", file=sys.stderr)
    for act in wanted:
        print(f"  {printable(act, None)}", file=sys.stderr)
    print("Only go on if you trust who wrote it. Allow this from now on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
