"""The sections of a recipe that say what is trained or measured: stages, compared systems, grafts, estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.hub import HubName
from lingraft.core.validation import validated
from lingraft.methods.base import METHODS
from lingraft.recipe.choices import NAME, ObjectiveChoice, Section, TunerChoice, run_name
from lingraft.training.settings import TrainSettings


class Beside(Section):
    """A further method whose examples are mixed in."""

    method: str = Field(description="see `lingraft list methods`")
    share: float = Field(gt=0, lt=1, description="of the real tokens of all examples; the first method has the rest")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")


@dataclass(frozen=True)
class Part:
    """One of a stage's methods.

    Attributes:
        kind: the method's registered name.
        params: its parameters.
        share: of the real tokens of all examples; None: what the others leave, of the first.
        key: where it stands in its section of the recipe: "" or `beside.0`.
    """

    kind: str
    params: Mapping[str, Any]
    share: float | None = None
    key: str = ""

    def at(self, where: str) -> str:
        """Return where it stands in the recipe, `where` being the place of its section."""
        return f"{where}.{self.key}" if self.key else where


def _parts(section: Stage | Compared) -> list[Part]:
    others = (Part(other.method, other.params, other.share, f"beside.{k}") for k, other in enumerate(section.beside))
    return [Part(section.method, section.params), *others]


def _each_once(value: list[ObjectiveChoice] | None) -> list[ObjectiveChoice] | None:
    kinds = [one.kind for one in value or ()]
    if repeated := next((kind for kind in kinds if kinds.count(kind) > 1), None):
        raise ValueError(f"the objective {repeated!r} is listed twice; keep one entry of each kind")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


Objectives = Annotated[list[ObjectiveChoice], BeforeValidator(_as_list), AfterValidator(_each_once)]
"""Entries of `objective`; a single one may stand without its list."""

S = TypeVar("S", "Stage", "Compared")


def with_params(section: S, change: Callable[[Part], Mapping[str, Any]]) -> S:
    """Return a stage, or what a compared system has in its place, with other parameters of each of its methods."""
    first, *others = (dict(change(part)) for part in section.parts)
    beside = [other.model_copy(update={"params": params}) for other, params in zip(section.beside, others, strict=True)]
    return section.model_copy(update={"params": first, "beside": beside})


def _one_or_several(value: Any) -> Any:
    """Let `method` be a list: its first entry is the method, the others, with their shares, stand beside it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("method"), list) or not value["method"]:
        return value
    first, *others = value["method"]
    first = {"method": first} if isinstance(first, str) else dict(first)
    if first.keys() - {"method", "params"} or "beside" in value:
        raise ValueError("in a list of methods the first has `method` and `params`, each other also a `share`")
    return {**value, **first, "beside": others}


class Stage(Section):
    """One training stage: methods, the tuner that decides which parameters learn, and the training settings."""

    name: str = Field(
        "", pattern=f"{NAME}|^$", max_length=80, description="in the report and of its folders; default: the methods'"
    )
    method: str = Field("radis", description="see `lingraft list methods`; or a list of methods with shares")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")
    beside: list[Beside] = Field(default_factory=list, description="further methods with their shares of the tokens")
    tuner: TunerChoice = Field(
        default_factory=TunerChoice,
        description="see `lingraft list tuners`; default in a chain: that of the stage before",
    )
    train: TrainSettings = Field(default_factory=TrainSettings, description="training settings")
    objective: Objectives = Field(
        default_factory=list,
        description="what the loss has beside cross-entropy, see `lingraft list objectives`; added to what the methods "
        "ask for, of which an entry of the same kind replaces theirs (`weight: 0` drops it)",
    )
    fresh: bool = Field(
        False, description="merge what was trained before into the base, in memory, and train a new adapter on it"
    )

    upon: str | None = Field(
        None,
        min_length=1,
        description="folder of a graft, or org/name[@revision] of the hub, that is merged into the base, in memory, "
        "while all stages train; what they train is kept without it, to be added to it or another "
        "(`grafts: [[one, other]]`). Of the first stage",
    )

    _listed = model_validator(mode="before")(_one_or_several)

    @model_validator(mode="after")
    def _room_for_the_first(self) -> Stage:
        if sum(other.share for other in self.beside) >= 1:
            raise ValueError("the shares in `beside` leave nothing to the first method; their sum must be below 1")
        return self

    @property
    def parts(self) -> list[Part]:
        """Its methods, the first one first."""
        return _parts(self)

    @property
    def label(self) -> str:
        """Its name, by default those of its methods."""
        return self.name or self.methods

    @property
    def methods(self) -> str:
        """The methods' names in one word."""
        return "+".join(part.kind for part in self.parts)

    def without(self, dropped: Sequence[str]) -> Stage | None:
        """Return the stage without some methods, None where none is left; those left keep their proportions."""
        rest = 1 - sum(other.share for other in self.beside)
        kept = [(rest if part.share is None else part.share, part) for part in self.parts if part.kind not in dropped]
        if not kept:
            return None
        whole = sum(share for share, _ in kept)
        (_, first), *others = kept
        beside = [Beside(method=part.kind, share=share / whole, params=dict(part.params)) for share, part in others]
        return self.model_copy(update={"method": first.kind, "params": first.params, "beside": beside})


class StageChange(Section):
    """What a compared system changes in one stage; what is not given stays as it is."""

    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the stage's first method")
    train: dict[str, Any] = Field(default_factory=dict, description="training settings")
    objective: Objectives | None = Field(None, description="in place of the stage's; []: only what methods ask for")

    def applied(self, stage: Stage, where: str) -> Stage:
        """Return the stage with the changes; `where`: their place, for messages.

        Raises:
            UsageError: a parameter or setting that there is not, or a value that is not right.
        """
        changes: dict[str, Any] = {}
        if self.params:
            entry = METHODS.get(stage.method).Params
            params = validated(entry, {**stage.params, **self.params}, f"{where}.params")
            changes["params"] = params.model_dump(mode="json")
        if self.train:
            changes["train"] = validated(TrainSettings, {**stage.train.model_dump(), **self.train}, f"{where}.train")
        if self.objective is not None:
            changes["objective"] = self.objective
        return stage.model_copy(update=changes)


class Compared(Section):
    """A system trained on the same data for comparison; what is not given is taken from the recipe's own stages.

    `method`, `params`, `beside`, `train` and `objective` replace those of the last stage, `in_stages` changes single
    stages, and `tuner` and `merge` hold for all stages.
    """

    method: str = Field("", description="in place of the last stage's; see `lingraft list methods`")
    without: list[str] = Field(
        default_factory=list, description="methods left out, in whichever stage they are, or names of stages"
    )
    merge: bool = Field(False, description="whether each stage trains an adapter of its own, see a stage's `fresh`")
    vocabulary: bool = Field(True, description="whether it has the recipe's extended vocabulary")
    name: str = Field(
        "",
        pattern=f"{NAME}|^$",
        max_length=80,
        description="name in the report and of its folders; default: the method's",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")
    beside: list[Beside] = Field(default_factory=list, description="further methods with their shares of the tokens")
    tuner: TunerChoice | None = Field(None, description="for all stages; default: the recipe's")
    train: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the recipe's last stage")
    objective: Objectives | None = Field(
        None,
        description="in place of the last stage's; []: only what its methods ask for; default: the recipe's",
    )
    in_stages: dict[str, StageChange] = Field(
        default_factory=dict,
        description="`train`, `params` and `objective` that differ in other stages, by the stage's name",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else _one_or_several(value)

    @model_validator(mode="after")
    def _changes_something(self) -> Compared:
        if not self.method and (self.params or self.beside):
            raise ValueError("the key 'method' is missing: `params` and `beside` belong to one")
        for name, change in self.in_stages.items():
            if not (change.params or change.train) and change.objective is None:
                raise ValueError(f"in_stages.{name} changes nothing; give it `train`, `params` or `objective`")
        given = (self.method, self.without, self.merge, self.tuner, self.train, self.in_stages, not self.vocabulary)
        if not any(given) and self.objective is None:
            raise ValueError("says nothing that differs from the recipe's own system; give a `method`, or `without`")
        return self

    @property
    def parts(self) -> list[Part]:
        """The methods that replace those of the last stage, if it names any."""
        return _parts(self) if self.method else []

    def stages(self, own: Sequence[Stage], where: str = "compare") -> list[Stage]:
        """Return its stages, `own` being those of the recipe's system; `where`: the entry's place, for messages.

        Raises:
            UsageError: a method is left out that no stage has, or none is left; a stage is changed that there is not,
                or its settings are not right; or there is nothing to merge.
        """
        *before, last = self._changed(own, where)
        if self.method:
            last = last.model_copy(
                update={"name": "", "method": self.method, "params": self.params, "beside": self.beside}
            )
        known = {name for stage in own for name in (stage.label, *(part.kind for part in stage.parts))}
        for name in self.without:
            if name not in known:
                raise UsageError(
                    f"{where}: `without` names {name!r}, which is no stage and in none{suggestion(name, known)}"
                )
        if self.method and own[-1].label in self.without:
            raise UsageError(f"{where}: leaves out {own[-1].label!r}, whose method it replaces; drop one of the two")
        stages = [
            kept
            for original, stage in zip(own, (*before, last), strict=True)
            if original.label not in self.without and (kept := stage.without(self.without))
        ]
        if not stages:
            raise UsageError(f"{where}: `without` leaves no method to train with")
        if self.merge and len(stages) == 1:
            raise UsageError(f"{where}: `merge` needs several stages, and there is one; drop it")
        if self.merge:
            stages = [stages[0], *(stage.model_copy(update={"fresh": True}) for stage in stages[1:])]
        if self.tuner:
            stages = [stage.model_copy(update={"tuner": self.tuner}) for stage in stages]
        if self.train:
            settings = {**stages[-1].train.model_dump(), **self.train}
            stages[-1] = stages[-1].model_copy(update={"train": validated(TrainSettings, settings, f"{where}.train")})
        if self.objective is not None:
            stages[-1] = stages[-1].model_copy(update={"objective": self.objective})
        return stages

    def _changed(self, own: Sequence[Stage], where: str) -> list[Stage]:
        """Return the recipe's stages with what `in_stages` changes in them."""
        names = [stage.label for stage in own]
        for name, change in self.in_stages.items():
            if name not in names:
                raise UsageError(f"{where}.in_stages: there is no stage {name!r}{suggestion(name, set(names))}")
            place = f"{where}.in_stages.{name}"
            if names.count(name) > 1:
                raise UsageError(f"{place}: {names.count(name)} stages are called so; give each a `name:` of its own")
            twice = (self.train and change.train) or (self.objective is not None and change.objective is not None)
            if name == names[-1] and (self.method or twice):
                raise UsageError(
                    f"{place}: the last stage is changed beside it as well; give its `train`, `params` and `objective` "
                    f"once, in the entry itself"
                )
            stage = own[names.index(name)]
            if stage.without(self.without) is None or name in self.without:
                raise UsageError(f"{place}: the stage is left out by `without`; drop one of the two")
            if change.params and stage.method in self.without:
                raise UsageError(f"{place}.params: belong to {stage.method!r}, which `without` leaves out")
        return [
            self.in_stages[stage.label].applied(stage, f"{where}.in_stages.{stage.label}")
            if stage.label in self.in_stages
            else stage
            for stage in own
        ]

    def label(self, own: Sequence[Stage], where: str = "compare") -> str:
        """Return its name: the one given, or what it differs in."""
        if self.name or self.method:
            return self.name or self.stages(own, where)[-1].methods
        changes = [f"without-{name}" for name in self.without]
        changes += ["merged"] if self.merge else []
        changes += [self.tuner.kind] if self.tuner else []
        changes += ["base-vocabulary"] if not self.vocabulary else []
        if self.objective is not None:
            changes += [one.kind for one in self.objective] or ["no-objective"]
        return "-".join([own[-1].label, *(changes or ["changed"])])


class GivenGraft(Section):
    """A graft that exists already and is measured beside what is trained; or the sum of several."""

    path: str | list[str] = Field(
        min_length=1, description="a graft's folder, or org/name[@revision] of the hub; a list: of one base, added"
    )
    name: str = Field("", pattern=f"{NAME}|^$", max_length=80, description="in the report; default: the folder's name")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | list) else value

    @field_validator("path")
    @classmethod
    def _named(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not all(value):
            raise ValueError("the name of a folder is empty")
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("a graft is named twice; it would be added twice, which `evaluate.scales` is for")
        return value

    @property
    def paths(self) -> list[str]:
        """The folders: one, or those of grafts that are added."""
        return [self.path] if isinstance(self.path, str) else self.path

    @property
    def label(self) -> str:
        """Its name in the report: of the folder, or of the one around it where that is called `graft`."""
        if self.name:
            return self.name
        return "+".join(map(folder_name, self.paths))[:80]


def folder_name(path: str) -> str:
    """Return what reports call what lies in a folder: the folder's name, or that of the one around a `graft`."""
    named = HubName.read(path)
    parts = [part for part in Path(named.repository if named else path).parts if part not in ("graft", "/", ".", "..")]
    return run_name(parts[-1] if parts else "graft")[:80] or "graft"


class Expected(Section):
    """Facts for the estimates of a dry run where data or model are not at hand; never used otherwise."""

    parameters: float | None = Field(None, gt=0, description="of the model")
    hidden_size: int = Field(4096, gt=0, description="of the model")
    layers: int = Field(32, gt=0, description="of the model")
    vocabulary: int = Field(128_000, gt=0, description="tokens of the model, whose embeddings stay in 16 bits with nf4")
    pairs: int = Field(10_000, gt=0, description="training pairs, each direction counted")
    pair_tokens: float = Field(140, gt=0, description="tokens of request and reference of a mean pair")
    supervised_tokens: float = Field(45, gt=0, description="of them, tokens of the reference")
    text_tokens: float = Field(0.0, ge=0, description="tokens of the documents to pre-train on")
    prompts: int = Field(2000, gt=0, description="general prompts, both halves")
    test_segments: int = Field(2000, gt=0, description="over all test sets")
    peak_tflops: float = Field(400, gt=0, description="of the device, dense bfloat16")
    utilisation: float = Field(0.35, gt=0, le=1, description="share of the peak that training reaches")


@dataclass(frozen=True)
class SystemPlan:
    """What is trained under one name: stages, each of which continues the adapter of the one before it, or merges it.

    `group`: the system of which it is a further seed. `vocabulary`: whether it has the recipe's extended vocabulary.
    """

    name: str
    stages: tuple[Stage, ...]
    seed: int
    group: str | None = None
    vocabulary: bool = True

    @property
    def stage(self) -> Stage:
        """The last stage."""
        return self.stages[-1]
