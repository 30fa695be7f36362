"""Recipes made of a few arguments: to tune on a file of pairs, and to evaluate existing grafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.progress import Reporter
from lingraft.data.file_checks import Data, pair_entries
from lingraft.methods.base import METHODS
from lingraft.models.graft import find_base, find_graft, read_info
from lingraft.models.graft_names import graft_folder, hub_graft
from lingraft.pipeline.dry_run import fitting_tokens_per_step
from lingraft.recipe.choices import run_name
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.recipe.overrides import apply_override
from lingraft.recipe.routes import routable
from lingraft.recipe.schema import Recipe

KEPT = (
    *("model", "revision", "template", "engine", "prompts", "texts", "text_checks", "checks", "evaluate", "seed"),
    "expected",
)
"""Keys of a recipe that say how to evaluate."""

KEEP = "keep"
"""Name of the stage of the shipped recipe `keep-de-en`, and of what `tune` takes instead of a method."""
PRESETS: dict[str, dict[str, Any]] = {
    KEEP: {
        "method": "vanilla",
        "name": KEEP,
        "beside": [{"method": "recovery", "share": 0.4, "params": {"max_answer_tokens": 96, "targets": "soft"}}],
    }
}
"""Stages of several methods that `tune` knows by a name: plain fine-tuning with the base's own answers replayed."""
DECIDERS = {KEEP: "classifier"}
"""What decides when such a graft is on, as it was measured (docs/results.md); `form` decides of all others."""


def tuning_recipe(
    pairs: Data | Sequence[Data],
    test: Data | Sequence[Data],
    *,
    source: str,
    target: str,
    name: str,
    model: str,
    method: str,
    prompts: Sequence[str],
    compare: Sequence[str] | None,
    both_directions: bool,
    overrides: Sequence[str],
    reporter: Reporter,
) -> Recipe:
    """Return the recipe that tunes a model on pairs, with as many tokens a step as suits little data, and measures it
    switched on for translations alone as well.

    Args:
        pairs: training pairs, see `pair_entries`.
        test: held-out pairs, likewise.
        source: language code of the source sides, where the files do not name theirs.
        target: language code of the target sides, likewise.
        name: of the run, or of its folder.
        model: alias, folder or hub id.
        method: what to train by, or one of `PRESETS`.
        prompts: files of general prompts.
        compare: methods to train beside it; None: plain fine-tuning.
        both_directions: whether each pair is trained in both.
        overrides: as for a recipe.
        reporter: is told what was chosen.

    Raises:
        UsageError: no such method; or see `parse_recipe`.
    """
    if method not in PRESETS and method not in METHODS:
        raise UsageError(f"unknown method {method!r}{suggestion(method, [*PRESETS, *METHODS])}")
    values: dict[str, Any] = {
        "name": run_name(name) or "tune",
        "model": model,
        "pairs": {
            "train": [{**one, "both_directions": both_directions} for one in pair_entries(pairs, source, target)],
            "test": pair_entries(test, source, target),
        },
        "prompts": [{"path": path} for path in prompts],
        "stages": [deepcopy(PRESETS.get(method, {"method": method}))],
        "compare": list(compare if compare is not None else ([] if method == "vanilla" else ["vanilla"])),
    }
    for change in overrides:
        apply_override(values, change)
    recipe = parse_recipe(values, "tune", Path.cwd())
    if "tokens_per_step" not in recipe.stages[0].train.model_fields_set and (fits := fitting_tokens_per_step(recipe)):
        reporter.say(f"tokens_per_step: {fits}, since there is little data; or set stages.0.train.tokens_per_step")
        apply_override(values, f"stages.0.train.tokens_per_step={fits}")
        recipe = parse_recipe(values, "tune", Path.cwd())
    # The same graft, switched on for translations alone: nothing is trained or written for it.
    own = [plan for plan in recipe.systems() if plan.name == recipe.stages[-1].label]
    said = "route" in values.get("evaluate", {})
    if not said and all(routable(recipe, plan) for plan in own):
        apply_override(values, f"evaluate.route=[{{by: {DECIDERS.get(method, 'form')}}}]")
        recipe = parse_recipe(values, "tune", Path.cwd())
    return recipe


def evaluation_recipe(
    grafts: Sequence[str],
    tests: Sequence[Data],
    *,
    source: str | None,
    target: str | None,
    name: str,
    recipe: Recipe | None,
    model: str | None,
    prompts: Sequence[str],
    suites: Sequence[str | Mapping[str, Any]],
    given: Mapping[str, str],
    gates: Sequence[str],
    overrides: Sequence[str],
) -> Recipe:
    """Return the recipe that measures grafts and their base without training.

    Args:
        grafts: folders of grafts or of their runs, or names of the hub; or NAME=GRAFT.
        tests: held-out pairs, see `pair_entries`; none: those of `recipe`.
        source: language code of the tests' source sides, where they do not name theirs.
        target: language code of their target sides, likewise.
        name: of the run, or of its folder.
        recipe: gives model, tests, prompts, suites and seed where they are not given.
        model: the base, where it is not where it was.
        prompts: files of general prompts.
        suites: names, or as in a recipe.
        given: files of others' translations of the test set, by the names these systems are to have.
        gates: conditions to hold.
        overrides: as for a recipe.

    Raises:
        UsageError: there is no test set, or see `parse_recipe`.
        ModelError: no graft, or its base is not found.
    """
    if not tests and not recipe:
        raise UsageError("give test sets: --test FILE --from LANG --to LANG, or a recipe that names them: --recipe")
    listed = [_named(text) for text in grafts]
    values: dict[str, Any] = {"prompts": {"path": "starter:prompts.jsonl"}, "evaluate": {}, "pairs": {}}
    if recipe:
        dumped = recipe.model_dump(mode="json", exclude_none=True)
        values |= {key: dumped[key] for key in KEPT if key in dumped}
        values["evaluate"]["precision"] = recipe.precision
        values["pairs"] = {"test": dumped["pairs"]["test"]}
    else:
        first = graft_folder(listed[0]["path"])
        info = read_info(first)
        values["model"] = model or find_base(info, first).name
        if info.template:
            values["template"] = info.template
    if tests:
        values["pairs"] = {"test": pair_entries(tests, source, target)}
        values["evaluate"].pop("given", None)  # they translate other tests
    if given:
        values["evaluate"]["given"] = [{"name": name, "path": path} for name, path in given.items()]
    if prompts:
        values["prompts"] = [{"path": path} for path in prompts]
    if model:
        values["model"] = model
    if suites:
        values["evaluate"]["retention"] = {"suites": list(suites)}
    if gates:
        values["evaluate"]["gate"] = list(gates)
    values |= {"name": run_name(name)[:80] or "evaluate", "stages": [], "grafts": listed}
    for change in overrides:
        apply_override(values, change)
    return parse_recipe(values, "evaluate", Path.cwd()).as_shipped(recipe.shipped if recipe else "")


def refuse_training_run(folder: Path) -> None:
    """Refuse to evaluate into the folder of a run that trains.

    Raises:
        UsageError: it is one.
    """
    if (folder / "recipe.yaml").is_file() and load_recipe(str(folder)).stages:
        raise UsageError(f"{folder} holds a run that trains; choose another folder with --out")


def _named(text: str) -> dict[str, str]:
    """Read `GRAFT` or `NAME=GRAFT`: the folder of a graft or of a run with one, or a name of the hub."""
    name, found, path = text.partition("=")
    if found and not Path(text).exists():
        return {"name": name, "path": _placed(path)}
    return {"path": _placed(text)}


def _placed(graft: str) -> str:
    return graft if hub_graft(graft) else str(find_graft(Path(graft)))
