"""Recovery: train on the base's own answers to general prompts, so that what it could do is rehearsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lingraft.data.records import Example, Generation, Request
from lingraft.methods.base import Method, MethodInputs, MethodParams, Tally
from lingraft.methods.distillation import DistillationParams
from lingraft.text import is_looping


class RecoveryParams(DistillationParams):
    """Parameters of recovery."""

    max_answer_tokens: int = Field(256, ge=1, description="longest answer asked for, in tokens")
    max_prompts: int | None = Field(None, ge=1, description="prompts of the replay half that are used; default: all")
    drop_looping: bool = Field(True, description="drop answers that repeat themselves without end")


class Recovery(Method):
    """Recovery knowledge distillation (Geng et al. 2024, arXiv 2405.13923, section 3.3), after SeqKD (Kim & Rush 2016,
    arXiv 1606.07947) with the base as its own teacher.

    Alone it teaches nothing new; it stands beside a method that does, at a given share of the tokens. Only prompts of
    the replay half are asked, so that retention is measured on others.

    Departures: answers that loop or are empty are dropped and counted; with soft targets the base's distribution at
    each token is matched instead of the token it chose.
    """

    name: ClassVar[str] = "recovery"
    summary: ClassVar[str] = "replay of the base's own answers to general prompts, beside another method"
    paper: ClassVar[str] = "arXiv 2405.13923"
    Params: ClassVar[type[MethodParams]] = RecoveryParams
    made_of: ClassVar[Literal["pairs", "prompts", "texts"]] = "prompts"
    params: RecoveryParams

    @classmethod
    def expected_tokens(cls, params: RecoveryParams) -> float:
        """Return about how many tokens an answer has."""
        return 0.75 * params.max_answer_tokens

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask the base the prompts themselves."""
        sampling = self.params.sampling(self.params.max_answer_tokens, inputs.seed)
        for prompt in inputs.prompts[: self.params.max_prompts]:
            yield self.params.asked(Request(f"recovery:{prompt.id}", prompt.messages, sampling))

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield prompt and answer, where the answer passes the filters."""
        for prompt in inputs.prompts[: self.params.max_prompts]:
            generation = generations[f"recovery:{prompt.id}"]
            cut = generation.finish_reason == "length"
            reason = self._reason_to_drop(generation, cut)
            tally.filters[reason or ("kept_truncated" if cut else "kept")] += 1
            if reason is None:
                span = self.params.written(generation, "reply")
                yield Example(generation.id, prompt.messages, (span,), end_turn=not cut)

    def _reason_to_drop(self, generation: Generation, cut: bool) -> str | None:
        text = generation.text.strip()
        if not text:  # nothing to train on, whatever the filters
            return "empty"
        if cut and self.params.truncated == "drop":
            return "truncated"
        return "looping" if self.params.drop_looping and is_looping(text) else None
