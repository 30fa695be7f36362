"""Self-critique: a model's own samples, graded by a critic, teach it: the best, or the best against the worst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import isnan
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.core.validation import HOLDS_METRIC
from lingraft.data.records import Example, Message, Pair, Prompt, asked_text
from lingraft.language.measures import written_in
from lingraft.methods.base import MethodInputs, MethodParams
from lingraft.methods.base_critique import Critique, CritiqueParams, Graded, Judged
from lingraft.methods.critique import grade_answer, grade_translation
from lingraft.methods.vanilla import translation_example
from lingraft.metrics.base import open_metric
from lingraft.translation.wording import ask_for

TOGETHER = 512
"""Pairs whose samples a metric scores at once."""


class SelfCritiqueParams(CritiqueParams):
    """Parameters of self-critique of translations."""

    otherwise: Literal["reference", "drop"] = Field(
        "reference",
        description="teach: best: what is learnt of a pair of which no sample is fit, or good enough: its reference, "
        "or nothing",
    )
    metric: str | dict[str, Any] | None = Field(
        None,
        description="grades in place of a critic: a metric of translations, by name or with its parameters; it should "
        "not be one that is reported; where less is better, the negative of its score is the grade",
        json_schema_extra=HOLDS_METRIC,
    )

    @model_validator(mode="after")
    def _one_judge(self) -> SelfCritiqueParams:
        if self.metric is not None and self.critic != "self":
            raise ValueError("`metric` grades in place of a critic, and both are given; drop one of the two")
        if self.metric is not None and (self.grade != "expected" or not self.show_reference):
            raise ValueError("`grade` and `show_reference` are of a critic that is a model; drop them, or `metric`")
        return self

    @property
    def by_metric(self) -> str | Mapping[str, Any] | None:
        """The metric that grades, if one does."""
        return self.metric


class SelfCritique(Critique[Pair]):
    """Self-critique (Xu et al. 2024, ChatGLM-Math, arXiv 2404.02893), carried from mathematics to translation.

    The model translates each source several times, and a critic grades the translations. Rejective fine-tuning
    (`teach: best`) then learns the best one of each source, if it is good enough:
    L = -log P(best | request). With `teach: preferences` the best is learnt against the worst, by a loss of
    preferences (`dpo` by default): where the two differ by less than a margin, nothing is. In both the targets are the
    model's own words.

    Departures: the paper trains the critic from the same model on pseudo-labels and human grades; here the base grades
    as it is, shown the reference as in the paper, or an engine does, or a metric. Its grade is by default the mean
    under the distribution of its tokens (a weak critic mostly writes one number). Threshold, margin and number of
    samples are our own. The paper drops a question of which no answer is good enough; here its reference is learnt,
    unless `otherwise: drop`. Samples that are empty, cut, loop, hold thoughts or are in another language than the
    target are not graded, each counted, nor is a text twice.
    """

    name: ClassVar[str] = "self_critique"
    summary: ClassVar[str] = (
        "the best of the base's own translations, by itself, an engine or a metric; or best against worst"
    )
    paper: ClassVar[str] = "arXiv 2404.02893"
    cite: ClassVar[tuple[str, ...]] = ("xu-2024-chatglm-math",)
    Params: ClassVar[type[MethodParams]] = SelfCritiqueParams
    role: ClassVar[str] = "translation"
    keeps_references: ClassVar[bool] = False
    params: SelfCritiqueParams

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metric by which samples are chosen, which should not be the one reported; none where a model grades."""
        return () if self.params.metric is None else (self.params.metric,)

    def items(self, inputs: MethodInputs) -> Iterator[Pair]:
        """Yield the pairs."""
        yield from inputs.pairs

    def messages(self, item: Pair, inputs: MethodInputs) -> tuple[Message, ...]:
        """Return the translation request."""
        return ask_for(item, self.params.instructions, inputs.seed)

    def grading(self, item: Pair, text: str) -> tuple[Message, ...]:
        """Return the request to grade a translation."""
        return grade_translation(item, text, reference=self.params.show_reference)

    def fault(self, item: Pair, text: str) -> str:
        """Refuse what is in another language than the target."""
        return "" if written_in(text, item.target_lang, (item.source_lang,)) else "wrong_language"

    def example_id(self, item: Pair) -> str:
        """Return the pair's id."""
        return item.id

    def otherwise(self, item: Pair, inputs: MethodInputs) -> Iterator[Example]:
        """Yield the reference, where that is learnt instead."""
        if self.params.teach == "best" and self.params.otherwise == "reference":
            yield translation_example(item, self.params.instructions, inputs.seed)

    def scored(
        self, inputs: MethodInputs, metric: str | Mapping[str, Any], judged: Iterator[Judged[Pair]]
    ) -> Iterator[Judged[Pair]]:
        """Yield the pairs with scored samples, many at once; of a metric of which less is better, less is more."""
        while some := list(islice(judged, TOGETHER)):
            pairs = [one.item for one in some for _ in one.samples]
            sign = 1 if open_metric(metric).facts.better == "higher" else -1
            grades = iter(inputs.score(metric, pairs, [sample.text for one in some for sample in one.samples]))
            for one in some:
                scored = [(sample, sign * next(grades)) for sample in one.samples]
                samples = [Graded(sample.number, sample.text, score) for sample, score in scored if not isnan(score)]
                yield Judged(one.item, samples or one.samples, one.dropped)


class SelfCritiqueChat(Critique[Prompt]):
    """Self-critique (Xu et al. 2024, ChatGLM-Math, arXiv 2404.02893) of answers to general prompts.

    As `self_critique`, for the prompts of the replay half: the model answers each several times, a critic grades the
    answers, and the best is learnt, or the best against the worst. Beside a method that translates it is a rehearsal
    that keeps what was good about the answers and not what was not. The critic sees the answer that came with a prompt,
    where one did.

    Departures: as of `self_critique`; a prompt of which no answer is good enough is dropped, as in the paper.
    """

    name: ClassVar[str] = "self_critique_chat"
    summary: ClassVar[str] = (
        "the best of the base's own answers to general prompts, by itself or an engine; or best against worst"
    )
    paper: ClassVar[str] = "arXiv 2404.02893"
    cite: ClassVar[tuple[str, ...]] = ("xu-2024-chatglm-math",)
    version: ClassVar[int] = 2
    consumes: ClassVar[Literal["pairs", "prompts", "texts"]] = "prompts"

    @property
    def role(self) -> str:  # type: ignore[override]
        """Of answers: those of the graft of the stage before are not the base's own."""
        return "reply" if self.params.sampler == "base" else "given_reply"

    @property
    def replays(self) -> bool:
        """Whether the best of the base's own answers are learnt."""
        return self.params.teach == "best" and self.params.sampler == "base"

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer."""
        return self.params.max_answer_tokens

    def items(self, inputs: MethodInputs) -> Iterator[Prompt]:
        """Yield the prompts."""
        yield from inputs.prompts

    def messages(self, item: Prompt, inputs: MethodInputs) -> tuple[Message, ...]:
        """Return the conversation."""
        return item.messages

    def grading(self, item: Prompt, text: str) -> tuple[Message, ...]:
        """Return the request to grade an answer."""
        return grade_answer(asked_text(item.messages), text, item.reference if self.params.show_reference else None)

    def fault(self, item: Prompt, text: str) -> str:
        """Say nothing against it: which language an answer is to be in depends on the question."""
        return ""
