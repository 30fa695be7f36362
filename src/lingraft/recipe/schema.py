"""The recipe: one YAML that says everything about a run. Typed, overridable, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from lingraft.core.errors import UsageError, placed, suggestion
from lingraft.core.tasks import TASKS, Task
from lingraft.core.validation import HUB_ID
from lingraft.data.document_checks import TextLimits
from lingraft.data.pair_checks import CheckLimits
from lingraft.data.readers import MeasuredSource, PairSource, PromptSource, TextSource, directions_of
from lingraft.language.codes import base_language
from lingraft.methods.base import METHODS
from lingraft.recipe.choices import NAME, EngineChoice, Section
from lingraft.recipe.evaluation import TRANSLATE_TEST, Evaluate, GivenTranslations, RoutedSystem
from lingraft.recipe.merging import Merge, MergePlan
from lingraft.recipe.overrides import listed
from lingraft.recipe.stages import Compared, Expected, GivenGraft, Stage, SystemPlan
from lingraft.vocabulary.settings import VocabularySettings


class Pairs(Section):
    """Parallel data."""

    train: list[PairSource] = Field(default_factory=list, description="one or several sources of training pairs")
    test: list[MeasuredSource] = Field(min_length=1, description="test sets; never trained on")
    dev: list[PairSource] = Field(
        default_factory=list,
        description="development sets; measured while training goes on, and never trained on",
    )
    dev_share: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="in place of `dev`: the share of the training pairs that are held out for it, by their ids; "
        "documents stay whole",
    )
    mixture: Literal["proportional", "balanced"] = Field(
        "proportional", description="how several training sources are mixed"
    )
    direction_weights: dict[str, float] = Field(
        default_factory=dict,
        description="share of a direction's pairs that is trained on, such as {de-en: 1, en-de: 0.5}, drawn by their "
        "ids; all of directions that are not named",
    )

    @field_validator("train", "test", "dev", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value, "path")

    @field_validator("test")
    @classmethod
    def _in_both(cls, value: list[MeasuredSource]) -> list[MeasuredSource]:
        return [one for given in value for one in given.ways]

    @model_validator(mode="after")
    def _weighed(self) -> Pairs:
        for key, sources in (("train", self.train), ("dev", self.dev), ("test", self.test)):
            for i, source in enumerate(sources):
                if source.weight != 1 and (key != "train" or self.mixture != "balanced"):
                    remedy = "set `pairs.mixture: balanced`, or drop it" if key == "train" else "drop it"
                    where = f"pairs.{key}.{i}.weight"
                    raise UsageError.at(
                        where, f"{where}: is the share of a training source in a balanced mixture; {remedy}"
                    )
        return self

    @model_validator(mode="after")
    def _one_development_set(self) -> Pairs:
        if self.dev and self.dev_share:
            raise ValueError("there are `dev` and `dev_share`; give one of them")
        if self.dev_share and not self.train:
            raise ValueError("dev_share is taken from the training pairs, and there are none; give `dev`, or drop it")
        return self

    @property
    def has_dev(self) -> bool:
        """Whether there is a development set."""
        return bool(self.dev or self.dev_share)

    @model_validator(mode="after")
    def _distinct(self) -> Pairs:
        names = self._whole_names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two test sets are called {name}; give one of them another `name:`")
        return self

    @model_validator(mode="after")
    def _weighable(self) -> Pairs:
        weights, known = self.direction_weights, ["-".join(direction) for direction in self.directions]
        for name, weight in weights.items():
            if name not in known:
                found = f"; there are {', '.join(known)}" if known else ", there are none at all; drop it"
                raise ValueError(f"direction_weights: no training pairs are {name!r}{suggestion(name, known)}{found}")
            if not 0 <= weight <= 1:
                raise ValueError(f"direction_weights.{name}: {weight:g} is no share; give one from 0 to 1")
        if known and all(weights.get(name) == 0 for name in known):
            raise ValueError("direction_weights: all are 0, so that no pair is left; raise one")
        return self

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The (source, target) languages of the training pairs, each once."""
        return tuple(directions_of(self.train))

    @property
    def trained_directions(self) -> tuple[tuple[str, str], ...]:
        """Those of which pairs are trained on: not of weight 0."""
        return tuple(one for one in self.directions if self.direction_weights.get("-".join(one)) != 0)

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the test sets, each once."""
        return [task for task in TASKS if any(source.task == task for source in self.test)]

    @property
    def _whole_names(self) -> list[str]:
        return [f"{source.name} ({source.source}-{source.target})" for source in self.test]

    @property
    def test_names(self) -> list[str]:
        """The test sets' names, with the direction behind those of which there are several."""
        names = [source.name for source in self.test]
        both = zip(names, self._whole_names, strict=True)
        return [name if names.count(name) == 1 else whole for name, whole in both]


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
    pairs: Pairs = Field(description="parallel data: what is trained on, and what translation is measured on")
    prompts: list[PromptSource] | None = Field(
        None,
        min_length=1,
        description="general prompts, of one or several sources: each is split into replay and retention halves; what "
        "an earlier source asks, too, is left out",
    )
    texts: list[TextSource] = Field(default_factory=list, description="documents to pre-train on, of any languages")
    vocabulary: VocabularySettings | None = Field(None, description="pieces and markers the base's vocabulary lacks")
    checks: CheckLimits = Field(default_factory=CheckLimits, description="which pairs are rejected")
    text_checks: TextLimits = Field(default_factory=TextLimits, description="which documents are rejected")
    stages: list[Stage] = Field(
        default_factory=lambda: [Stage()], max_length=8, description="each continues the one before; [] trains nothing"
    )
    compare: list[Compared] = Field(
        default_factory=list, description="systems trained on the same data, to compare with; a method's name will do"
    )
    grafts: list[GivenGraft] = Field(default_factory=list, description="existing grafts, measured beside")
    merge: list[Merge] = Field(
        default_factory=list, description="systems made of the weights of others, without training, measured beside"
    )
    evaluate: Evaluate = Field(default_factory=Evaluate, description="what is measured, and what must hold")
    expected: Expected | None = Field(None, description="what a dry run reckons with where data or model are not there")
    seed: int = Field(1, ge=0, lt=2**32, description="of everything that is drawn")
    seeds: int | list[int] = Field(
        1, description="trainings of each system: how many (`seed` and those that follow it), or with which seeds"
    )

    _shipped: str = PrivateAttr("")

    @field_validator("stages", "texts", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        return listed(value, "method" if info.field_name == "stages" else "path")

    @field_validator("prompts", mode="before")
    @classmethod
    def _prompt_sources(cls, value: Any) -> Any:
        if value == []:
            raise ValueError("the list is empty; name a file, such as `{path: prompts.jsonl}`, or drop the key")
        return listed(value, "path")

    @field_serializer("prompts", mode="wrap")
    def _one_without_list(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        written = handler(value)  # as folders of runs have it that know of one source alone
        return written[0] if isinstance(written, list) and len(written) == 1 else written

    @field_validator("stages")
    @classmethod
    def _one_lineage(cls, value: list[Stage]) -> list[Stage]:
        if any(stage.upon for stage in value[1:]):
            raise ValueError("`upon` is of the first stage, and then holds for all; move it there")
        if value and value[0].fresh:
            raise ValueError("the first stage has nothing before it to merge; drop its `fresh`")
        stages = value[:1]
        for given in value[1:]:
            before, stage = stages[-1], given
            if "tuner" not in given.model_fields_set:
                stage = given.model_copy(update={"tuner": before.tuner})
            stages.append(stage)
            if stage.tuner != before.tuner and not stage.fresh:
                raise ValueError(
                    "all stages continue one adapter and need one tuner; give it in the first stage alone, or begin a "
                    "new adapter with `fresh: true`"
                )
            if stage.train.precision != value[0].train.precision:
                raise ValueError("all stages train on one base and need one `precision`")
        return stages

    @model_validator(mode="after")
    def _combination(self) -> Recipe:
        if not self.stages and not self.grafts and not self.merge:
            if not self.evaluate.all_decoders:
                raise ValueError(
                    "there is neither a stage to train nor a graft to measure; add `stages:` or `grafts:`, or for the "
                    "base alone `evaluate.decoders`"
                )
            through = self.evaluate.translate_test
            if self.evaluate.scales or (through and through.translator == "graft"):
                raise ValueError(
                    "evaluate: `scales`, and a translator that is the graft, need one, and there is none; drop them"
                )
        parts = (part for system in self.systems() for stage in system.stages for part in stage.parts)
        of_pairs = [part.kind for part in parts if part.kind in METHODS and METHODS.get(part.kind).consumes == "pairs"]
        if of_pairs and not self.pairs.train:
            raise ValueError(f"the key 'pairs.train', on which method {of_pairs[0]!r} trains, is missing")
        if self.compare and not self.stages:
            raise ValueError("`compare` takes its settings from the stage, and there is none; add `stages:`")
        names = ["base", *(system.name for system in self.systems()), *(graft.label for graft in self.grafts)]
        if through := self.evaluate.translate_test:
            names.append(TRANSLATE_TEST)
            if not (through.languages or self.native_languages):
                raise ValueError("evaluate.translate_test: there is no language to translate; name its `languages`")
        for merge in self.merge:
            plans = merge.plans()
            names += [*(one.name for one in plans), *dict.fromkeys(one.group for one in plans if one.group)]
        routed = [one.name for one in self.routed_systems()]
        for name in routed:
            if [*names, *routed].count(name) > 1:
                raise ValueError(f"evaluate.route: two systems are called {name!r}; give this one another `name:`")
        for name in names:
            if names.count(name) > 1:
                where = "`compare`, `grafts` or `merge`" if self.merge else "`compare` or `grafts`"
                raise ValueError(f"two systems are called {name!r}; give one in {where} another `name:`")
        for name in self.given_systems():
            if name in (*names, *routed):
                raise ValueError(f"evaluate.given: another system is called {name!r}; give this one another `name:`")
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

    def as_shipped(self, name: str) -> Recipe:
        """Return it as the recipe of that name in the package, or where the name is empty as one of a file."""
        found = self.model_copy()
        found._shipped = name
        return found

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
        """The systems the run is about: its own; where nothing is trained the given grafts, else what is merged, else
        the base's decoders."""
        if self.stages:
            return [self.stages[-1].label]
        measured = [graft.label for graft in self.grafts] or [one.name for one in self.merges()]
        return measured or [f"base/{decoder.label}" for decoder in self.evaluate.all_decoders]

    def merges(self) -> list[MergePlan]:
        """Return what is merged, sweeps one by one, in their order."""
        return [plan for one in self.merge for plan in one.plans()]

    def given_systems(self) -> dict[str, list[GivenTranslations]]:
        """Return the systems of which only translations are given: name -> a file for each test set, in their order.

        Raises:
            ValueError: a test set is unknown, not named, named twice or left out.
        """
        tests = self.pairs.test_names
        found: dict[str, dict[str, GivenTranslations]] = {}
        for one in self.evaluate.given:
            own = found.setdefault(one.name, {})
            test = one.test or (tests[0] if len(tests) == 1 else "")
            if test not in tests:
                said = f"there is no test set {test!r}" if test else "there are several test sets"
                raise ValueError(f"evaluate.given: {one.name!r}: {said}; set `test:` to one of {', '.join(tests)}")
            if test in own:
                raise ValueError(f"evaluate.given: {one.name!r} has two files for the test set {test!r}; drop one")
            own[test] = one
        for name, own in found.items():
            if missing := [test for test in tests if test not in own]:
                raise ValueError(f"evaluate.given: {name!r} has no file for the test set {missing[0]!r}; add one")
        return {name: [own[test] for test in tests] for name, own in found.items()}

    def routed_systems(self) -> list[RoutedSystem]:
        """Return the systems that route, each with its name and that of the system to whose graft translations go."""
        found = []
        for one in self.evaluate.route:
            of = one.of or self.headliners[-1]
            found.append(one.model_copy(update={"of": of, "name": one.name or f"{of}-route"}))
        return found

    def systems(self) -> list[SystemPlan]:
        """Return what is trained: the compared systems, then the recipe's own, then all of them with further seeds."""
        if not self.stages:
            return []
        made = []
        for i, other in enumerate(self.compare):
            with placed(f"compare.{i}"):
                name = other.label(self.stages, f"compare.{i}")
                stages = other.stages(self.stages, f"compare.{i}")
            made.append(SystemPlan(name, tuple(stages), self.seed, vocabulary=other.vocabulary))
        made.append(SystemPlan(self.stages[-1].label, tuple(self.stages), self.seed))
        again = [
            replace(s, name=f"{s.name}#{seed}", seed=seed, group=s.name) for seed in self.further_seeds for s in made
        ]
        return [*made, *again]


def _drop_expected_model(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Drop what a recipe expects of its model where another model was put in its place."""
    keys = {override.partition("=")[0] for override in overrides}
    expected = values.get("expected")
    if "model" in keys and isinstance(expected, dict):
        for name in ("parameters", "hidden_size", "layers", "vocabulary"):
            if f"expected.{name}" not in keys and "expected" not in keys:
                expected.pop(name, None)
