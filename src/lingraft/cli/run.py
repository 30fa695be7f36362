"""What `lingraft run` and `lingraft tune` do; `cli.py` declares them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.cli.layouts import FileLayout
from lingraft.core.errors import UsageError
from lingraft.core.printable import printable

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.trust import Act


def run_command(
    recipe: str,
    overrides: Sequence[str],
    out: Path | None,
    dry_run: bool,
    replace: bool,
    quiet: bool,
    gpu: str | None = None,
    trust: bool = False,
) -> None:
    """Run a recipe, or say what that would do; the folder of a run continues there unless `out` is given.

    Raises:
        UsageError: it would go, unasked, into the folder of the run whose recipe it changes.
    """
    from lingraft.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides)
    itself = out is None and Path(recipe).is_dir()
    folder = out or (Path(recipe) if itself else Path("runs") / loaded.name)  # a run's name may be another
    if itself and replace:
        raise UsageError(
            f"{recipe} is the run whose recipe is changed; to replace what it published say --out {recipe}"
        )
    execute(loaded, folder, dry_run=dry_run, replace=replace, quiet=quiet, gpu=gpu, trust=trust)


def tune_command(
    pairs: str,
    test: str,
    source: str,
    target: str,
    out: Path,
    model: str,
    method: str,
    prompts: str,
    compare: Sequence[str] | None,
    both: bool,
    overrides: Sequence[str],
    layout: FileLayout,
    test_layout: FileLayout,
    dry_run: bool,
    replace: bool,
    quiet: bool,
    gpu: str | None = None,
    trust: bool = False,
) -> None:
    """Make a recipe of the options and run it, or say what that would do."""
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.dry_run import fitting_tokens_per_step
    from lingraft.recipe.load import parse_recipe
    from lingraft.recipe.overrides import apply_override

    values: dict[str, object] = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name).lstrip("._-") or "tune",
        "model": model,
        "pairs": {
            "train": [{**entry, "both_directions": both} for entry in layout.entries([pairs], source, target)],
            "test": test_layout.entries([test], source, target),
        },
        "prompts": {"path": prompts},
        "stages": [{"method": method}],
        "compare": list(compare if compare is not None else ([] if method == "vanilla" else ["vanilla"])),
    }
    for change in overrides:
        apply_override(values, change)
    recipe = parse_recipe(values, "tune", Path.cwd())
    if "tokens_per_step" not in recipe.stages[0].train.model_fields_set and (fits := fitting_tokens_per_step(recipe)):
        Reporter(quiet).say(
            f"tokens_per_step: {fits}, since there is little data; or set stages.0.train.tokens_per_step"
        )
        apply_override(values, f"stages.0.train.tokens_per_step={fits}")
        recipe = parse_recipe(values, "tune", Path.cwd())
    execute(recipe, out, dry_run=dry_run, replace=replace, quiet=quiet, gpu=gpu, trust=trust)


def execute(
    recipe: Recipe,
    folder: Path,
    *,
    dry_run: bool,
    replace: bool,
    quiet: bool,
    gpu: str | None = None,
    trust: bool = False,
) -> None:
    """Run a recipe in a folder, or print what that would do.

    What it runs and sends is asked for in a terminal, unless it was allowed before or is by `trust`.

    Raises:
        LingraftError: as `lingraft.pipeline.run.run`; what can be known before it starts stops the dry run as well.
    """
    if gpu and not dry_run:
        raise UsageError("--gpu is about estimates, and goes with --dry-run")
    if dry_run:
        from lingraft.pipeline.dry_run import describe
        from lingraft.pipeline.experiment import Experiment
        from lingraft.pipeline.questions import check_unstarted
        from lingraft.pipeline.trial import rehearse
        from lingraft.recipe.files import check_grafts

        Experiment(recipe).refuse_other(folder, replace)
        check_grafts(recipe)
        tried = rehearse(recipe)  # first: what cannot be trained need not be reckoned
        told = [*_listed(recipe), describe(recipe, folder, tried, gpu), *check_unstarted(recipe)]
        print("\n".join(printable(text, None, lines=True) for text in told))
        return
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.run import run

    allow(recipe, trust)
    run(recipe, folder, Reporter(quiet), replace=replace, trust=True)


def _listed(recipe: Recipe) -> list[str]:
    """Return what a dry run says about what a recipe runs and sends."""
    from lingraft.recipe.trust import acts, open_acts

    found = acts(recipe)
    if not found:
        return []
    consent = "needs your consent: asked once in a terminal, else --trust" if open_acts(recipe) else "allowed"
    return [f"Runs and sends ({consent}):", *(f"  {act}" for act in found)]


def allow(recipe: Recipe, trust: bool) -> None:
    """See to it that what a recipe runs and sends is allowed, before anything of it starts.

    Raises:
        UsageError: it is not, and there is no terminal in which to ask, or the answer is no.
    """
    from lingraft.pipeline.processes import world_size
    from lingraft.recipe.trust import require_consent

    asked = sys.stdin.isatty() and sys.stderr.isatty() and world_size() == 1
    require_consent(recipe, trust, _asked if asked else None)


def _asked(wanted: Sequence[Act]) -> bool:
    """List what a recipe runs and sends, in full, and return whether the user allows it."""
    print("lingraft: this recipe", file=sys.stderr)
    for act in wanted:
        print(f"  {printable(act, None)}", file=sys.stderr)
    print("Only go on if you trust who wrote it. Allow this from now on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
