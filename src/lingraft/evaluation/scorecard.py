"""`scorecard.json`: every number of a run with what defines it. Schema `lingraft.scorecard/1`.

`schema_json()` is published as `evaluation/scorecard.schema.json` (JSON Schema) and a test keeps the two equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lingraft.core.tasks import Task
from lingraft.evaluation.row_facts import facts_of
from lingraft.statistics.metric_facts import MAX_DECIMALS, MetricFacts

SCHEMA = "lingraft.scorecard/1"
Interval = tuple[float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


Better = Annotated[
    Literal["higher", "lower"] | None,
    Field(description="which end is better; absent: neither, or not known to the version that wrote it"),
]
Label = Annotated[str, Field(description="what tables call the metric, without its unit; absent in earlier versions")]
Unit = Annotated[str, Field(description='of score and interval, such as "%"')]
Decimals = Annotated[
    int | None, Field(ge=0, le=MAX_DECIMALS, description="with which it is shown; absent: by magnitude")
]
Cite = Annotated[list[str], Field(description="keys of the shipped bibliography, BibTeX entries or addresses")]
TaskName = Annotated[Task, Field(description="of the test set; absent in earlier versions: translation")]
OneSided = Annotated[
    Interval | None,
    Field(description="each end is a one-sided bound of 95 %; absent in earlier versions"),
]
Role = Annotated[str, Field(description="where reports show it apart from the others")]


class ModelIdentity(_Strict):
    """The base: what the user named it and the hash of its weights and tokenizer."""

    id: str
    sha256: str


class System(_Strict):
    """One thing that was measured; "base" is always the first."""

    name: str
    method: str | None = None
    tuner: str | None = None
    cite_method: Cite = Field(default_factory=list)
    cite_tuner: Cite = Field(default_factory=list)
    graft: str | None = Field(None, description="folder of the graft, relative to the run")
    group: str | None = Field(
        None,
        description="system of which this is another seed, another scale, an earlier stage, or whose weights a decoder "
        "asks; of a merge the sweep that it belongs to, which is no system",
    )
    seed: int | None = Field(None, description="of its training, where it differs from the run's")
    scale: float | None = Field(None, ge=0, description="factor on the adapter's weights; absent: 1")
    stage: int | None = Field(None, ge=1, description="of its stages, the last it had when measured; absent: all")
    merged: list[str] = Field(
        default_factory=list, description="what its weights were made of, by the merger `method`; absent: not merged"
    )
    swept: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the merger that differ within its sweep"
    )
    weights: str | None = Field(
        None, description="system whose weights a decoder asks, and whose answers to suites are this one's; absent: own"
    )
    decoder: str | None = Field(None, description="by which it translates; absent: asked once")
    cite_decoder: Cite = Field(default_factory=list)
    parts: str | None = Field(None, description="what answers one after the other, where it is not a model alone")
    how: str | None = Field(None, description="what it does, as the rest of a sentence about it; if it was not trained")


class Delta(_Strict):
    """A paired difference on the same segments."""

    value: float
    ci95: Interval
    ci90: OneSided = None
    p: float = Field(ge=0, le=1)
    p_holm: float | None = Field(None, ge=0, le=1, description="p corrected for the number of comparisons (Holm 1979)")
    test: str = Field("paired bootstrap", description="where p is from")


class TranslationScore(_Strict):
    """One system, test set and metric. `delta` is against base; `versus` against each other compared system."""

    system: str
    test_set: str
    direction: str = Field(description='for example "de-en"')
    task: TaskName = "translation"
    metric: str
    label: Label = ""
    better: Better = None
    unit: Unit = ""
    decimals: Decimals = None
    cite: Cite = Field(default_factory=list)
    role: Role = ""
    signature: str
    n: int = Field(ge=1, description="segments it was measured on")
    score: float
    ci95: Interval
    ci90: OneSided = None
    delta: Delta | None = None
    versus: dict[str, Delta] = Field(default_factory=dict)

    @property
    def facts(self) -> MetricFacts:
        """What the metric says about itself."""
        return facts_of(self)


class TranslationAverage(_Strict):
    """One system, task and metric, averaged over the rows of all test sets and directions, each counted once."""

    system: str
    task: TaskName = "translation"
    metric: str
    label: Label = ""
    better: Better = None
    unit: Unit = ""
    decimals: Decimals = None
    cite: Cite = Field(default_factory=list)
    role: Role = ""
    rows: int = Field(ge=2, description="test sets and directions averaged")
    score: float
    ci95: Interval = Field(description="the sets taken as independent")
    delta: Delta | None = Field(None, description="against base")

    @property
    def facts(self) -> MetricFacts:
        """What the metric says about itself."""
        return facts_of(self)


class Retention(_Strict):
    """100 x score / base score (chance-corrected; inverted for error-like metrics)."""

    percent: float
    ci95: Interval
    ci90: OneSided = None


class Forgotten(_Strict):
    """Items that the base had right and the system has wrong, in percent of those that the base had right, both net of
    chance."""

    percent: float = Field(ge=0, le=100)
    ci95: Interval
    ci90: OneSided = None


class Changed(_Strict):
    """Items of a suite, each right or wrong, that changed against base. `p` of the row's `delta` is of these counts."""

    base_right: int = Field(ge=0, description="items")
    right_to_wrong: int = Field(ge=0, description="items")
    wrong_to_right: int = Field(ge=0, description="items")
    by_chance: float = Field(ge=0, description="items that guessing is expected to have flipped, each way")
    forgotten: Forgotten | None = Field(None, description="absent where the base is not above chance")
    learnt_percent: float | None = Field(
        None, description="wrong to right net of chance, in percent of what the base had right net of chance"
    )
    lost_ids: list[str] = Field(default_factory=list, description="first items that went from right to wrong")
    gained_ids: list[str] = Field(default_factory=list, description="first items that went from wrong to right")


class GeneralScore(_Strict):
    """One system, general-ability suite and metric. `retention` is absent where the base has nothing to lose, and of
    diagnostics."""

    system: str
    suite: str
    metric: str
    label: Label = ""
    better: Better = None
    unit: Unit = ""
    decimals: Decimals = None
    cite: Cite = Field(default_factory=list)
    role: Role = ""
    n: int = Field(ge=1, description="items")
    score: float
    ci95: Interval
    ci90: OneSided = None
    retention: Retention | None = None
    changed: Changed | None = Field(None, description="where every item is right or wrong; absent in earlier versions")
    signature: str = ""
    delta: Delta | None = Field(None, description="against base, on the same items")
    versus: dict[str, Delta] = Field(default_factory=dict, description="against other systems")

    @property
    def facts(self) -> MetricFacts:
        """What the metric says about itself."""
        return facts_of(self)

    @property
    def diagnostic(self) -> bool:
        """Whether it counts for no retention, by what it measures or by the recipe's `retains: false`."""
        return self.retention is None and "|retention:" not in f"|{self.signature}"


class Gain(_Strict):
    """The headline change of translation quality against base, averaged over directions."""

    metric: str
    value: float
    ci95: Interval
    ci90: OneSided = None


class SummaryRow(_Strict):
    """One row a system: what a reader looks at first."""

    system: str
    gain: Gain | None = None
    retention_mean: float | None = None
    retention_mean_ci95: Interval | None = Field(None, description="all suites resampled together")
    retention_mean_ci90: OneSided = None
    retention_min: float | None = None
    retention_min_ci95: Interval | None = Field(None, description="all suites resampled together")
    retention_min_ci90: OneSided = None
    kl_from_base: float | None = Field(None, description="nats per token on the base's own answers")
    off_target_percent: float | None = None
    extraction_failure_percent: float | None = None
    output_tokens_per_translation: float | None = None
    calls_per_translation: float | None = Field(None, description="requests that were answered for a segment")
    seconds_per_translation: float | None = Field(
        None,
        description="of wall time: answers of each step, taken over or not, by their share of tokens, and scores that "
        "a decoder chose by",
    )


class SeedSpread(_Strict):
    """One score of one system over several training seeds. The interval of a score is over items, this is over runs."""

    system: str = Field(description="the group: the system with the run's own seed")
    where: str = Field(description="test set and direction, or suite")
    metric: str
    scores: dict[str, float] = Field(description="seed -> score")
    sd: float = Field(ge=0, description="standard deviation between seeds (n - 1)")


class ChangedOverSeeds(_Strict):
    """Items of a suite that changed, over the trainings of one system with several seeds: means. The intervals draw
    items, each with what all trainings answered; what another training would give, is not in them."""

    system: str = Field(description="the group: the system with the run's own seed")
    suite: str
    metric: str
    trainings: int = Field(ge=2)
    base_right: int = Field(ge=0, description="items")
    right_to_wrong: float = Field(ge=0, description="items")
    wrong_to_right: float = Field(ge=0, description="items")
    by_chance: float = Field(ge=0, description="items that guessing is expected to have flipped, each way")
    forgotten: Forgotten | None = Field(None, description="absent where the base is not above chance")
    learnt_percent: float | None = None
    p: float = Field(ge=0, le=1, description="of the difference in right items, whole items swapped; not corrected")
    test: str


class Contamination(_Strict):
    """Overlap of a test set or suite with the training data."""

    where: str = Field(description="test set or suite")
    kind: Literal["exact", "ngram"]
    n: int = Field(ge=1, description="items of the set")
    shared: int = Field(ge=0, description="items that overlap")
    ids: list[str] = Field(default_factory=list, description="the first of them")
    rows: list[str] = Field(default_factory=list, description="for each of `ids`, a training row it shares text with")
    signature: str = ""


class Cost(_Strict):
    """What one stage of one system cost. `tokens` are real (unpadded) tokens."""

    system: str
    stage: str
    seconds: float
    tokens: int | None = None
    supervised_tokens: int | None = None
    peak_memory_mb: float | None = None
    device: str = "cpu"


class Scorecard(_Strict):
    """All results of one run."""

    schema_: Literal["lingraft.scorecard/1"] = Field("lingraft.scorecard/1", alias="schema")
    run: str
    created: str = Field(description="ISO 8601, UTC")
    base: ModelIdentity
    seed: int
    versions: dict[str, str]
    systems: list[System]
    translation: list[TranslationScore]
    general: list[GeneralScore]
    summary: list[SummaryRow]
    cost: list[Cost]
    seeds: list[SeedSpread] = Field(default_factory=list)
    changed_over_seeds: list[ChangedOverSeeds] = Field(
        default_factory=list, description="of systems that were trained with several seeds"
    )
    averages: list[TranslationAverage] = Field(default_factory=list, description="of `translation`, where several")
    contamination: list[Contamination] = Field(default_factory=list)
    unchecked: list[str] = Field(
        default_factory=list,
        description="systems whose training data were not searched for the items, since this run did not train them",
    )

    @model_validator(mode="after")
    def _base_first(self) -> Scorecard:
        if not self.systems or self.systems[0].name != "base":
            raise ValueError('the first system must be "base"')
        return self

    @property
    def answered(self) -> list[GeneralScore]:
        """The rows of suites of the systems that have answered them: those that differ in their decoder alone have the
        rows of their weights."""
        same = {system.name for system in self.systems if system.weights}
        return [
            row.model_copy(update={"versus": {name: delta for name, delta in row.versus.items() if name not in same}})
            for row in self.general
            if row.system not in same
        ]

    def to_json(self) -> str:
        """Return indented JSON, keys as in the schema."""
        empty = {name for name in ("unchecked", "changed_over_seeds") if not getattr(self, name)}
        return self.model_dump_json(by_alias=True, indent=2, exclude=empty) + "\n"

    @classmethod
    def read(cls, path: Path) -> Scorecard:
        """Read and validate a scorecard file."""
        return cls.model_validate_json(path.read_text("utf-8"))


def schema_json() -> str:
    """Return the JSON Schema of the scorecard as indented JSON."""
    schema: dict[str, Any] = Scorecard.model_json_schema(by_alias=True, mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
