"""What `lingraft evaluate` and `lingraft compare` do; `cli.py` declares them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lingraft.cli.layouts import FileLayout
from lingraft.core.errors import UsageError, suggestion
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.store.disk import refuse_output

KEPT = (
    *("model", "revision", "template", "engine", "prompts", "texts", "text_checks", "checks", "evaluate", "seed"),
    "expected",
)
"""Keys of a recipe that say how to evaluate."""


def evaluate_command(
    grafts: Sequence[str],
    out: Path | None,
    tests: Sequence[str],
    source: str | None,
    target: str | None,
    prompts: str | None,
    suites: Sequence[str],
    recipe: str | None,
    model: str | None,
    gates: Sequence[str],
    overrides: Sequence[str],
    *,
    layout: FileLayout | None = None,
    dry_run: bool = False,
    replace: bool = False,
    quiet: bool = False,
    gpu: str | None = None,
    trust: bool = False,
) -> None:
    """Measure grafts and their base without training.

    Raises:
        UsageError: options that do not fit together. GateMissedError: a gate does not hold.
    """
    from lingraft.cli.run import execute
    from lingraft.models.graft import find_base, read_info
    from lingraft.recipe.load import load_recipe, parse_recipe
    from lingraft.recipe.overrides import apply_override

    if not grafts or out is None:
        raise UsageError("give --graft FOLDER and --out FOLDER, or --run FOLDER to check gates on a finished run")
    if bool(tests) != bool(source and target):
        raise UsageError("--test, --from and --to belong together: the files and their languages")
    if not tests:
        (layout or FileLayout()).refuse_alone()
    if not tests and not recipe:
        raise UsageError("give test sets: --test FILE --from LANG --to LANG, or a recipe that names them: --recipe")
    _refuse_training_run(out)
    listed = [_named(text) for text in grafts]
    values: dict[str, Any] = {"prompts": {"path": "starter:prompts.jsonl"}, "evaluate": {}, "pairs": {}}
    if recipe:
        loaded = load_recipe(recipe)
        dumped = loaded.model_dump(mode="json", exclude_none=True)
        values |= {key: dumped[key] for key in KEPT if key in dumped}
        values["evaluate"]["precision"] = loaded.precision
        values["pairs"] = {"test": dumped["pairs"]["test"]}
    else:
        first = Path(listed[0]["path"])
        info = read_info(first)
        values["model"] = model or find_base(info, first).name
        if info.template:
            values["template"] = info.template
    if tests:
        values["pairs"] = {"test": (layout or FileLayout()).entries(tests, str(source), str(target))}
    if prompts:
        values["prompts"] = {"path": prompts}
    if model:
        values["model"] = model
    if suites:
        values["evaluate"]["retention"] = {"suites": list(suites)}
    if gates:
        values["evaluate"]["gate"] = list(gates)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name).lstrip("._-")[:80] or "evaluate"
    values |= {"name": name, "stages": [], "grafts": listed}
    for change in overrides:
        apply_override(values, change)
    asked = parse_recipe(values, "evaluate", Path.cwd())
    if recipe:
        asked.shipped = loaded.shipped
    execute(asked, out, dry_run=dry_run, replace=replace, quiet=quiet, gpu=gpu, trust=trust)


def _named(text: str) -> dict[str, str]:
    """Read `FOLDER` or `NAME=FOLDER`; a folder may be that of a run with a graft."""
    from lingraft.models.graft import find_graft

    name, found, path = text.partition("=")
    if found and not Path(text).exists():
        return {"name": name, "path": str(find_graft(Path(path)))}
    return {"path": str(find_graft(Path(text)))}


def _refuse_training_run(folder: Path) -> None:
    from lingraft.recipe.load import load_recipe

    if (folder / "recipe.yaml").is_file() and load_recipe(str(folder)).stages:
        raise UsageError(f"{folder} holds a run that trains; choose another folder with --out")


def gate_command(folder: Path, gates: Sequence[str], quiet: bool) -> None:
    """Check gates on a finished run; nothing is computed.

    Args:
        gates: by default those of the run's recipe.

    Raises:
        UsageError: no gates, or no such names. StoreError: no finished run, or not as it was published.
        GateMissedError: one does not hold.
    """
    from lingraft.evaluation.comparison import read_scorecard
    from lingraft.evaluation.published import open_run
    from lingraft.pipeline.run import enforce_gates
    from lingraft.recipe.load import load_recipe

    scorecard = read_scorecard(open_run(folder))
    recipe = load_recipe(str(folder), [f"evaluate.gate={list(gates)!r}"] if gates else [])
    if not recipe.evaluate.gate:
        raise UsageError(
            f"there is no gate to check: give --gate, or add `gate:` to `evaluate:` in {folder}/recipe.yaml"
        )
    enforce_gates(recipe, scorecard, Reporter(quiet))


def compare_command(
    folders: Sequence[Path],
    metric: str,
    sort: str,
    resamples: int,
    seed: int,
    as_json: bool,
    csv: Path | None,
    latex: Path | None,
    html: Path | None,
) -> None:
    """Print one frontier over finished runs, and write it to files.

    Raises:
        StoreError: a folder without a finished run. DataError: runs that cannot be compared.
    """
    from lingraft.evaluation.comparison import compare, read_runs
    from lingraft.evaluation.scoring import Resampling
    from lingraft.reporting import comparison_page as reporting
    from lingraft.store.files import write_atomic

    if sort not in reporting.COLUMNS:
        raise UsageError(f"the table cannot be sorted by {sort!r}{suggestion(sort, reporting.COLUMNS)}")
    given = [(path, option) for path, option in ((csv, "--csv"), (latex, "--latex"), (html, "--html")) if path]
    if len({path.resolve() for path, _ in given}) < len(given):
        raise UsageError("two of --csv, --latex and --html name the same file; give each its own")
    for place, option in given:
        refuse_output(
            place, option, [folder / name for folder in folders for name in ("scorecard.json", "items.jsonl")]
        )
    runs = read_runs(folders)
    found = compare(runs, Resampling(resamples, seed), metric)
    title = ", ".join(run.label for run in runs)
    for path, text in (
        (csv, lambda: reporting.comparison_csv(found, sort)),
        (latex, lambda: reporting.comparison_latex(found, sort)),
        (html, lambda: reporting.comparison_html(found, title, sort)),
    ):
        if path:
            write_atomic(path, text())
    if as_json:
        print(reporting.comparison_json(found, sort), end="")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(reporting.comparison_table(found, sort))
    for line in ("", *reporting.undecided(found), reporting.method_line(found)):
        console.print(Text(printable(line, None)), soft_wrap=True)
    for note in found.notes:
        print(f"Note: {printable(note, 2000)}", file=sys.stderr)
