"""The recipe: one YAML that says everything about a run. Typed, overridable, checked before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from lingraft.choices import EngineChoice
from lingraft.data.checks import CheckLimits
from lingraft.data.files import open_file
from lingraft.data.languages import base_language
from lingraft.data.readers import PairSource, PromptSource, TextSource
from lingraft.data.texts import TextLimits
from lingraft.errors import UsageError, suggestion
from lingraft.evaluation.metrics import METRICS
from lingraft.evaluation.suite import SUITES
from lingraft.methods import METHODS
from lingraft.recipe_checks import check_params
from lingraft.recipe_evaluate import TRANSLATE_TEST, Evaluate
from lingraft.recipe_overrides import apply_override
from lingraft.recipe_stages import NAME, Compared, Expected, GivenGraft, Section, Stage, System
from lingraft.training.settings import VocabularySettings
from lingraft.validation import HUB_ID, validated, with_paths
from lingraft.yaml_text import plain_values, yaml_text

MAX_BYTES = 250_000


class Pairs(Section):
    """Parallel data."""

    train: list[PairSource] = Field(default_factory=list, description="one or several sources of training pairs")
    test: list[PairSource] = Field(min_length=1, description="test sets; never trained on")
    mixture: Literal["proportional", "balanced"] = Field(
        "proportional", description="how several training sources are mixed"
    )

    @field_validator("train", "test", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _distinct(self) -> Pairs:
        names = [f"{source.name} ({source.source}-{source.target})" for source in self.test]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two test sets are called {name}; give one of them another `name:`")
        return self


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=NAME, max_length=80, description="name of the run and its folder")
    model: str = Field("smollm2-135m-instruct", min_length=1, description="alias, local path, or hub id")
    revision: str | None = Field(None, description="revision of a hub model")
    template: dict[str, Any] | None = Field(
        None,
        description="variables of the base's chat template, such as {reasoning_effort: low}; those that switch "
        "thinking off are found and set without it",
    )
    base_id: str | None = Field(
        None, pattern=f"^{HUB_ID}$", description="hub id of a model in a local folder, for the graft and its card"
    )
    repo_id: str | None = Field(
        None, pattern=f"^{HUB_ID}$", description="hub id that the graft will have, for the programs of its card"
    )
    engine: EngineChoice = Field(default_factory=EngineChoice, description="text generation back end")
    pairs: Pairs
    prompts: PromptSource | None = Field(None, description="general prompts: split into replay and retention halves")
    texts: list[TextSource] = Field(default_factory=list, description="documents to pre-train on, of any languages")
    vocabulary: VocabularySettings | None = Field(None, description="pieces and markers the base's vocabulary lacks")
    checks: CheckLimits = Field(default_factory=CheckLimits)
    text_checks: TextLimits = Field(default_factory=TextLimits)
    stages: list[Stage] = Field(
        default_factory=lambda: [Stage()], max_length=8, description="each continues the one before; [] trains nothing"
    )
    compare: list[Compared] = Field(default_factory=list)
    grafts: list[GivenGraft] = Field(default_factory=list, description="existing grafts, measured beside")
    evaluate: Evaluate = Field(default_factory=Evaluate)
    expected: Expected | None = None
    seed: int = Field(1, ge=0, lt=2**32)
    seeds: int | list[int] = Field(
        1, description="trainings of each system: how many (`seed` and those that follow it), or with which seeds"
    )

    _shipped: str = PrivateAttr("")

    @field_validator("stages", "texts", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @field_validator("stages")
    @classmethod
    def _one_lineage(cls, value: list[Stage]) -> list[Stage]:
        if value and value[0].fresh:
            raise ValueError("the first stage has nothing before it to merge; drop its `fresh`")
        for before, stage in pairwise(value):
            if "tuner" not in stage.model_fields_set:
                stage.tuner = before.tuner
            if stage.tuner != before.tuner and not stage.fresh:
                raise ValueError(
                    "all stages continue one adapter and need one tuner; give it in the first stage alone, or begin a "
                    "new adapter with `fresh: true`"
                )
            if stage.train.precision != value[0].train.precision:
                raise ValueError("all stages train on one base and need one `precision`")
        return value

    @model_validator(mode="after")
    def _combination(self) -> Recipe:
        if not self.stages and not self.grafts:
            raise ValueError("there is neither a stage to train nor a graft to measure; add `stages:` or `grafts:`")
        if self.stages and not self.pairs.train:
            raise ValueError("the key 'pairs.train' is missing")
        if self.compare and not self.stages:
            raise ValueError("`compare` takes its settings from the stage, and there is none; add `stages:`")
        names = ["base", *(system.name for system in self.systems()), *(graft.label for graft in self.grafts)]
        if through := self.evaluate.translate_test:
            names.append(TRANSLATE_TEST)
            if not (through.languages or self.native_languages):
                raise ValueError("evaluate.translate_test: there is no language to translate; name its `languages`")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two systems are called {name!r}; give one in `compare` or `grafts` another `name:`")
        if self.prompts is None and any(suite.kind == "self" for suite in self.evaluate.retention.suites):
            raise ValueError("the suite 'self' needs general prompts; add `prompts: {path: ...}` or drop the suite")
        return self

    @field_validator("seeds")
    @classmethod
    def _real_seeds(cls, value: int | list[int]) -> int | list[int]:
        most = 100
        if isinstance(value, int):
            if not 1 <= value <= most:
                raise ValueError(
                    f"{value} trainings of each system are not possible; give 1 to {most}, or a list of seeds"
                )
        elif len(value) > most or len(set(value)) < len(value) or not all(0 <= seed < 2**32 for seed in value):
            raise ValueError(f"give at most {most} different seeds from 0 to {2**32 - 1}")
        return value

    def __eq__(self, other: object) -> bool:
        """Where a recipe was read from is no part of what it says."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    @property
    def shipped(self) -> str:
        """Name of the recipe in the package that this one is, but for overrides; empty for a file."""
        return self._shipped

    @shipped.setter
    def shipped(self, name: str) -> None:
        self._shipped = name

    @property
    def further_seeds(self) -> list[int]:
        """Seeds of the trainings beside the one with `seed`."""
        if isinstance(self.seeds, int):
            return [(self.seed + i) % 2**32 for i in range(1, self.seeds)]
        return [seed for seed in self.seeds if seed != self.seed]

    @property
    def native_languages(self) -> list[str]:
        """The languages that a chat model is carried to: those with a marker."""
        if self.vocabulary is None:
            return []
        codes = self.vocabulary.languages or [source.lang for source in self.texts]
        return [code for code in dict.fromkeys(base_language(code) for code in codes) if code != "en"]

    @property
    def precision(self) -> str:
        """Type of the base's weights: that of training, so that base and graft are compared in one type."""
        return self.stages[0].train.precision if self.stages else self.evaluate.precision

    @property
    def headliners(self) -> list[str]:
        """The systems the run is about: its own, or where nothing is trained the given grafts."""
        return [self.stages[-1].label] if self.stages else [graft.label for graft in self.grafts]

    def systems(self) -> list[System]:
        """Return what is trained: the compared systems, then the recipe's own, then all of them with further seeds."""
        if not self.stages:
            return []
        made = [
            System(
                other.label(self.stages, f"compare.{i}"),
                tuple(other.stages(self.stages, f"compare.{i}")),
                self.seed,
                vocabulary=other.vocabulary,
            )
            for i, other in enumerate(self.compare)
        ]
        made.append(System(self.stages[-1].label, tuple(self.stages), self.seed))
        again = [
            replace(s, name=f"{s.name}#{seed}", seed=seed, group=s.name) for seed in self.further_seeds for s in made
        ]
        return [*made, *again]


def parse_recipe(values: Any, where: str, root: Path) -> Recipe:
    """Return the checked recipe with all defaults filled in and relative paths made absolute against `root`.

    Raises:
        UsageError: one sentence with the key, what is wrong and the nearest known key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: a recipe is a YAML mapping, such as `name: my-run`, not {type(values).__name__}")
    try:
        recipe = check_params(validated(Recipe, values, ""))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error

    def absolute(path: str) -> str:
        if path.startswith(("starter:", "hub:", "sacrebleu:")):
            return path
        try:
            return str((root / Path(path).expanduser()).resolve())
        except (OSError, RuntimeError, ValueError) as error:  # NUL, too long, unknown home, loop of links
            raise UsageError(f"{where}: {path[:100]!r} is not a usable path: {error}") from error

    def resolved(source: Any) -> Any:
        changes: dict[str, Any] = {"path": absolute(source.path)}
        if getattr(source, "target_path", None):
            changes["target_path"] = absolute(source.target_path)
        return source.model_copy(update=changes)

    recipe.pairs.train = [resolved(source) for source in recipe.pairs.train]
    recipe.pairs.test = [resolved(source) for source in recipe.pairs.test]
    recipe.grafts = [resolved(graft) for graft in recipe.grafts]
    recipe.texts = [resolved(source) for source in recipe.texts]
    methods = {stage.label: stage.method for stage in recipe.stages}
    for other in recipe.compare:
        for name, change in other.in_stages.items():
            change.params = with_paths(METHODS.get(methods[name]).Params, change.params, absolute)
    asking: list[Stage | Compared] = [*recipe.stages, *(other for other in recipe.compare if other.method)]
    for part in asking:
        for each in (part, *part.beside):
            each.params = with_paths(METHODS.get(each.method).Params, each.params, absolute)
    if recipe.prompts:
        recipe.prompts = resolved(recipe.prompts)
    retention, translation = recipe.evaluate.retention, recipe.evaluate.translation
    translation.metrics = [
        metric.model_copy(update=with_paths(METRICS.get(metric.kind).Params, metric.params, absolute))
        for metric in translation.metrics
    ]
    retention.suites = [
        suite.model_copy(update=with_paths(SUITES.get(suite.kind).Params, suite.params, absolute))  # type: ignore[attr-defined]
        for suite in retention.suites
    ]
    local = Path(absolute(recipe.model))
    if recipe.model.startswith((".", "~")) or os.path.isfile(local / "config.json"):
        recipe.model = str(local)
    return recipe


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe file, or a shipped one by name, with dotted overrides (`stages.0.train.epochs=2`).

    Raises:
        UsageError: no such recipe, not readable, not YAML, or see `parse_recipe`.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):
        path = path / "recipe.yaml"
        if not path.exists():
            raise UsageError(f"{name} is a folder without recipe.yaml; give a recipe file or the folder of a run")
    is_shipped = not os.path.exists(path)
    if not is_shipped:
        text, root = _text(path), path.parent
    else:
        shipped = shipped_recipes()
        if name not in shipped:
            raise UsageError(f"there is no recipe {name!r}{suggestion(name, shipped)}")
        text, root = shipped[name], Path.cwd()
    values = plain_values(text, name)
    if isinstance(values, dict):  # else refused below
        for override in overrides:
            apply_override(values, override)
        _drop_expected_model(values, overrides)
    recipe = parse_recipe(values, name, root.resolve())
    recipe.shipped = name if is_shipped else ""
    return recipe


def _drop_expected_model(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Drop what a recipe expects of its model where another model was put in its place."""
    keys = {override.partition("=")[0] for override in overrides}
    expected = values.get("expected")
    if "model" in keys and isinstance(expected, dict):
        for name in ("parameters", "hidden_size", "layers", "vocabulary"):
            if f"expected.{name}" not in keys and "expected" not in keys:
                expected.pop(name, None)


def _text(path: Path) -> str:
    try:
        with open_file(path, str(path)) as handle:
            data = handle.read(MAX_BYTES + 1)  # bounded: it may be a device
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from error
    raise UsageError(f"{path} is larger than {MAX_BYTES // 1000} kB: that is not a recipe")


def shipped_recipes() -> dict[str, str]:
    """Return the shipped recipes: name -> YAML text."""
    folder = files("lingraft").joinpath("recipes")
    return {
        entry.name.removesuffix(".yaml"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that loads to the same recipe."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    return yaml_text(values)
