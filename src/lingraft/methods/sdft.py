"""SDFT: train on the base's own answer, written with the reference in front of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from lingraft.core.hashing import stable_fraction
from lingraft.core.validation import HOLDS_METRIC
from lingraft.data.records import Example, Generation, Message, Pair, Request, Span, asked_text
from lingraft.language.characters import columns, is_blank
from lingraft.language.measures import is_echo, is_looping, letter_count, translated_into
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import Method, MethodInputs, MethodParams, Tally
from lingraft.methods.base_distillation import DistillationParams
from lingraft.methods.vanilla import translation_example
from lingraft.metrics.base import open_metric
from lingraft.translation.wording import ask_for, with_fields

REWRITE = (
    "{request}\n\nA correct answer to this, for you to go by, is:\n\n{reference}\n\nNow answer the request yourself. "
    "Write the answer alone, with no word about it and none about the text you were shown."
)
BANNED = (
    *("reference answer", "reference translation", "correct answer", "answer above", "request above"),
    *("my answer", "my own answer", "my response", "my own response", "your turn"),
    *("your answer", "your own answer", "your response", "your own response"),
)
"""Words about the task instead of an answer."""

Filter = Literal["empty", "banned", "looping", "echo", "length_ratio", "wrong_language"]

FILTERS: tuple[Filter, ...] = get_args(Filter)
_SCORED = 4096  # pairs scored at once
_SHORT = 20  # columns; what is shorter counts as so long in the length ratio


class SDFTParams(DistillationParams):
    """Parameters of SDFT."""

    truncated: Literal["drop"] = Field(
        "drop", description="an answer that reached the token limit is no whole translation: the reference is taken"
    )
    share: float = Field(1.0, ge=0, le=1, description="of the pairs, which the base answers; 0: vanilla")
    rewrite: str = Field(
        REWRITE, description="what the base is asked, with {request} and {reference}; never a part of the examples"
    )
    max_answer_tokens: int = Field(256, ge=1, description="longest answer asked for, in tokens")
    filters: list[Filter] = Field(
        default_factory=lambda: list(FILTERS), description="reasons to take the reference instead of the answer"
    )
    banned: list[str] = Field(
        default_factory=lambda: list(BANNED),
        description="words about the task: an answer with them, whatever their case, is not taken, unless source or "
        "reference has them, too",
    )
    max_length_ratio: float = Field(2.5, gt=1, description="longest to shortest of an answer and the reference")
    metric: str | dict[str, Any] | None = Field(
        None,
        description="an answer that passes the filters is taken if its score by this metric is no worse than that of "
        "the reference by more than `epsilon`. One without references (kiwi, a command) judges both alike; by one that "
        "compares with the reference, this has the best score there is",
        json_schema_extra=HOLDS_METRIC,
    )
    epsilon: float = Field(0.0, ge=0, description="by how much an answer may score worse, in points of the metric")

    @field_validator("rewrite")
    @classmethod
    def _with_both(cls, value: str) -> str:
        return with_fields(value, ("request", "reference"))

    @field_validator("banned")
    @classmethod
    def _visible(cls, value: list[str]) -> list[str]:
        if any(is_blank(words) for words in value):
            raise ValueError("words without letters would be in every answer; leave them out")
        return value

    @model_validator(mode="after")
    def _measured(self) -> SDFTParams:
        if self.epsilon and self.metric is None:
            raise ValueError("`epsilon` is in points of a metric, and there is none; give `metric`, or drop it")
        return self


class SDFT(Method):
    """Self-distillation fine-tuning (Yang et al. 2024, arXiv 2402.13669).

    The base is shown the request and, as a correct answer to go by, the reference; what it answers then takes the
    reference's place: L = -log P(own answer | request), the request alone being in the example. So the targets lie
    closer to what the base would write, and less has to change. Where the answer fails a check the reference is learnt
    as by `vanilla`, and the reason is counted.

    Departures: the wording is our own, and so are the words about the task that speak against an answer. The paper
    checks beside these the result of a sum or a program; a translation has none, so that an answer is refused, too,
    that holds thoughts, is empty, cut, loops, repeats the source, is far longer or shorter than the reference, or is in
    another language than the reference. With `metric` it must also score no worse than the reference, but for
    `epsilon`. It is written greedily by default. With soft targets the base's distribution at each token is learnt:
    that which saw the reference.
    """

    name: ClassVar[str] = "sdft"
    summary: ClassVar[str] = "the base's own answers, written with the reference in front of it, in place of references"
    paper: ClassVar[str] = "arXiv 2402.13669"
    cite: ClassVar[tuple[str, ...]] = ("yang-2024-sdft",)
    Params: ClassVar[type[MethodParams]] = SDFTParams
    keeps_references: ClassVar[bool] = False
    params: SDFTParams

    @classmethod
    def expected_tokens(cls, params: SDFTParams) -> float:
        """Return about how many tokens a pair's answer has."""
        return 0.25 * params.max_answer_tokens * params.share

    def _chosen(self, pair: Pair, seed: int) -> bool:
        return stable_fraction("sdft", seed, pair.id) < self.params.share

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask for an answer of the base's own to the chosen share of the requests, the reference in front of it."""
        sampling = self.params.sampling(self.params.max_answer_tokens, inputs.seed)
        for pair in inputs.pairs:
            if self._chosen(pair, inputs.seed):
                yield self.params.asked(Request(f"sdft:{pair.id}", self._messages(pair, inputs.seed), sampling))

    def _messages(self, pair: Pair, seed: int) -> tuple[Message, ...]:
        *before, last = ask_for(pair, self.params.instructions, seed)
        asked = self.params.rewrite.format(request=last.content, reference=pair.target.strip())
        return (*before, Message(last.role, asked))

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metric, if it has one."""
        return () if self.params.metric is None else (self.params.metric,)

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield request and own answer, or the reference where the answer is not fit or was not asked for."""
        pairs = iter(inputs.pairs)
        while batch := list(islice(pairs, _SCORED)):
            own = {pair.id: self._own(pair, inputs, generations, tally) for pair in batch}
            worse = self._worse([pair for pair in batch if own[pair.id]], own, inputs)
            for pair in batch:
                plain = translation_example(pair, self.params.instructions, inputs.seed)
                span = own[pair.id]
                if span is None:
                    yield plain
                    continue
                tally.filters["quality" if pair.id in worse else "kept"] += 1
                yield plain if pair.id in worse else replace(plain, spans=(span,))

    def _own(
        self, pair: Pair, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally
    ) -> Span | None:
        """Return the base's answer if it passes the checks; else the reason is counted."""
        if not self._chosen(pair, inputs.seed):
            return None
        generation, given = generations[f"sdft:{pair.id}"], asked_text(self._messages(pair, inputs.seed))
        if reason := self._reason_to_drop(pair, generation, given):
            tally.filters[reason] += 1
            return None
        return self.params.written(generation, "translation", given=given)

    def _worse(self, pairs: Sequence[Pair], own: Mapping[str, Span | None], inputs: MethodInputs) -> set[str]:
        """Return the ids of pairs whose answer scores worse than the reference by more than epsilon, or not at all."""
        metric = self.params.metric
        if metric is None or not pairs:
            return set()
        answers = [span.text.strip() for pair in pairs if (span := own[pair.id])]
        found = inputs.score(metric, pairs, answers)
        wanted = inputs.score(metric, pairs, [pair.target for pair in pairs])
        sign = 1 if open_metric(metric).facts.better == "higher" else -1
        good = (sign * (one - other) >= -self.params.epsilon for one, other in zip(found, wanted, strict=True))
        return {pair.id for pair, fit in zip(pairs, good, strict=True) if not fit}

    def _reason_to_drop(self, pair: Pair, generation: Generation, given: str) -> str:
        """Return the first active check that an answer fails, "" if none; cut or with thoughts it is never taken."""
        if thinks(generation.text, given):
            return "thinking"
        if generation.finish_reason == "length":
            return "truncated"
        text, (source, reference) = said(generation.text, given).text.strip(), (pair.source, pair.target)
        if is_blank(text):  # nothing to train on, whatever the filters
            return "empty"
        short, long = sorted(max(columns(side), _SHORT) for side in (text, reference))
        checks = {
            "empty": lambda: not letter_count(text) and letter_count(reference) > 0,
            "banned": lambda: self._speaks_of_the_task(text, f"{source}\n{reference}"),
            "looping": lambda: is_looping(text) and not is_looping(reference),
            "echo": lambda: is_echo(text, source) and not is_echo(reference, source),
            "length_ratio": lambda: long > self.params.max_length_ratio * short,
            "wrong_language": lambda: not translated_into(text, [reference], pair.target_lang, (pair.source_lang,)),
        }
        return next((name for name in FILTERS if name in self.params.filters and checks[name]()), "")

    def _speaks_of_the_task(self, text: str, pair: str) -> bool:
        for words in self.params.banned:
            whole = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)
            if whole.search(text) and not whole.search(pair):
                return True
        return False
