"""Runs: made, compared, gated, and judged by people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.api.recipes import DEFAULT_MODEL, PROMPTS, Files, Grafts, evaluation_recipe, placed, tuning_recipe
from lingraft.core.errors import UsageError

if TYPE_CHECKING:
    from lingraft.data.file_checks import Data
    from lingraft.evaluation.gate import Verdict
    from lingraft.evaluation.raters import Findings
    from lingraft.pipeline.result import Run
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.trust import Act
    from lingraft.reporting.comparison import Comparison
    from lingraft.reporting.sheets import WrittenSheet
    from lingraft.sharing.push import Pushed


def run(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    replace: bool = False,
    trust: bool = False,
    ask: Callable[[Sequence[Act]], bool] | None = None,
    quiet: bool = False,
) -> Run:
    """Run a whole recipe: read, synthesise, train, translate, evaluate, report. A killed run continues.

    Args:
        recipe: a recipe, or what `load_recipe` takes. The folder of a run continues there.
        overrides: changes to a recipe that is named.
        out: folder of the run; by default runs/<name>.
        replace: whether what another recipe published in the folder may be replaced; finished stages are kept.
        trust: whether the recipe may, this time, run and send what `estimate` lists.
        ask: is shown what the recipe runs and sends, and returns whether that is allowed, from then on as well.
        quiet: say only what came out.

    Raises:
        UsageError: a bad recipe; the folder holds another experiment; what it runs or sends was not allowed.
        GateMissedError: a gate of the recipe does not hold. The run is finished: `Run.read(folder)`.
        LingraftError: the work failed; what was finished is kept.
    """
    loaded, folder = placed(recipe, overrides, out, replace)  # what is wrong with it is said before torch is imported
    from lingraft.core.progress import Reporter
    from lingraft.recipe.trust import require_consent

    require_consent(loaded, trust, ask)
    from lingraft.pipeline import run as pipeline  # heavy: after what may be refused
    from lingraft.pipeline.result import Run

    pipeline.run(loaded, folder, Reporter(quiet), replace=replace, trust=True)
    return Run(folder)


def tune(
    pairs: Data | Sequence[Data],
    test: Data | Sequence[Data],
    *,
    source: str,
    target: str,
    out: str | Path,
    model: str = DEFAULT_MODEL,
    method: str = "keep",
    prompts: Files = PROMPTS,
    compare: Sequence[str] | None = None,
    both_directions: bool = False,
    overrides: Sequence[str] = (),
    replace: bool = False,
    trust: bool = False,
    quiet: bool = False,
) -> Run:
    """Tune a model on pairs and measure what it gained and kept: `run` without writing a recipe.

    Args:
        pairs: training pairs, as for `tuning_recipe`.
        test: held-out pairs, likewise.
        source: language of the source sides, e.g. "de".
        target: language of the target sides.
        out: folder of the run.
        model: alias, folder or hub id.
        method: "keep", plain fine-tuning with the base's own answers replayed; or see `list_entries("methods")`.
        prompts: file of general prompts, or several.
        compare: methods that are trained as well; by default plain fine-tuning.
        both_directions: train each pair in both directions.
        overrides: any key of a recipe, such as "seed=2".
        replace: as for `run`.
        trust: likewise.
        quiet: say only what came out.

    Raises:
        LingraftError: as `tuning_recipe` and `run`.
    """
    recipe = tuning_recipe(
        pairs,
        test,
        source=source,
        target=target,
        name=Path(out).resolve().name,
        model=model,
        method=method,
        prompts=prompts,
        compare=compare,
        both_directions=both_directions,
        overrides=overrides,
        quiet=quiet,
    )
    return run(recipe, out=out, replace=replace, trust=trust, quiet=quiet)


def evaluate(
    grafts: Grafts,
    tests: Data | Sequence[Data] = (),
    *,
    out: str | Path,
    source: str | None = None,
    target: str | None = None,
    recipe: Recipe | str | Path | None = None,
    model: str | None = None,
    prompts: Files | None = None,
    suites: Sequence[str | Mapping[str, Any]] = (),
    given: Mapping[str, str | Path] | None = None,
    gates: Sequence[str] = (),
    overrides: Sequence[str] = (),
    replace: bool = False,
    trust: bool = False,
    quiet: bool = False,
) -> Run:
    """Measure grafts and their base without training: scorecard, report, gates.

    Args:
        grafts: a folder of a graft or of its run, several, or several by the names they are to have.
        tests: held-out pairs, as for `tuning_recipe`; by default those of `recipe`.
        out: folder of the evaluation.
        source: language of the source sides of the tests.
        target: language of their target sides.
        recipe: gives model, tests, prompts, suites and seed where they are not given.
        model: the base, if it is not where it was.
        prompts: file of general prompts, or several; by default those of `recipe`, else the starter's.
        suites: names, or `kind` with parameters as in a recipe.
        given: files of others' translations of the test set, by the names these systems are to have.
        gates: conditions, such as "retention_min>=97".
        overrides: any key of a recipe, such as "evaluate.scales=[0.5]".
        replace: as for `run`.
        trust: likewise.
        quiet: say only what came out.

    Raises:
        LingraftError: as `evaluation_recipe` and `run`; also where a run that trains lies in the folder.
    """
    asked = evaluation_recipe(
        grafts,
        tests,
        out=out,
        source=source,
        target=target,
        recipe=recipe,
        model=model,
        prompts=prompts,
        suites=suites,
        given=given,
        gates=gates,
        overrides=overrides,
    )
    return run(asked, out=out, replace=replace, trust=trust, quiet=quiet)


def compare(
    runs: Sequence[Run | str | Path], metric: str = "", *, resamples: int = 10_000, seed: int = 1
) -> Comparison:
    """Set gain against retention over finished runs of one base, and say which differences are significant.

    Args:
        runs: runs or their folders; as a string also a repository of the hub to which a run was pushed.
        metric: of the gain; by default chrF++ where all runs have it.
        resamples: for intervals and tests.
        seed: of the resamples.

    Raises:
        StoreError: a folder without a finished run.
        ModelError: a name of the hub of which nothing can be fetched.
        DataError: runs that cannot be compared.
    """
    from lingraft.evaluation.compared_run import read_runs
    from lingraft.evaluation.comparison import compare
    from lingraft.evaluation.scoring import Resampling
    from lingraft.reporting.comparison import Comparison
    from lingraft.sharing.hub_runs import locate_run

    located = [locate_run(one) if isinstance(one, str) else (_folder(one), "") for one in runs]
    read = read_runs([folder for folder, _ in located], [name for _, name in located])
    found = compare(read, Resampling(resamples, seed), metric)
    return Comparison(found, ", ".join(one.label for one in read))


def check_gates(run: Run | str | Path, gates: Sequence[str] = ()) -> list[Verdict]:
    """Say of each gate whether it holds for a finished run; nothing is computed. See `enforce`.

    Args:
        run: a run or its folder.
        gates: conditions, such as "retention_min>=97"; by default those of the run's recipe.

    Raises:
        UsageError: no gates, or no such names.
        StoreError: no finished run, or not as it was published.
    """
    from lingraft.evaluation.gate import check_gates, parse_gate
    from lingraft.pipeline.result import Run
    from lingraft.recipe.load import load_recipe

    folder = _folder(run)
    scorecard = Run(folder).scorecard
    recipe = load_recipe(str(folder), [f"evaluate.gate={json.dumps(list(gates))}"] if gates else [])
    if not recipe.evaluate.gate:
        raise UsageError(
            f"there is no gate to check: give --gate, or add `gate:` to `evaluate:` in {folder}/recipe.yaml"
        )
    return check_gates([parse_gate(text) for text in recipe.evaluate.gate], scorecard, recipe.headliners)


def export_sheet(
    run: Run | str | Path,
    systems: Sequence[str],
    out: str | Path,
    *,
    n: int = 100,
    seed: int = 0,
    only: Sequence[str] = (),
    reference: bool = False,
    pearmut: str = "",
    raters: int = 1,
) -> WrittenSheet:
    """Draw items of a finished run for human evaluation, blind them, and write them as CSV and as an HTML form.

    Args:
        run: a run or its folder.
        systems: two or more of it, e.g. ["base", "radis"].
        out: folder to write.
        n: items to draw.
        seed: of the draw, the order and the sides.
        only: directions or suites to draw from; by default all directions.
        reference: whether raters see the reference.
        pearmut: write a campaign for Pearmut as well, by this protocol: "ESA", "cESA", "DA" or "MQM"; "": none.
        raters: of the campaign; each rates all items.

    Raises:
        StoreError: no finished run.
        UsageError: no such protocol, or number of raters.
        DataError: unknown systems or groups, or nothing is left to rate.
    """
    from lingraft.reporting.sheets import draw_sheet

    return draw_sheet(
        _folder(run),
        systems,
        Path(out),
        n=n,
        seed=seed,
        only=only,
        reference=reference,
        pearmut=pearmut,
        raters=raters,
    )


def import_sheets(folder: str | Path, filled: Sequence[str | Path] = (), *, seed: int = 0) -> Findings:
    """Say who wins how often, with intervals, and how far the raters agree.

    Args:
        folder: what `export_sheet` wrote; or the ratings of one person that the page of `serve` saved as a file.
        filled: sheets, CSV or JSON, one a rater, or annotations of the campaign in Pearmut, `.jsonl`, of all raters; or
            further files of the page.
        seed: of the bootstrap.

    Raises:
        DataError: a sheet cannot be used; the sentence names the line.
    """
    from lingraft.evaluation.campaign import read_ratings
    from lingraft.evaluation.raters import findings
    from lingraft.evaluation.sheet import read_key
    from lingraft.evaluation.thumbs import read_thumbs

    if Path(folder).is_file():
        return findings(*read_thumbs([Path(folder), *map(Path, filled)]), seed=seed)
    key = read_key(Path(folder))
    return findings(key, [one for path in filled for one in read_ratings(Path(path), key)], seed=seed)


def _folder(run: Run | str | Path) -> Path:
    return Path(run) if isinstance(run, str | Path) else run.folder


def push(
    run: Run | str | Path,
    to: str,
    *,
    private: bool = False,
    branch: str = "main",
    base_model: str = "",
    license: str = "",
    with_outputs: bool = False,
    message: str = "",
    dry_run: bool = False,
    quiet: bool = False,
) -> Pushed:
    """Push a finished run to the Hugging Face hub, in one commit: graft, card with all results, scorecard and report.

    Nothing of the data is pushed, and no path of this machine. The token is that of `hf auth login`, or HF_TOKEN.

    Args:
        run: a finished run, or its folder.
        to: repository, `org/name`; made if there is none.
        private: whether a new repository is private; one that is public is refused then.
        branch: of the repository; made if there is none.
        base_model: hub id of the base; by default that of the recipe, else as the base is known.
        license: as the hub calls it, such as "apache-2.0"; by default that of the base, where its card tells it.
        with_outputs: whether texts of the test sets and what the models wrote go along.
        message: of the commit.
        dry_run: check and prepare all of it, and send nothing.
        quiet: show no progress.

    Raises:
        UsageError: no name of a repository.
        StoreError: the run is not finished, trains nothing, was changed or damaged, or the hub would not take its card.
        LingraftError: nobody is logged in, or the hub refuses or cannot be reached.
    """
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.result import Run
    from lingraft.sharing.push import push

    return push(
        run.folder if isinstance(run, Run) else Path(run),
        to,
        private=private,
        branch=branch,
        base_model=base_model,
        licence=license,
        with_outputs=with_outputs,
        message=message,
        dry_run=dry_run,
        reporter=Reporter(quiet),
    )
