"""The interface of a general-ability suite: one file a suite, registered by name in `SUITES`.

A suite says what each system must be asked, and turns the answers into one value per item. Retention, intervals and
the scorecard rows follow from the values alone (`evaluation/retention.py`), so that a suite contains no statistics.

Three kinds of questions: requests, which a system answers in writing (with follow-ups that quote its answers, for
conversations of several turns); continuations, whose log-likelihood is measured; and verdicts, which another model
(the judge) gives on answers. All suites of a run are asked together, in one pass of the engine for each system.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from lingraft.core.errors import DataError
from lingraft.core.registry import Registry
from lingraft.core.validation import Settings, paths_in
from lingraft.data.files import locate
from lingraft.data.records import KL, Continuation, Generation, Likelihood, Pair, Prompt, Request, Text
from lingraft.language.thinking import Said, said
from lingraft.statistics.metric_facts import Better, MetricFacts
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem

if TYPE_CHECKING:
    from lingraft.rendering.renderer import Renderer

V = TypeVar("V")


@dataclass(frozen=True)
class ItemScores:
    """One metric of one system: a value per item id.

    `facts`: what the metric says about itself; `better` "lower" marks an error-like metric, `retains` False a
    diagnostic: shown, but no retention is computed from it. `chance`: the score of guessing, in the unit of the values.
    `weights`: the score is the weighted mean of the values (default: the plain mean). `scale` multiplies the score (100
    turns a share into percent).
    `clusters`: item id -> group of items that belong together (turns of a conversation, sentences of a document).
    """

    metric: str
    values: Mapping[str, float]
    facts: MetricFacts = field(default_factory=MetricFacts)
    chance: float = 0.0
    weights: Mapping[str, float] | None = None
    scale: float = 1.0
    signature: str = ""
    clusters: Mapping[str, str] | None = None

    @property
    def better(self) -> Better:
        """Which end is better; None: neither."""
        return self.facts.better

    @property
    def retains(self) -> bool:
        """Whether retention is computed from it."""
        return self.facts.retains

    def diagnostic(self) -> ItemScores:
        """Return the same values as a diagnostic."""
        return replace(self, facts=replace(self.facts, retains=False))


@dataclass(frozen=True)
class Workload:
    """About what a suite asks for each system: tokens that the system writes, tokens whose log-likelihood is measured,
    verdicts of the judge, and the tokens that the judge reads and writes for them."""

    answer_tokens: float
    verdicts: int = 0
    judge_reads: float = 0.0
    judge_writes: float = 0.0
    likelihood_tokens: float = 0.0


@dataclass(frozen=True)
class AtHand:
    """What a dry run knows of the rows that a run hands to its suites.

    Attributes:
        prompts: general prompts of the retention half.
        pairs: test segments.
        documents: of each language, how many are held out, and their mean length in characters.
    """

    prompts: int
    pairs: int
    documents: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class SuiteInputs:
    """What a suite sees: held-out general prompts, languages of the run, seed, renderer of the system's tokenizer, the
    run's test pairs, the longest sequence of the base in tokens, documents that were not trained on, the markers of a
    system with an extended vocabulary, and how the system is asked to translate."""

    prompts: Sequence[Prompt]
    languages: Sequence[str]
    seed: int = 0
    renderer: Renderer | None = None
    pairs: Sequence[Pair] = ()
    context_tokens: int = 2048
    texts: Sequence[Text] = ()
    markers: Markers | None = None
    translating: TranslationSystem = field(default_factory=TranslationSystem)


@dataclass(frozen=True)
class Answers:
    """What is known of one system, by the ids that the suite gave.

    Blocks of thoughts are taken off what was written, answers and verdicts alike: they are no part of an answer. Tags
    that the question itself holds are text where `generations` is a `WithoutThoughts` that knows what was asked.

    Attributes:
        generations: what it wrote, follow-ups included.
        kl: KL from base, where the suite asked for it.
        likelihoods: of continuations.
        verdicts: what the judge wrote.
    """

    generations: Mapping[str, Generation]
    kl: Mapping[str, KL] = field(default_factory=dict)
    likelihoods: Mapping[str, Likelihood] = field(default_factory=dict)
    verdicts: Mapping[str, Generation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("generations", "verdicts"):
            given = getattr(self, name)
            if not isinstance(given, WithoutThoughts):
                object.__setattr__(self, name, WithoutThoughts(given))

    def of(self, suite: str) -> Answers:
        """Return the part of one suite of a run, whose ids begin with `suite/` there."""
        prefix = f"{suite}/"
        return Answers(
            _within(self.generations, prefix),
            _Within(self.kl, prefix),
            _Within(self.likelihoods, prefix),
            _within(self.verdicts, prefix),
        )


class WithoutThoughts(Mapping[str, Generation]):
    """Generations whose text is what was said, without thoughts.

    Args:
        written: as they were written.
        asked: the requests by id, in whose words tags of thoughts are text; where one is lacking, all tags are those of
            thoughts.
    """

    def __init__(self, written: Mapping[str, Generation], asked: Mapping[str, Request] | None = None) -> None:
        self.written, self.asked = written, asked or {}

    def _said(self, key: str) -> tuple[Generation, Said]:
        generation = self.written[key]
        given = self.asked[key].given if key in self.asked else ""
        return generation, said(generation.text, given)

    def __getitem__(self, key: str) -> Generation:
        generation, found = self._said(key)
        return generation if found.text == generation.text else replace(generation, text=found.text)

    def __iter__(self) -> Iterator[str]:
        return iter(self.written)

    def __len__(self) -> int:
        return len(self.written)

    def thinking(self) -> dict[str, float]:
        """Return 1 for each answer that has thoughts before it or instead of it, 0 for the others."""
        return {id_: float(self._said(id_)[1].thought) for id_ in self.written}


def _within(generations: Mapping[str, Generation], prefix: str) -> Mapping[str, Generation]:
    if not isinstance(generations, WithoutThoughts):
        return _Within(generations, prefix)
    return WithoutThoughts(_Within(generations.written, prefix), _Within(generations.asked, prefix))


class _Within(Mapping[str, V]):
    """The entries of a mapping whose keys begin with a prefix, without it."""

    def __init__(self, whole: Mapping[str, V], prefix: str) -> None:
        self._whole = whole
        self._prefix = prefix

    def __getitem__(self, key: str) -> V:
        return self._whole[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._whole if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Suite(ABC):
    """Base of all suites.

    Attributes:
        name: registered name.
        paper: where the measure comes from.
        metrics: metrics that it gives, in the order in which they are shown, with what each says about itself.
        consumes: what of the run it cannot do without: general prompts, or texts that are held out.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    metrics: ClassVar[Mapping[str, MetricFacts]] = {}
    consumes: ClassVar[frozenset[Literal["prompts", "texts"]]] = frozenset()

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Params) -> None:
        self.params = params

    @classmethod
    def declared(cls, metric: str, signature: str = "") -> MetricFacts | None:
        """Return what one of the suite's metrics says about itself; None for a metric of another suite.

        A suite whose metrics are not known beforehand, such as one a language, says here what they have in common.

        Args:
            metric: its name.
            signature: of the values, which may say more.
        """
        return cls.metrics.get(metric)

    @classmethod
    def item_scores(cls, metric: str, values: Mapping[str, float], *, signature: str = "", **fields: Any) -> ItemScores:
        """Return values of one of the suite's metrics, with what it says about itself.

        Args:
            metric: its name.
            values: item -> value.
            signature: defines the values, see `ItemScores`.
            **fields: of `ItemScores`.
        """
        facts = cls.declared(metric, signature) or MetricFacts()
        return ItemScores(metric, values, facts, signature=signature, **fields)

    def check(self) -> None:
        """Refuse files in the parameters that cannot be read, before anything starts.

        Raises:
            DataError: one is missing, empty or unreadable.
        """
        for path in paths_in(type(self.params), self.params.model_dump()):
            if not os.path.isdir(path):  # a folder is a saved data set, or holds tasks
                locate(path, "jsonl", Path())

    @property
    def fetches(self) -> bool:
        """Whether its questions may have to be fetched, so that a dry run does not look at them."""
        return any(path.startswith("hub:") for path in paths_in(type(self.params), self.params.model_dump()))

    @property
    def answer_tokens(self) -> int:
        """The most tokens that a system may answer one of the run's general prompts with; 0: it is asked none."""
        return 0

    @abstractmethod
    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Return what every system (the base included) is asked; ids are unique within the suite.

        Translations are asked for as the system was taught to (`inputs.translating`), by requests that are `direct`.
        """

    def base_only_requests(self, inputs: SuiteInputs) -> list[Request]:
        """Return what only the base is asked: sampled answers on which each system's KL from base is measured."""
        return []

    def chain_requests(self, inputs: SuiteInputs) -> list[Request]:
        """Return what only systems that answer through the translation chain of thought are asked: their turns hold
        markers, which the tokenizers of the others do not know."""
        return []

    def unseen_texts(self, inputs: SuiteInputs) -> Mapping[str, tuple[str, ...]]:
        """Return texts beside the first questions that nothing should have been trained on, such as references, by a
        name of their own: they are looked for in the training data."""
        return {}

    def follow_ups(self, inputs: SuiteInputs, generations: Mapping[str, Generation]) -> list[Request]:
        """Return what to ask a system next, given what it has answered so far; nothing ends the conversation.

        It is called after each round, until it returns nothing; ids may not repeat earlier ones.
        """
        return []

    def continuations(self, inputs: SuiteInputs) -> list[Continuation]:
        """Return the continuations whose log-likelihood is measured under every system."""
        return []

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return what it runs that whoever starts a recipe has to allow, as `Engine.acts` does; that of its judge is
        found by itself."""
        return []

    @property
    def judge(self) -> Mapping[str, Any] | None:
        """The engine that gives verdicts, as `engine:` of a recipe has it; None where the suite has no judge."""
        return None

    def verdict_requests(
        self, inputs: SuiteInputs, base: Answers, system: Answers, verdicts: Mapping[str, Generation]
    ) -> list[Request]:
        """Return what to ask the judge about a system (which may be the base), given its verdicts so far.

        It is called until it returns nothing, so that verdicts that cannot be read can be asked for again, under
        another id.

        Args:
            inputs: what the suite sees of the run.
            base: answers of the base.
            system: answers of the system.
            verdicts: on the system, by the ids of the requests returned before.
        """
        return []

    def verdict_rows(self, inputs: SuiteInputs, base: Answers, system: Answers) -> Iterable[dict[str, Any]]:
        """Return the judge's verdicts on a system in readable form, one JSON-ready object each."""
        return ()

    def workload(self, at_hand: AtHand) -> Workload | None:
        """Return what the suite costs, for a dry run; None where its parameters alone tell.

        Args:
            at_hand: the rows of the run that there are: no more of them can be asked, whatever a limit says.
        """
        return None

    def answer_to(self, generations: Mapping[str, Generation], request_id: str) -> Generation:
        """Return the answer to a request.

        Raises:
            DataError: there is none.
        """
        found = generations.get(request_id)
        if found is None:
            raise DataError(f"suite {self.name!r} has no answer to request {request_id!r}; ask each system all of them")
        return found

    @abstractmethod
    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Turn answers into values per item. `system` may be the base itself."""


THINKING = "thinking"
"""Metric of any suite whose answers may have thoughts before them."""
THINKING_FACTS = MetricFacts(label="Answers with thoughts", better="lower", decimals=1, unit="%", retains=False)


def thinking_values(answers: Answers) -> list[ItemScores]:
    """Return the share of answers with thoughts, where there are any: they are taken off, and cost tokens."""
    found = answers.generations.thinking() if isinstance(answers.generations, WithoutThoughts) else {}
    if not any(found.values()):
        return []
    signature = "answers with a block of thoughts before them or in their place, which counts as no part of them"
    return [ItemScores(THINKING, found, THINKING_FACTS, scale=100.0, signature=signature)]


SUITES: Registry[type[Suite]] = Registry(
    "suite",
    {
        "harness": "lingraft.suites.harness:HarnessSuite",
        "self": "lingraft.suites.self_consistency:SelfSuite",
        "refusal": "lingraft.suites.refusal:RefusalSuite",
        "mt_bench": "lingraft.suites.mt_bench:MTBenchSuite",
        "alpaca_eval": "lingraft.suites.alpaca_eval:AlpacaEvalSuite",
        "perplexity": "lingraft.suites.perplexity:PerplexitySuite",
        "tcot": "lingraft.suites.tcot:ChainSuite",
        "humaneval": "lingraft.suites.humaneval:HumanEvalSuite",
        "retrieval": "lingraft.suites.retrieval:RetrievalSuite",
        "mt_if": "lingraft.suites.mt_if:InstructedTranslationSuite",
    },
)
