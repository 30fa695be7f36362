"""The section of a recipe that says what is measured."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lingraft.core.tasks import Task
from lingraft.core.validation import IS_PATH, Needs, as_value_error
from lingraft.evaluation.gate import parse_gate
from lingraft.evaluation.probe import PROBES
from lingraft.language.codes import base_language, language
from lingraft.recipe.choices import (
    NAME,
    DeciderChoice,
    DecoderChoice,
    EngineChoice,
    MetricChoice,
    Section,
    SuiteChoice,
    refuse_repeated,
)
from lingraft.translation.wording import DEFAULT, SUMMARY, check_wording

TRANSLATE_TEST = "translate-test"
"""Name of a system that `evaluate.translate_test` adds."""


def _fillable(value: str) -> str:
    with as_value_error():
        return check_wording(value)


def _metrics(*kinds: str) -> Any:
    return Field(
        default_factory=lambda: [MetricChoice(kind=kind) for kind in kinds],
        min_length=1,
        description="see `lingraft list metrics`",
    )


class TaskSettings(Section):
    """How the test sets of a task are measured."""

    metrics: list[MetricChoice]
    max_new_tokens: int

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        refuse_repeated("metrics", [metric.label for metric in self.metrics])
        return self


class TranslationSettings(TaskSettings):
    """How translation is measured."""

    metrics: list[MetricChoice] = _metrics("bleu", "chrf++", "off_target")
    max_new_tokens: int = Field(256, ge=1, description="longest translation, in tokens")


class SummarySettings(TaskSettings):
    """How summaries in another language are asked for and measured: of test sets with `task: summary`."""

    metrics: list[MetricChoice] = _metrics("rouge1", "rouge2", "rougeL", "length_ratio", "off_target")
    max_new_tokens: int = Field(512, ge=1, description="longest summary, in tokens")
    instruction: str = Field(SUMMARY, description="how a summary is asked for")

    _wording = field_validator("instruction")(_fillable)


class CodeSettings(TaskSettings):
    """How translated programs are measured: of test sets with `task: code`."""

    metrics: list[MetricChoice] = Field(min_length=1, description="see `lingraft list metrics`")
    max_new_tokens: int = Field(1024, ge=1, description="longest program, in tokens")


class RetentionSettings(Section):
    """How kept ability is measured."""

    suites: list[SuiteChoice] = Field(
        default_factory=lambda: [SuiteChoice(kind="self"), SuiteChoice(kind="refusal")],
        description="see `lingraft list suites`",
    )

    @model_validator(mode="after")
    def _distinct(self) -> RetentionSettings:
        refuse_repeated("suites", [suite.label for suite in self.suites])
        return self


class TranslateTest(Section):
    """A comparison without training: a translator before and after the base, which answers in English."""

    needs: ClassVar[Needs] = {"instruction": ("an engine as `translator`", lambda own: own.translator != "graft")}
    translator: Literal["graft"] | EngineChoice = Field(
        "graft", description="the run's own graft, best after `translation_pretraining`; or an engine, as `engine:`"
    )
    languages: list[str] = Field(
        default_factory=list, description="languages that are translated; default: those of the vocabulary"
    )
    instruction: str = Field(DEFAULT, description="how an engine is asked for a translation")

    @field_validator("languages")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        with as_value_error():
            codes = [base_language(language(code)) for code in value]
        if "en" in codes:
            raise ValueError("questions are translated into English and answers from it; name other languages")
        return codes

    _wording = field_validator("instruction")(_fillable)


class GivenTranslations(Section):
    """Translations of a test set by another system, such as a service in use today."""

    name: str = Field(pattern=NAME, max_length=80, description="of the system, in the report")
    path: str = Field(
        min_length=1, description="one line a segment, in the order of the test set; or JSON Lines with `id` and `text`"
    )
    test: str = Field("", description="name of the test set, where there are several; a system needs a file for each")


class ContaminationProbe(Section):
    """Systems that are shown right and wrong translations: whether they need what is shown, or know it already."""

    systems: list[str] = Field(default_factory=lambda: ["base"], min_length=1, description="whose weights are probed")
    k: int = Field(8, ge=2, le=256, description="pairs that are shown")
    draw: int = Field(0, ge=0, description="another number draws other pairs")

    def decoders(self) -> list[DecoderChoice]:
        """Return the decoders that probe: the same pairs in the same order, with right and with wrong translations."""
        shown = {"k": self.k, "draw": self.draw}
        return [
            DecoderChoice.model_validate({"kind": "icl", "name": name, "systems": self.systems, **shown, **control})
            for name, control in zip(PROBES, ({}, {"control": "wrong"}), strict=True)
        ]


class RoutedSystem(Section):
    """A graft for translations and its base for everything else, from one model in memory."""

    name: str = Field(
        "", pattern=f"{NAME}|^$", max_length=80, description="of the system, in the report; default: NAME-route of `of`"
    )
    of: str = Field("", description="system to whose graft translations go; default: the run's own")
    by: DeciderChoice = Field(
        default_factory=DeciderChoice, description="who decides of each request, see `lingraft list deciders`"
    )
    requests: Annotated[str, IS_PATH] = Field(
        "starter:routing.jsonl",
        description="JSON Lines with `messages`, `route` (graft or base) and `kind`, on which the errors are measured",
    )


class Evaluate(Section):
    """What is measured, and how often resampled for the intervals."""

    translation: TranslationSettings = Field(
        default_factory=TranslationSettings, description="what is gained: metrics on the test sets of translations"
    )
    summary: SummarySettings | None = Field(
        None, description="metrics on test sets of summaries, and how these are asked for; default: that of its keys"
    )
    code: CodeSettings | None = Field(None, description="metrics on test sets of programs")
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="what is kept: general suites")
    engine: EngineChoice | None = Field(None, description="answers of base and grafts; default: the recipe's engine")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples for the intervals, trials of the tests")
    test: Literal["bootstrap", "randomisation"] = Field("bootstrap", description="of differences of corpus metrics")
    scales: list[float] = Field(
        default_factory=list, description="also measure the own graft with its weights times these factors, e.g. 0.5"
    )
    stages: bool = Field(False, description="also measure what the own system was after each earlier stage")
    translate_test: TranslateTest | None = Field(
        None, description="also measure the system `translate-test`: a translator before and after the base"
    )
    decoders: list[DecoderChoice] = Field(
        default_factory=list,
        description="also measure systems that translate by a decoder, as WEIGHTS/NAME; see `lingraft list decoders`",
    )
    contamination_probe: bool | ContaminationProbe = Field(
        False,
        description="also measure the base, as `base/probe-right` and `base/probe-wrong`, with translations shown that "
        "are right, and that are another text's: who loses nothing by the latter may know the test set by heart",
    )
    route: list[RoutedSystem] = Field(
        default_factory=list,
        description="also measure systems of which a graft answers requests for translations, and the base all others",
    )
    given: list[GivenTranslations] = Field(
        default_factory=list, description="also measure translations that others have made, as further systems"
    )
    gate: list[str] = Field(default_factory=list, description="conditions checked at the end, e.g. retention_min>=97")
    precision: Literal["auto", "bf16", "fp32", "nf4"] = Field(
        "auto", description="of the base where nothing is trained; else that of `stages.0.train` holds"
    )

    @property
    def all_decoders(self) -> list[DecoderChoice]:
        """The decoders, and those that probe for contamination."""
        probe = ContaminationProbe() if self.contamination_probe is True else self.contamination_probe
        return [*self.decoders, *(probe.decoders() if probe else [])]

    def measured(self, task: Task) -> TaskSettings:
        """Return how the test sets of a task are measured.

        Raises:
            KeyError: nothing is said of it; of a recipe that was read, this is so of tasks without a test set alone.
        """
        settings: TaskSettings | None = getattr(self, task)
        if settings is None:
            raise KeyError(task)
        return settings

    @field_validator("scales")
    @classmethod
    def _real_scales(cls, value: list[float]) -> list[float]:
        for scale in value:
            if not 0 < scale <= 4 or scale == 1 or value.count(scale) > 1:
                raise ValueError(
                    f"{scale:g} is no further scale; give different ones above 0 and up to 4 (0 is the base, 1 the "
                    f"graft itself: both are measured anyway)"
                )
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        refuse_repeated("decoders", [decoder.label for decoder in self.all_decoders])
        return self

    @field_validator("gate")
    @classmethod
    def _gates(cls, value: list[str]) -> list[str]:
        with as_value_error():
            for expression in value:
                parse_gate(expression)
        return value

    @model_validator(mode="after")
    def _gates_on_what_retains(self) -> Evaluate:
        for expression in self.gate:
            name = parse_gate(expression).subject.rpartition(":")[2].strip()
            suites = [suite for suite in self.retention.suites if name.startswith(f"{suite.label}.")]
            suite = max(suites, key=lambda suite: len(suite.label), default=None)
            if suite and not suite.retains and name.endswith(".retention"):
                raise ValueError(
                    f"gate {expression!r} is about the suite {suite.label!r}, which has `retains: false`; gate its "
                    f"score or its delta, or drop `retains`"
                )
        return self
