"""The recipe: one YAML that says everything about a run. Typed, overridable, checked before any model is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lingraft.data.checks import CheckLimits
from lingraft.data.files import open_file
from lingraft.data.readers import PairSource, PromptSource
from lingraft.engines import ENGINES
from lingraft.errors import UsageError, suggestion
from lingraft.evaluation.suite import SUITES
from lingraft.evaluation.translation import metric_kind
from lingraft.methods import METHODS
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import TUNERS
from lingraft.validation import validated, with_paths
from lingraft.yaml_text import plain_values

C = TypeVar("C", bound="Choice")

MAX_BYTES = 250_000
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Pairs(_Section):
    """Parallel data."""

    train: list[PairSource] = Field(min_length=1, description="one or several sources of training pairs")
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


class Choice(_Section):
    """A registered thing by `kind`, with its own parameters beside it."""

    model_config = ConfigDict(extra="allow")

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def params(self) -> dict[str, Any]:
        """The parameters beside `kind`."""
        return dict(self.model_extra or {})


class EngineChoice(Choice):
    """A text generation back end."""

    kind: str = "transformers"


class SuiteChoice(Choice):
    """A general-ability suite; `name` tells several of one kind apart."""

    name: str = Field("", pattern=f"{_NAME}|^$", max_length=60, description="in report and ids; default: the kind")

    @property
    def label(self) -> str:
        """The suite's name."""
        return self.name or self.kind


class TunerChoice(Choice):
    """Which parameters learn."""

    kind: str = "lora"


class Beside(_Section):
    """A further method whose examples are mixed in."""

    method: str
    share: float = Field(gt=0, lt=1, description="of the real tokens of all examples; the first method has the rest")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")


def _one_or_several(value: Any) -> Any:
    """Let `method` be a list: its first entry is the method, the others, with their shares, stand beside it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("method"), list) or not value["method"]:
        return value
    first, *others = value["method"]
    first = {"method": first} if isinstance(first, str) else dict(first)
    if first.keys() - {"method", "params"} or "beside" in value:
        raise ValueError("in a list of methods the first has `method` and `params`, each other also a `share`")
    return {**value, **first, "beside": others}


class Stage(_Section):
    """One training stage: methods, the tuner that decides which parameters learn, and the training settings."""

    method: str = Field("radis", description="see `lingraft list methods`; or a list of methods with shares")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")
    beside: list[Beside] = Field(default_factory=list, description="further methods with their shares of the tokens")
    tuner: TunerChoice = Field(default_factory=TunerChoice, description="see `lingraft list tuners`")
    train: TrainSettings = Field(default_factory=TrainSettings, description="training settings")

    _listed = model_validator(mode="before")(_one_or_several)

    @model_validator(mode="after")
    def _room_for_the_first(self) -> Stage:
        if sum(other.share for other in self.beside) >= 1:
            raise ValueError("the shares in `beside` leave nothing to the first method; their sum must be below 1")
        return self

    @property
    def label(self) -> str:
        """The methods' names in one word."""
        return "+".join([self.method, *(other.method for other in self.beside)])


class Compared(_Section):
    """A system trained on the same pairs for comparison; what is not given is taken from the recipe's own stage."""

    method: str
    name: str = Field(
        "",
        pattern=f"{_NAME}|^$",
        max_length=80,
        description="name in the report and of its folders; default: the method's",
    )
    params: dict[str, Any] = Field(default_factory=dict)
    beside: list[Beside] = Field(default_factory=list, description="further methods with their shares of the tokens")
    tuner: TunerChoice | None = None
    train: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the recipe's stage")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else _one_or_several(value)


class Translation(_Section):
    """How translation is measured."""

    metrics: list[str] = Field(default_factory=lambda: ["bleu", "chrf++", "off_target"], min_length=1)
    max_new_tokens: int = Field(256, ge=1, description="longest translation, in tokens")

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            metric_kind(name)
        return value


class Retention(_Section):
    """How kept ability is measured."""

    suites: list[SuiteChoice] = Field(default_factory=lambda: [SuiteChoice(kind="self"), SuiteChoice(kind="refusal")])

    @model_validator(mode="after")
    def _distinct(self) -> Retention:
        names = [suite.label for suite in self.suites]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two suites are called {name!r}; give one of them another `name:`")
        return self


class Evaluate(_Section):
    """What is measured, and how often resampled for the intervals."""

    translation: Translation = Field(default_factory=Translation)
    retention: Retention = Field(default_factory=Retention)
    engine: EngineChoice | None = Field(None, description="answers of base and grafts; default: the recipe's engine")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples for the intervals")


class Expected(_Section):
    """Facts for the estimates of a dry run where data or model are not at hand; never used otherwise."""

    parameters: float = Field(7e9, gt=0, description="of the model")
    hidden_size: int = Field(4096, gt=0)
    layers: int = Field(32, gt=0)
    pairs: int = Field(10_000, gt=0, description="training pairs, each direction counted")
    pair_tokens: float = Field(140, gt=0, description="tokens of request and reference of a mean pair")
    supervised_tokens: float = Field(45, gt=0, description="of them, tokens of the reference")
    test_segments: int = Field(2000, gt=0, description="over all test sets")
    peak_tflops: float = Field(400, gt=0, description="of the device, dense bfloat16")
    utilisation: float = Field(0.35, gt=0, le=1, description="share of the peak that training reaches")


class Recipe(_Section):
    """A whole run."""

    name: str = Field(pattern=_NAME, max_length=80, description="name of the run and its folder")
    model: str = Field("smollm2-135m-instruct", min_length=1, description="alias, local path, or hub id")
    revision: str | None = Field(None, description="revision of a hub model")
    engine: EngineChoice = Field(default_factory=EngineChoice, description="text generation back end")
    pairs: Pairs
    prompts: PromptSource | None = Field(None, description="general prompts: split into replay and retention halves")
    checks: CheckLimits = Field(default_factory=CheckLimits)
    stages: list[Stage] = Field(default_factory=lambda: [Stage()], min_length=1, max_length=1)
    compare: list[Compared] = Field(default_factory=list)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    expected: Expected | None = None
    seed: int = Field(1, ge=0, lt=2**32)

    @field_validator("stages", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _combination(self) -> Recipe:
        names = ["base", *(system.name for system in self.systems())]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two systems are called {name!r}; give one in `compare` another `name:`")
        if self.prompts is None and any(suite.kind == "self" for suite in self.evaluate.retention.suites):
            raise ValueError("the suite 'self' needs general prompts; add `prompts: {path: ...}` or drop the suite")
        return self

    def systems(self) -> list[System]:
        """Return what is trained: the compared systems, then the recipe's own."""
        own = self.stages[0]
        out = []
        for i, other in enumerate(self.compare):
            train = validated(TrainSettings, {**own.train.model_dump(), **other.train}, f"compare.{i}.train")
            stage = Stage(
                method=other.method,
                params=other.params,
                beside=other.beside,
                tuner=other.tuner or own.tuner,
                train=train,
            )
            out.append(System(other.name or stage.label, stage))
        return [*out, System(own.label, own)]


class System:
    """A named training stage."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage


def _check_params(recipe: Recipe) -> Recipe:
    """Check all parameters of registered things and write their defaults into the recipe."""

    def fill(registry: Any, kind: str, params: Mapping[str, Any], where: str) -> dict[str, Any]:
        entry = registry.get(kind)
        return dict(validated(entry.Params, params, where).model_dump(mode="json"))

    def filled(registry: Any, choice: C, where: str) -> C:
        filled = fill(registry, choice.kind, choice.params, where)
        return choice.model_copy(update=filled)

    def fill_methods(stage: Stage | Compared, where: str) -> None:
        for part, place in [(stage, where), *((other, f"{where}.beside.{k}") for k, other in enumerate(stage.beside))]:
            part.params = fill(METHODS, part.method, part.params, f"{place}.params")
            if METHODS.get(part.method).needs_prompts and recipe.prompts is None:
                raise UsageError(f"{place}: method {part.method!r} needs general prompts; add `prompts: {{path: ...}}`")

    for i, stage in enumerate(recipe.stages):
        fill_methods(stage, f"stages.{i}")
        stage.tuner = filled(TUNERS, stage.tuner, f"stages.{i}.tuner")
    for i, other in enumerate(recipe.compare):
        fill_methods(other, f"compare.{i}")
        if other.tuner:
            other.tuner = filled(TUNERS, other.tuner, f"compare.{i}.tuner")
    recipe.engine = filled(ENGINES, recipe.engine, "engine")
    if recipe.evaluate.engine:
        recipe.evaluate.engine = filled(ENGINES, recipe.evaluate.engine, "evaluate.engine")
    choice = recipe.evaluate.engine or recipe.engine
    engine = ENGINES.get(choice.kind)
    if reason := engine.base_only(engine.Params.model_validate(choice.params)):
        raise UsageError(
            f"engine {choice.kind!r} cannot answer with what is trained: {reason}, or set "
            f"`evaluate.engine: transformers` to evaluate in this process"
        )
    retention = recipe.evaluate.retention
    retention.suites = [
        filled(SUITES, suite, f"evaluate.retention.suites.{i}") for i, suite in enumerate(retention.suites)
    ]
    return recipe


def parse_recipe(values: Any, where: str, root: Path) -> Recipe:
    """Return the checked recipe with all defaults filled in and relative paths made absolute against `root`.

    Raises:
        UsageError: one sentence with the key, what is wrong and the nearest known key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: a recipe is a YAML mapping, such as `name: my-run`, not {type(values).__name__}")
    try:
        recipe = _check_params(validated(Recipe, values, ""))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error

    def absolute(path: str) -> str:
        if path.startswith(("starter:", "hub:")):
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
    if recipe.prompts:
        recipe.prompts = resolved(recipe.prompts)
    retention = recipe.evaluate.retention
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
    if os.path.exists(path):
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
    return parse_recipe(values, name, root.resolve())


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
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def apply_override(values: Any, override: str) -> None:
    """Set one dotted key in plain YAML values."""
    key, found, text = override.partition("=")
    if not found or not key:
        raise UsageError(f"override {override!r} is not of the form key.key=value")
    value = plain_values(text, f"override {override!r}")
    parts, node = key.split("."), values
    for i, part in enumerate(parts):
        last, place = i == len(parts) - 1, ".".join(parts[: i + 1])
        index: Any = part
        if isinstance(node, list):
            if not (part.isdecimal() and len(part) < 6 and int(part) < len(node)):
                raise UsageError(f"override {override!r}: {place} is not an entry; there are {len(node)}, from 0")
            index = int(part)
        elif isinstance(node, dict) and part == "0" and part not in node and not last:
            continue  # a single entry written without a list
        elif not isinstance(node, dict):
            raise UsageError(f"override {override!r}: {'.'.join(parts[:i])} holds a plain value, not settings")
        if last:
            node[index] = value
            return
        inner = node[index] if isinstance(node, list) else node.get(index)
        if isinstance(inner, str):  # a short form such as `tuner: lora` grows into its long form
            inner = node[index] = {"method" if parts[0] == "compare" else "kind": inner}
        elif inner is None:
            inner = node[index] = {}
        node = inner
