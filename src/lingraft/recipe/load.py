"""Reading, checking and writing recipes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.hub import HubName
from lingraft.core.validation import HOLDS_METRIC, holding, validated, with_paths
from lingraft.data.files import REMOTE, open_file
from lingraft.data.readers import PromptSource
from lingraft.decoders.base import DECODERS
from lingraft.evaluation.published import is_collected
from lingraft.methods.base import METHODS
from lingraft.metrics.base import METRICS
from lingraft.recipe.checks import check_params
from lingraft.recipe.merging import Merge, is_path
from lingraft.recipe.overrides import apply_override
from lingraft.recipe.schema import Recipe, _drop_expected_model
from lingraft.recipe.shipped import shipped_recipes
from lingraft.recipe.stages import Compared, GivenGraft, Part, Stage, with_params
from lingraft.recipe.strict_yaml import values_and_lines, yaml_text
from lingraft.recipe.tasks import with_metrics
from lingraft.suites.base import SUITES

MAX_BYTES = 250_000


def parse_recipe(values: Any, where: str, root: Path, line_of: Callable[[str], int | None] | None = None) -> Recipe:
    """Return the checked recipe with all defaults filled in and relative paths made absolute against `root`.

    Args:
        values: of the YAML.
        where: name of the recipe, for messages.
        root: folder that relative paths start from.
        line_of: gives the line of a dotted key in the file `where`, for messages.

    Raises:
        UsageError: one sentence with the key, what is wrong and the nearest known key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: a recipe is a YAML mapping, such as `name: my-run`, not {type(values).__name__}")
    try:
        recipe = check_params(validated(Recipe, values, ""))
    except UsageError as error:
        line = line_of(error.key) if line_of and error.key else None
        raise UsageError.at(error.key, f"{where}{f', line {line}' if line else ''}: {error}") from error

    def absolute(path: str) -> str:
        if path.startswith(("starter:", *REMOTE)):
            return path
        try:
            return str((root / Path(path).expanduser()).resolve())
        except (OSError, RuntimeError, ValueError) as error:  # NUL, too long, unknown home, loop of links
            raise UsageError(f"{where}: {path[:100]!r} is not a usable path: {error}") from error

    def placed(name: str) -> str:
        """Return where a graft, or what is merged, lies: on the hub, unless there is a folder of that name."""
        repository = None if os.path.lexists(root / name) else HubName.read(name)
        # With its revision nobody takes it for a folder of the current one.
        return f"{repository.repository}@{repository.revision or 'main'}" if repository else absolute(name)

    def resolved(source: Any) -> Any:
        path, place = source.path, placed if isinstance(source, GivenGraft) else absolute
        changes: dict[str, Any] = {"path": place(path) if isinstance(path, str) else list(map(place, path))}
        if isinstance(path, list) and len(set(changes["path"])) < len(path):
            raise UsageError(f"{where}: grafts: {', '.join(path)} are one folder twice; name each graft of a sum once")
        if getattr(source, "target_path", None):
            changes["target_path"] = absolute(source.target_path)
        return source.model_copy(update=changes)

    def of_method(kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return of_entry(METHODS.get(kind).Params, params)

    def of_decoder(choice: Any) -> Any:
        return choice.model_copy(update=of_entry(DECODERS.get(choice.kind).Params, choice.params))

    def of_entry(model: type[BaseModel], params: Mapping[str, Any]) -> dict[str, Any]:
        values = with_paths(model, params, absolute)
        for name in holding(model, HOLDS_METRIC):
            if isinstance(held := values.get(name), Mapping) and held.get("kind") in METRICS:
                values[name] = with_paths(METRICS.get(str(held["kind"])).Params, held, absolute)
        return values

    def with_root(part: Part) -> Mapping[str, Any]:
        return of_method(part.kind, part.params)

    def of_choice(registry: Any, choice: Any) -> Any:
        return choice.model_copy(update=with_paths(registry.get(choice.kind).Params, choice.params, absolute))

    methods = {stage.label: stage.method for stage in recipe.stages}

    def staged(stage: Stage) -> Stage:
        stage = with_params(stage, with_root)
        return stage.model_copy(update={"upon": placed(stage.upon)}) if stage.upon else stage

    def compared(other: Compared) -> Compared:
        changes = {
            name: change.model_copy(update={"params": of_method(methods[name], change.params)})
            for name, change in other.in_stages.items()
        }
        other = other.model_copy(update={"in_stages": changes})
        return with_params(other, with_root) if other.method else other

    def merged(entry: Merge) -> Merge:
        parts = [placed(part) if is_path(part) else part for part in entry.of]
        if twice := next((part for part in parts if parts.count(part) > 1), None):
            raise UsageError(f"{where}: merge: {entry.label!r} names the folder {twice} twice; name it once")
        return entry.model_copy(update={"of": parts})

    evaluate, pairs = recipe.evaluate, recipe.pairs
    suites = [of_choice(SUITES, suite) for suite in evaluate.retention.suites]
    decoders = [of_decoder(choice) for choice in evaluate.decoders]
    local = Path(absolute(recipe.model))
    is_local = recipe.model.startswith((".", "~")) or os.path.isfile(local / "config.json")
    if recipe.revision and is_local:
        raise UsageError(f"{where}: revision: is of a model of the hub, and {recipe.model!r} is a folder; drop it")
    return recipe.model_copy(
        update={
            "model": str(local) if is_local else recipe.model,
            "pairs": pairs.model_copy(
                update={
                    "train": list(map(resolved, pairs.train)),
                    "test": list(map(resolved, pairs.test)),
                    "dev": list(map(resolved, pairs.dev)),
                }
            ),
            "grafts": list(map(resolved, recipe.grafts)),
            "merge": list(map(merged, recipe.merge)),
            "texts": list(map(resolved, recipe.texts)),
            "prompts": _once(list(map(resolved, recipe.prompts)), where) if recipe.prompts else None,
            "stages": list(map(staged, recipe.stages)),
            "compare": list(map(compared, recipe.compare)),
            "evaluate": with_metrics(evaluate, lambda metric, _: of_choice(METRICS, metric)).model_copy(
                update={
                    "given": list(map(resolved, evaluate.given)),
                    "decoders": decoders,
                    "route": [one.model_copy(update={"requests": absolute(one.requests)}) for one in evaluate.route],
                    "retention": evaluate.retention.model_copy(update={"suites": suites}),
                }
            ),
        }
    )


def _once(sources: list[PromptSource], where: str) -> list[PromptSource]:
    """Return sources of prompts of which none is another's rows again.

    Raises:
        UsageError: one is.
    """
    known = [(one.path, one.fields, one.split, one.subset, one.revision) for one in sources]
    for number, one in enumerate(known):
        if one in known[:number]:
            raise UsageError.at(
                f"prompts.{number}", f"{where}: prompts.{number}: {one[0]} is named twice; name it once"
            )
    return sources


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe file, or a shipped one by name, with dotted overrides (`stages.0.train.epochs=2`).

    Raises:
        UsageError: no such recipe, not readable, not YAML, or see `parse_recipe`.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):
        path = path / "recipe.yaml"
        if not path.exists() and is_collected(path.parent):
            raise UsageError(
                f"{name} was collected without its texts and its recipe; take the run itself, where it was made"
            )
        if not path.exists():
            raise UsageError(f"{name} is a folder without recipe.yaml; give a recipe file or the folder of a run")
        name = str(path)
    is_shipped = not os.path.exists(path)
    if not is_shipped:
        text, root = recipe_text(path), path.parent
    else:
        shipped = shipped_recipes()
        if name not in shipped:
            raise UsageError(f"there is no recipe {name!r}{suggestion(name, shipped)}")
        text, root = shipped[name], Path.cwd()
    values, lines = values_and_lines(text, name)
    if isinstance(values, dict):  # else refused below
        for override in overrides:
            apply_override(values, override)
        _drop_expected_model(values, overrides)
    changed = [override.partition("=")[0] for override in overrides]

    def line_of(key: str) -> int | None:
        """What an override changed, or changed something in, has no line."""
        near = (f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.") for other in changed)
        return None if any(near) else lines.of(key)

    return parse_recipe(values, name, root.resolve(), line_of).as_shipped(name if is_shipped else "")


def recipe_text(path: Path) -> str:
    """Return the text of a recipe or bench file.

    Raises:
        UsageError: it cannot be read, or is too large to be one.
    """
    try:
        with open_file(path, str(path)) as handle:
            data = handle.read(MAX_BYTES + 1)  # bounded: it may be a device
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from error
    raise UsageError(f"{path} is larger than {MAX_BYTES // 1000} kB: that is not a recipe")


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that loads to the same recipe."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    return yaml_text(values)
