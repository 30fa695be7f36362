"""`lingraft evaluate` and `lingraft compare`: what is measured without training, and over several runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.cli.gate import check_gates
from lingraft.cli.layouts import EVALUATE_OPTIONS, FileLayout, of_prompts
from lingraft.cli.options import (
    Aligned,
    DryRun,
    Fields,
    Format,
    GpuOption,
    Quiet,
    Replace,
    Trust,
    advise,
    refuse_ignored,
)
from lingraft.cli.run import execute
from lingraft.core.errors import UsageError, options
from lingraft.core.printable import printable
from lingraft.store.disk import refuse_output


def evaluate(
    context: typer.Context,
    graft: Annotated[
        list[str] | None,
        typer.Option("--graft", help="A graft, its run, or org/name[@revision] of the hub, or NAME=GRAFT; repeatable."),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", hidden=True)] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="Test pairs; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Source language of the test pairs, e.g. de.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="Target language of the test pairs, e.g. en.")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompts", help="General prompts, to measure what is kept; repeatable.")
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", help="See `lingraft list suites`; repeatable.", autocompletion=names_of("suites")),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", help="Others' translations of the tests, NAME=FILE of one line each; repeatable."),
    ] = None,
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
    if run is not None:
        refuse_ignored(context, {"run", "gate", "quiet"}, "with --run, which only checks gates on a finished run")
        advise(f"lingraft gate {run}")
        check_gates(run, gate or [], quiet)
        return
    if not graft or out is None:
        raise UsageError("give --graft FOLDER and --out FOLDER; gates of a finished run: lingraft gate FOLDER")
    if {bool(test), bool(source), bool(target)} == {True, False}:
        raise UsageError("--test, --from and --to belong together: the files and their languages")
    layout = FileLayout(fields or (), format, aligned or ())
    if not test:
        layout.refuse_alone()
    with options(of_prompts(EVALUATE_OPTIONS, prompts) if test else {}):
        asked = api.evaluation_recipe(
            graft,
            layout.entries(test, str(source), str(target)) if test else [],
            out=out,
            recipe=recipe,
            model=model,
            prompts=prompts,
            suites=suite or [],
            given=_by_name(given or []),
            gates=gate or [],
            overrides=overrides or [],
        )
        execute(asked, out, dry_run=dry_run, gpu=gpu, replace=replace, trust=trust, quiet=quiet)


def _by_name(texts: list[str]) -> dict[str, str]:
    """Read every NAME=FILE."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path:
            raise UsageError(f"--given {text}: give the name of the system and the file: NAME=FILE")
        if name in found:
            raise UsageError(f"--given {text}: another file is called {name!r}, too; give this one another name")
        found[name] = path
    return found


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of finished runs with one base, or org/name[@revision] of the hub.")
    ],
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
    from lingraft.reporting.comparison import check_order

    check_order(sort)
    given = [(path, option) for path, option in ((csv, "--csv"), (latex, "--latex"), (html, "--html")) if path]
    if len({path.resolve() for path, _ in given}) < len(given):
        raise UsageError("two of --csv, --latex and --html name the same file; give each its own")
    for place, option in given:
        read = [Path(run) / name for run in runs for name in ("scorecard.json", "items.jsonl")]
        refuse_output(place, option, read)
    found = api.compare(runs, metric, resamples=resamples, seed=seed)
    for path, write in ((csv, found.to_csv), (latex, found.to_latex), (html, found.to_html)):
        if path:
            write(path, sort)
    if as_json:
        print(found.to_json(sort=sort), end="")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(found.table(sort))
    for line in ("", *found.sentences):
        console.print(Text(printable(line, None)), soft_wrap=True)
    for note in found.notes:
        print(f"Note: {printable(note, 2000)}", file=sys.stderr)
