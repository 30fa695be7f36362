"""What methods share that train on a model's own samples, graded by a critic: the best of them, or the best against the
worst."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from lingraft.core.errors import UsageError
from lingraft.core.validation import HOLDS_ENGINE
from lingraft.data.records import Example, Generation, Message, Pair, Prompt, Request, Sampling, Span, asked_text
from lingraft.language.characters import is_blank
from lingraft.language.measures import is_looping, normalise
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import ExpectedRound, Method, MethodInputs, MethodParams, Of, Round, Tally
from lingraft.methods.critique import HIGHEST, LOWEST, TOP, expected_grade, written_grade

THRESHOLD, MARGIN = 6.0, 2.0
"""Of grades from 1 to 10, by default."""

T = TypeVar("T", Pair, Prompt)


class CritiqueParams(MethodParams):
    """Parameters of samples that a critic grades."""

    samples: int = Field(4, ge=1, le=64, description="answers that are sampled for each item")
    temperature: float = Field(0.8, ge=0, description="of the sampling")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus of the sampling")
    max_answer_tokens: int = Field(256, ge=1, description="longest answer asked for, in tokens; a cut one is dropped")
    sampler: Literal["base", "before"] = Field(
        "base", description="who answers: the base, or the graft of the stage before, so that a stage refreshes it"
    )
    critic: Literal["self"] | dict[str, Any] = Field(
        "self",
        description="who grades: self, the base; or an engine as under `engine:`",
        json_schema_extra=HOLDS_ENGINE,
    )
    grade: Literal["expected", "written"] = Field(
        "expected",
        description="critic: self: expected: the mean grade under the distribution of its tokens, recorded while it "
        "wrote; written: the number it wrote, as of an engine",
    )
    show_reference: bool = Field(True, description="whether a critic that is a model sees the reference")
    teach: Literal["best", "preferences"] = Field(
        "best",
        description="best: the sample with the highest grade is learnt (rejective fine-tuning); preferences: the best "
        "against the worst",
    )
    threshold: float | None = Field(
        None, description="teach: best: least grade of what is learnt; default: 6 of 10, and none of a metric's scores"
    )
    margin: float | None = Field(
        None,
        ge=0,
        description="teach: preferences: least distance of the best from the worst; default: 2 of 10, and any of a "
        "metric's scores",
    )

    @model_validator(mode="after")
    def _possible(self) -> CritiqueParams:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"{self.samples} samples at temperature 0 are all the same; raise `temperature`, or set `samples: 1`"
            )
        if self.teach == "preferences" and self.samples == 1:
            raise ValueError("`teach: preferences` compares samples of one item, and there is one; raise `samples`")
        if isinstance(self.critic, dict) and not isinstance(self.critic.get("kind"), str):
            raise ValueError("critic: `self`, or an engine with its `kind`, see `lingraft list engines`")
        unused = "margin" if self.teach == "best" else "threshold"
        if getattr(self, unused) is not None:
            raise ValueError(f"`{unused}` is not looked at with `teach: {self.teach}`; drop it")
        if self.by_metric is None:
            if self.threshold is not None and not LOWEST <= self.threshold <= HIGHEST:
                raise ValueError(
                    f"threshold {self.threshold:g}: grades are from {LOWEST} to {HIGHEST}; give one of these"
                )
            if self.margin is not None and self.margin > HIGHEST - LOWEST:
                raise ValueError(
                    f"margin {self.margin:g}: grades from {LOWEST} to {HIGHEST} never differ by so much, and no pair "
                    f"would be left; give at most {HIGHEST - LOWEST}"
                )
        return self

    @property
    def by_metric(self) -> str | Mapping[str, Any] | None:
        """The metric that grades; None: a model does."""
        return None

    @property
    def least(self) -> float:
        """Least grade of what is learnt."""
        if self.threshold is not None:
            return self.threshold
        return THRESHOLD if self.by_metric is None else float("-inf")

    @property
    def apart(self) -> float:
        """Least distance of the best from the worst."""
        if self.margin is not None:
            return self.margin
        return MARGIN if self.by_metric is None else 0.0


@dataclass(frozen=True)
class Graded:
    """A sample with its grade; None: the critic gave none."""

    number: int
    text: str
    grade: float | None = None


@dataclass(frozen=True)
class Judged(Generic[T]):
    """An item with its fit samples, and how many are not fit, by reason."""

    item: T
    samples: list[Graded]
    dropped: Counter[str]


class Critique(Method, Generic[T]):
    """Base of methods whose examples are graded samples: of translations, or of answers to general prompts."""

    Params: ClassVar[type[MethodParams]] = CritiqueParams
    params: CritiqueParams
    role: ClassVar[str]

    @property
    def critic(self) -> Of:
        """Who grades, where that is a model."""
        return "base" if isinstance(self.params.critic, str) else self.params.critic

    @property
    def _expected(self) -> bool:
        return self.params.critic == "self" and self.params.grade == "expected"

    @property
    def paired(self) -> bool:
        """Whether its examples are preference pairs."""
        return self.params.teach == "preferences"

    def objective(self) -> Sequence[Mapping[str, Any]]:
        """Return the loss of preference pairs, where it teaches those."""
        return [{"kind": "dpo"}] if self.params.teach == "preferences" else []

    @abstractmethod
    def items(self, inputs: MethodInputs) -> Iterator[T]:
        """Yield what is answered."""

    @abstractmethod
    def messages(self, item: T, inputs: MethodInputs) -> tuple[Message, ...]:
        """Return how an item is asked."""

    @abstractmethod
    def grading(self, item: T, text: str) -> tuple[Message, ...]:
        """Return the request to grade a sample."""

    @abstractmethod
    def fault(self, item: T, text: str) -> str:
        """Return the reason against a sample that is whole, "" if there is none."""

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Ask for samples, then for their grades."""
        if number == 0:
            return Round(requests=lambda: self._sampling(inputs), of=self.params.sampler, name=self._cache)
        if number == 1 and self.params.by_metric is None:
            return Round(requests=lambda: self._grading(inputs, answers), of=self.critic, name=f"{self._cache}-grades")
        return None

    @property
    def _cache(self) -> str:
        return self.name

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return the two rounds, the second only where a model grades."""
        count = self.params.samples
        first = ExpectedRound(
            of=self.params.sampler,
            name=self._cache,
            tokens=0.25 * count * self.params.max_answer_tokens,
            key="sampler",
        )
        if self.params.by_metric is not None:
            return [first]
        second = ExpectedRound(
            of=self.critic,
            name=f"{self._cache}-grades",
            tokens=2.0 * count,
            logprobs=self._expected,
            key="critic",
            instead="grade: written",
        )
        return [first, second]

    def _sampling(self, inputs: MethodInputs) -> Iterator[Request]:
        how = Sampling(self.params.max_answer_tokens, self.params.temperature, self.params.top_p, seed=inputs.seed)
        for item in self.items(inputs):
            messages = self.messages(item, inputs)
            for number in range(self.params.samples):
                yield Request(_sample_id(item, number), messages, how)

    def _grading(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Iterator[Request]:
        how, top = Sampling(8), TOP if self._expected else 0
        for judged in self._judged(inputs, answers):
            for sample in judged.samples:
                messages = self.grading(judged.item, sample.text)
                yield Request(_grade_id(judged.item, sample.number), messages, how, top_logprobs=top)

    def _judged(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Iterator[Judged[T]]:
        """Yield the items with their fit samples, each text once; not graded yet."""
        for item in self.items(inputs):
            found, seen, dropped = list[Graded](), set[str](), Counter[str]()
            given = asked_text(self.messages(item, inputs))
            for number in range(self.params.samples):
                generation = answers[_sample_id(item, number)]
                text = said(generation.text, given).text.strip()
                reason = self._fault(item, generation, text, given)
                if not reason and (normal := normalise(text)) in seen:
                    reason = "duplicate"
                elif not reason:
                    seen.add(normal)
                    found.append(Graded(number, text))
                dropped.update([reason] if reason else [])
            yield Judged(item, found, dropped)

    def _fault(self, item: T, generation: Generation, text: str, given: str) -> str:
        if thinks(generation.text, given):
            return "thinking"
        if generation.finish_reason == "length":
            return "truncated"
        if is_blank(text):
            return "empty"
        return "looping" if is_looping(text) else self.fault(item, text)

    def _graded(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Iterator[Judged[T]]:
        """Yield the items with their graded samples."""
        if self.params.by_metric is not None:
            yield from self.scored(inputs, self.params.by_metric, self._judged(inputs, answers))
            return
        for judged in self._judged(inputs, answers):
            samples = []
            for sample in judged.samples:
                generation = answers[_grade_id(judged.item, sample.number)]
                given = asked_text(self.grading(judged.item, sample.text))
                grade = expected_grade(generation, inputs.numbers) if self._expected else None
                grade = written_grade(generation, given) if grade is None else grade
                samples.append(Graded(sample.number, sample.text, grade))
            yield Judged(judged.item, samples, judged.dropped)

    def scored(
        self, inputs: MethodInputs, metric: str | Mapping[str, Any], judged: Iterator[Judged[T]]
    ) -> Iterator[Judged[T]]:
        """Yield the items with samples that a metric has scored.

        Raises:
            UsageError: a metric cannot score them.
        """
        raise UsageError(f"method {self.name!r}: a translation metric scores no answers to general prompts")

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield the best sample of each item, or the best and the worst as a group of two."""
        for judged in self._graded(inputs, generations):
            graded = [sample for sample in judged.samples if sample.grade is not None]
            reason, best, worst = self._chosen(judged, graded)
            tally.filters[reason or "kept"] += 1
            if reason or best is None:
                yield from self.otherwise(judged.item, inputs)
            elif worst is None:
                yield self._example(judged.item, inputs, best)
            else:
                yield self._example(judged.item, inputs, best, 1)
                yield self._example(judged.item, inputs, worst, -1)

    def _chosen(self, judged: Judged[T], graded: Sequence[Graded]) -> tuple[str, Graded | None, Graded | None]:
        """Return why nothing is learnt of an item, or "" with the best sample and, of preferences, the worst.

        Of equal ones the first sampled is taken.
        """
        if not judged.samples:
            return judged.dropped.most_common(1)[0][0], None, None
        if not graded:
            return "ungraded", None, None
        best = max(graded, key=_grade)
        if self.params.teach == "best":
            return ("" if _grade(best) >= self.params.least else "below_threshold"), best, None
        worst = min(graded, key=_grade)
        distance = _grade(best) - _grade(worst)
        return ("" if distance > 0 and distance >= self.params.apart else "no_margin"), best, worst

    def _example(self, item: T, inputs: MethodInputs, sample: Graded, sign: int = 0) -> Example:
        messages, spans = self.messages(item, inputs), (Span(sample.text, self.role),)
        if not sign:
            return Example(self.example_id(item), messages, spans)
        id_ = f"{self.example_id(item)}:{'chosen' if sign > 0 else 'rejected'}"
        return Example(id_, messages, spans, group=f"{self.name}:{item.id}", sign=sign)

    def example_id(self, item: T) -> str:
        """Return the id of an item's example."""
        return f"{self.name}:{item.id}"

    def otherwise(self, item: T, inputs: MethodInputs) -> Iterator[Example]:
        """Yield what is learnt of an item of which no sample is."""
        return iter(())

    def shortfall(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> str:
        """Say so where all samples are dropped, or the critic has graded none."""
        counts: Counter[str] = Counter()
        items = samples = 0
        for judged in self._judged(inputs, generations):
            items, samples = items + 1, samples + len(judged.samples)
            counts += judged.dropped
        if items and not samples:
            told = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
            return f"none of {items * self.params.samples:,} samples is fit ({told}); change how they are sampled"
        return ""


def _grade(sample: Graded) -> float:
    return sample.grade if sample.grade is not None else float("-inf")


def _sample_id(item: Pair | Prompt, number: int) -> str:
    return f"sample-{number}:{item.id}"


def _grade_id(item: Pair | Prompt, number: int) -> str:
    return f"grade-{number}:{item.id}"
