"""What methods share that train on English answers to general prompts: the base's own, or given ones."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Prompt, Request, Span, UserTurn, asked_text
from lingraft.language.characters import is_blank
from lingraft.language.measures import is_looping
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import Consumed, ExpectedRound, Method, MethodInputs, MethodParams, Round, Tally
from lingraft.methods.self_prompts import SelfPromptParams, SelfPrompts, self_requests, written_prompts


class ReplayParams(SelfPromptParams):
    """Parameters of answers to general prompts."""

    answers: Literal["base", "reference"] = Field(
        "base",
        description="base: what the base itself answers; reference: the answers that came with the prompts, of a "
        "stronger model for instance",
    )
    max_answer_tokens: int = Field(256, ge=1, description="longest answer asked for, in tokens")
    max_prompts: int | None = Field(None, ge=1, description="prompts of the replay half that are used; default: all")
    drop_looping: bool = Field(True, description="drop answers that repeat themselves without end")

    @model_validator(mode="after")
    def _looked_at(self) -> ReplayParams:
        fields = SelfPromptParams.model_fields
        own = [name for name, field in fields.items() if (field.description or "").startswith("prompts: self:")]
        unused = next((name for name in own if getattr(self, name) != fields[name].default), "")
        if unused and self.prompts == "given":
            raise ValueError(
                f"`{unused}` is for prompts that the base writes, and here they are given; set `prompts: self`, or "
                f"leave it at its default"
            )
        return self

    @model_validator(mode="after")
    def _answerable(self) -> ReplayParams:
        if self.prompts == "self" and self.answers == "reference":
            raise ValueError(
                "`answers: reference` takes answers that came with given prompts, and with `prompts: self` none do; "
                "choose one of the two"
            )
        return self


@dataclass(frozen=True)
class PromptAnswer:
    """A prompt with its answer.

    Attributes:
        span: the answer; None if it is not fit.
        cut: whether it reached the token limit.
        reason: why it is not fit, "" if it is.
    """

    prompt: Prompt
    span: Span | None
    cut: bool = False
    reason: str = ""


class Replay(Method):
    """Base of methods made of answers to the prompts of the replay half, or to prompts that the base writes first.

    The requests have the same ids and contents in all of them, so that answers can be shared.
    """

    Params: ClassVar[type[MethodParams]] = ReplayParams
    consumes: ClassVar[Consumed] = "prompts"
    request_cache: ClassVar[str] = "recovery"
    params: ReplayParams
    role: ClassVar[str] = "reply"
    lost: ClassVar[float] = 1.0
    """Share of the answers that may be lost to the token limit, short of all."""

    @classmethod
    def expected_tokens(cls, params: Any) -> float:
        """Return about how many tokens an answer has."""
        return 0.75 * params.max_answer_tokens if params.answers == "base" else 0.0

    @property
    def _given_role(self) -> str:
        return "given_reply" if self.role == "reply" else self.role

    @property
    def replays(self) -> bool:
        """Whether the answers are the base's own, as it gives them: not within a chain of thought."""
        return self.params.answers == "base" and self.role == "reply"

    @property
    def needs_prompts(self) -> bool:
        """Whether the prompts are the recipe's."""
        return self.params.prompts == "given"

    @property
    def own_prompts(self) -> int:
        """How many prompts the base writes; 0 where they are given."""
        return self.params.self_prompts if self.params.prompts == "self" else 0

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Ask for prompts first where the base writes them, and then as where they are given."""
        if not self.own_prompts:
            return super().round(number, inputs, answers)
        if number == 0:
            turn, count = self._user_turn(inputs), self._asked(inputs)
            return Round(requests=lambda: self_requests(self.params, turn, inputs.seed, count), name=OWN)
        return super().round(number - 1, self.asking(inputs, answers), answers)

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return that of the prompts, too, where the base writes them."""
        own = [ExpectedRound(name=OWN, tokens=0.4 * self.params.max_prompt_tokens)] if self.own_prompts else []
        return [*own, *super().expected_rounds()]

    def asking(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> MethodInputs:
        """Return the inputs with the prompts that the base has written in place of the given ones, if it has."""
        if not self.own_prompts or isinstance(inputs.prompts, SelfPrompts):
            return inputs
        turn, count = self._user_turn(inputs), self._asked(inputs)
        prompts = written_prompts(self.params, turn, answers, count, inputs.held_out)
        return replace(inputs, prompts=prompts)

    def _asked(self, inputs: MethodInputs) -> int:
        return self.own_prompts if inputs.most_prompts is None else min(self.own_prompts, inputs.most_prompts)

    def _user_turn(self, inputs: MethodInputs) -> UserTurn:
        if inputs.user_turn is None:
            raise UsageError(f"method {self.name!r}: `prompts: self` needs the base's chat template, which is not here")
        return inputs.user_turn(self.params.prompt_system)

    def count_prompts(self, inputs: MethodInputs, tally: Tally) -> None:
        """Count the prompts that the base has written and that are not fit, by reason.

        Args:
            inputs: as `asking` returns them.
            tally: is added to.
        """
        if isinstance(inputs.prompts, SelfPrompts):
            tally.filters.update({f"prompt_{reason}": count for reason, count in inputs.prompts.dropped.items()})

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer; 0 where the answers are given."""
        return self.params.max_answer_tokens if self.params.answers == "base" else 0

    def least_tokens(self, prompt: Prompt, count: Callable[[str], int]) -> int:
        """Return the tokens of an answer that is given."""
        return count(prompt.reference or "") if self.params.answers == "reference" else 0

    def prompts(self, inputs: MethodInputs) -> Iterator[Prompt]:
        """Yield the prompts that are used."""
        yield from inputs.prompts[: self.params.max_prompts]

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask the base the prompts themselves."""
        if self.params.answers == "reference":
            return
        sampling = self.params.sampling(self.params.max_answer_tokens, inputs.seed)
        for prompt in self.prompts(inputs):
            yield self.params.asked(Request(_id(prompt), prompt.messages, sampling))

    def answered(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[PromptAnswer]:
        """Yield each prompt with its answer, or the reason against it."""
        inputs = self.asking(inputs, generations)
        for prompt in self.prompts(inputs):
            asked = asked_text(prompt.messages)
            if self.params.answers == "reference":
                text = said(prompt.reference or "", asked).text.strip()
                reason = (
                    "thinking" if thinks(prompt.reference or "", asked) else "no_reference" if is_blank(text) else ""
                )
                yield PromptAnswer(prompt, None if reason else Span(text, self._given_role), reason=reason)
                continue
            generation = generations[_id(prompt)]
            cut = generation.finish_reason == "length"
            reason = "thinking" if thinks(generation.text, asked) else ""
            reason = reason or self._reason_to_drop(said(generation.text, asked).text.strip(), cut)
            span = None if reason else self.params.written(generation, self.role, given=asked)
            yield PromptAnswer(prompt, span, cut, reason)

    def shortfall(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> str:
        """Say so where no prompt or no answer is fit, or too many reach the token limit and are dropped for it."""
        inputs = self.asking(inputs, generations)
        if isinstance(inputs.prompts, SelfPrompts):
            if not inputs.prompts:
                dropped_as = Counter(inputs.prompts.dropped).most_common()
                counts = ", ".join(f"{count:,} {reason}" for reason, count in dropped_as)
                return (
                    f"none of {self._asked(inputs):,} prompts that the base has written is fit ({counts}); give some: "
                    f"`prompts:` in the recipe, and `prompts: given`"
                )
            if not all(_id(prompt) in generations for prompt in self.prompts(inputs)):
                return ""  # these are asked next
        answered = list(self.answered(inputs, generations))
        reasons = Counter(item.reason for item in answered if item.reason)
        dropped, whole = reasons["truncated"], [item for item in answered if not item.cut]
        if dropped and dropped >= len(answered) * self.lost + (self.lost < 1):
            limit, lengths = self.params.max_answer_tokens, []
            if self.params.answers == "base":
                lengths = [len(generations[_id(item.prompt)].token_ids) for item in whole]
            median = f" (median of the others {statistics.median_low(lengths)})" if lengths else ""
            return (
                f"{dropped:,} of {len(answered):,} answers exceed {limit:,} tokens{median}; raise `max_answer_tokens`, "
                f"or take answers that came with the prompts: `answers: reference`"
            )
        if answered and sum(reasons.values()) == len(answered):
            counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            remedy = "give other prompts, or drop filters"
            if reasons["thinking"] > len(answered) / 2:
                remedy = "switch the base's thinking off by a variable of its chat template (`template:` of the recipe)"
            return f"none of {len(answered):,} answers is fit ({counts}); {remedy}"
        return ""

    def _reason_to_drop(self, text: str, cut: bool) -> str:
        if is_blank(text):  # nothing to train on, whatever the filters
            return "empty"
        if cut and self.params.truncated == "drop":
            return "truncated"
        return "looping" if self.params.drop_looping and is_looping(text) else ""


OWN = "prompts"
"""Under which the prompts are kept that the base writes."""


def _id(prompt: Prompt) -> str:
    return f"recovery:{prompt.id}"
