"""Recipes: read, made of a few arguments, looked at and reckoned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError

if TYPE_CHECKING:
    from lingraft.data.file_checks import Data
    from lingraft.pipeline.announcement import Announcement
    from lingraft.pipeline.preview import PreviewedExample
    from lingraft.recipe.keys import Parameter
    from lingraft.recipe.listing import Entry
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.trust import Act

DEFAULT_MODEL = "smollm2-135m-instruct"
PROMPTS = "starter:prompts.jsonl"
Files = str | Path | Sequence[str | Path]
Grafts = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a checked recipe with all defaults filled in.

    Args:
        recipe: a file, the folder of a run, or the name of a shipped recipe (`list_entries("recipes")`).
        overrides: changes, such as "stages.0.train.epochs=2".

    Raises:
        UsageError: no such recipe, or what is wrong in it, with its key.
    """
    from lingraft.recipe.load import load_recipe

    return load_recipe(str(recipe), overrides)


def tuning_recipe(
    pairs: Data | Sequence[Data],
    test: Data | Sequence[Data],
    *,
    source: str,
    target: str,
    name: str = "tune",
    model: str = DEFAULT_MODEL,
    method: str = "keep",
    prompts: Files = PROMPTS,
    compare: Sequence[str] | None = None,
    both_directions: bool = False,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> Recipe:
    """Return the recipe that `tune` runs.

    Args:
        pairs: training pairs: a file ("hub:org/name", ...), several, or entries as under `pairs:` of a recipe, such as
            {"path": "train.tsv", "fields": {"source": "src", "target": "tgt"}}.
        test: held-out pairs, likewise.
        source: language of the source sides, e.g. "de".
        target: language of the target sides.
        name: of the run.
        model: alias, folder or hub id.
        method: "keep", plain fine-tuning with the base's own answers replayed; or see `list_entries("methods")`.
        prompts: file of general prompts, half of which measure what is kept; or several.
        compare: methods that are trained as well; by default plain fine-tuning.
        both_directions: train each pair in both directions.
        overrides: any key of a recipe, such as "seed=2".
        quiet: do not say what was chosen.

    Raises:
        UsageError: what is wrong, with its key.
    """
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.derived_recipes import tuning_recipe

    return tuning_recipe(
        pairs,
        test,
        source=source,
        target=target,
        name=name,
        model=model,
        method=method,
        prompts=_listed(prompts),
        compare=compare,
        both_directions=both_directions,
        overrides=overrides,
        reporter=Reporter(quiet),
    )


def evaluation_recipe(
    grafts: Grafts,
    tests: Data | Sequence[Data] = (),
    *,
    source: str | None = None,
    target: str | None = None,
    out: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    model: str | None = None,
    prompts: Files | None = None,
    suites: Sequence[str | Mapping[str, Any]] = (),
    given: Mapping[str, str | Path] | None = None,
    gates: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Recipe:
    """Return the recipe that `evaluate` runs.

    Args:
        grafts: a folder of a graft or of its run, several, or several by the names they are to have.
        tests: held-out pairs, as for `tuning_recipe`; by default those of `recipe`.
        source: language of their source sides.
        target: language of their target sides.
        out: folder of the evaluation, whose name is that of the run.
        recipe: gives model, tests, prompts, suites and seed where they are not given.
        model: the base, if it is not where it was.
        prompts: file of general prompts, or several; by default those of `recipe`, else the starter's.
        suites: names, or `kind` with parameters as in a recipe.
        given: files of others' translations of the test set, by the names these systems are to have.
        gates: conditions, such as "retention_min>=97".
        overrides: any key of a recipe, such as "evaluate.scales=[0.5]".

    Raises:
        UsageError: what is missing or wrong, with its key; a run that trains lies in the folder.
        ModelError: no graft, or its base is not found.
    """
    from lingraft.pipeline.derived_recipes import evaluation_recipe, refuse_training_run

    if out is not None:
        refuse_training_run(Path(out))
    if isinstance(grafts, Mapping):
        named = [f"{name}={folder}" for name, folder in grafts.items()]
    else:
        named = [str(graft) for graft in ([grafts] if isinstance(grafts, str | Path) else grafts)]
    sets = [tests] if isinstance(tests, str | Path | Mapping) else list(tests)
    return evaluation_recipe(
        named,
        sets,
        source=source,
        target=target,
        name=Path(out).resolve().name if out is not None else "evaluate",
        recipe=load_recipe(recipe) if isinstance(recipe, str | Path) else recipe,
        model=model,
        prompts=_listed(prompts),
        suites=suites,
        given={name: str(path) for name, path in (given or {}).items()},
        gates=gates,
        overrides=overrides,
    )


def _listed(files: Files | None) -> list[str]:
    """Return one file, several or none as a list."""
    return [str(one) for one in ([files] if isinstance(files, str | Path) else files or ())]


def estimate(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    gpu: str | None = None,
    replace: bool = False,
) -> Announcement:
    """Check everything that can be known before a run starts, and reckon what it costs; as a text, the dry run's.

    Args:
        recipe: as for `run`.
        overrides: likewise.
        out: likewise.
        gpu: name of the card to run on, e.g. "rtx4090"; by default what is here.
        replace: as for `run`.

    Raises:
        LingraftError: what would stop the run as well.
    """
    loaded, folder = placed(recipe, overrides, out, replace)
    from lingraft.pipeline.announcement import announce

    return announce(loaded, folder, gpu, replace=replace)


def preview(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    rows: int = 2,
    trust: bool = False,
    ask: Callable[[Sequence[Act]], bool] | None = None,
) -> Iterator[PreviewedExample]:
    """Return rendered training examples of each stage, as the model sees them; nothing is written.

    The base writes the few answers they need.

    Args:
        recipe: a recipe, or what `load_recipe` takes.
        overrides: changes to a recipe that is named.
        rows: examples of each method.
        trust: as for `run`.
        ask: likewise.

    Raises:
        UsageError: a bad recipe, or what it runs or sends was not allowed.
        LingraftError: data or model cannot be used.
    """
    loaded, _ = placed(recipe, overrides, None, False)
    from lingraft.pipeline.preview import preview_examples
    from lingraft.recipe.trust import require_consent

    require_consent(loaded, trust, ask)
    return preview_examples(loaded, rows)


def list_entries(kind: str) -> list[Entry]:
    """Return what can be named in a recipe: name, one line about it, paper.

    Args:
        kind: "methods", "tuners", "objectives", "decoders", "suites", "engines", "metrics", "deciders", "mergers",
            "documents" or "recipes".

    Raises:
        UsageError: there is no such kind.
    """
    from lingraft.recipe.listing import list_entries

    return list_entries(kind)


def describe_entry(kind: str, name: str) -> tuple[Entry, list[Parameter]]:
    """Return one thing that can be named in a recipe, and its parameters: name, values, default, description.

    Args:
        kind: as for `list_entries`, but "recipes".
        name: of the entry.

    Raises:
        UsageError: there is no such kind or entry, or it needs a package that is not installed.
    """
    from lingraft.recipe.listing import describe_entry

    return describe_entry(kind, name)


def init(recipe: str, file: str | Path | None = None) -> Path:
    """Copy a shipped recipe to edit, comments included, and return the file.

    Args:
        recipe: its name.
        file: to write; by default NAME.yaml in the current folder.

    Raises:
        UsageError: there is no such recipe, or there is such a file already.
    """
    from lingraft.recipe.shipped import copy_recipe

    place = Path(file) if file is not None else Path(f"{recipe}.yaml")
    copy_recipe(recipe, place)
    return place


def show(recipe: Recipe | str | Path, overrides: Sequence[str] = ()) -> str:
    """Return a recipe as YAML with every default filled in and paths made absolute, which loads to the same recipe.

    Args:
        recipe: a recipe, or what `load_recipe` takes.
        overrides: changes to a recipe that is named.

    Raises:
        UsageError: as `load_recipe`.
    """
    from lingraft.recipe.load import dump_recipe

    return dump_recipe(placed(recipe, overrides, None, False)[0])


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of recipes, with the parameters of all that is registered here."""
    from lingraft.recipe.schema_json import recipe_schema

    return recipe_schema()


def key_reference() -> str:
    """Return the reference of all keys of a recipe, made from its schema, as Markdown."""
    from lingraft.recipe.reference import reference

    return reference()


def placed(
    recipe: Recipe | str | Path, overrides: Sequence[str], out: str | Path | None, replace: bool
) -> tuple[Recipe, Path]:
    """Return a recipe, and the folder of its run.

    Raises:
        UsageError: it would go, unasked, into the folder of the run whose recipe it changes; or as `load_recipe`.
    """
    named = isinstance(recipe, str | Path)
    if not named and overrides:
        raise UsageError("a recipe that is loaded takes no overrides; give them to load_recipe")
    loaded = load_recipe(recipe, overrides) if isinstance(recipe, str | Path) else recipe
    itself = out is None and isinstance(recipe, str | Path) and Path(recipe).is_dir()
    if itself and replace:
        raise UsageError(
            f"{recipe} is the run whose recipe is changed; to replace what it published say --out {recipe}"
        )
    default = Path(str(recipe)) if itself else Path("runs") / loaded.name  # a run's name may be another
    return loaded, Path(out) if out is not None else default
