"""`lingraft evaluate` and `lingraft compare`: what is measured without training, and over several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import Aligned, DryRun, Fields, Format, GpuOption, Quiet, Replace, Trust


def evaluate(
    graft: Annotated[
        list[str] | None, typer.Option("--graft", help="Folder of a graft or of its run, or NAME=FOLDER; repeatable.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Only check gates on this finished run; computes nothing.")
    ] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="Test pairs; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Source language of the test pairs, e.g. de.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="Target language of the test pairs, e.g. en.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="General prompts, to measure what is kept.")] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", help="See `lingraft list suites`; repeatable.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Take model, tests, prompts, suites and seed from this recipe.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The base, if it is not where it was.")] = None,
    gate: Annotated[
        list[str] | None, typer.Option("--gate", help="Exit 1 unless it holds, e.g. retention_min>=97; repeatable.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key, e.g. evaluate.scales=[0.5]; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the evaluation.")] = None,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Measure grafts and their base without training: scorecard, report, gates.

    A gate goes by the end of the 95 % interval: NAME>=NUMBER by the lower, NAME<=NUMBER by the upper one. NAME is gain,
    retention_mean, retention_min, METRIC, SUITE.METRIC.retention, TEST_SET.METRIC.gain and the like.
    """
    from lingraft.cli.evaluate import evaluate_command, gate_command
    from lingraft.cli.layouts import EVALUATE_OPTIONS, FileLayout
    from lingraft.core.errors import UsageError, options

    if run is not None:
        if graft or test or recipe or out or dry_run or replace:
            raise UsageError(
                "--run only checks gates on a finished run; leave out --graft, --test, --recipe, --out, --dry-run and "
                "--replace"
            )
        gate_command(run, gate or [], quiet)
        return
    with options(EVALUATE_OPTIONS if test else {}):
        evaluate_command(
            graft or [],
            out,
            test or [],
            source,
            target,
            prompts,
            suite or [],
            recipe,
            model,
            gate or [],
            overrides or [],
            layout=FileLayout(fields or (), format, aligned or ()),
            dry_run=dry_run,
            gpu=gpu,
            replace=replace,
            quiet=quiet,
            trust=trust,
        )


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs with one base.")],
    metric: Annotated[str, typer.Option("--metric", help="Metric of the gain; by default chrf++.")] = "",
    sort: Annotated[str, typer.Option("--sort", help="gain | retention | lowest | system")] = "gain",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table as CSV.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write the table for LaTeX (booktabs).")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the frontier and tables.")] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="For intervals and tests.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show gain against retention over several runs, and which differences are significant.

    Differences are paired, item by item, on the test sets and suites that all runs share.
    """
    from lingraft.cli.evaluate import compare_command

    compare_command(runs, metric, sort, resamples, seed, as_json, csv, latex, html)
