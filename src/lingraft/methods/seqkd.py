"""Sequence-level knowledge distillation: train on a teacher's translations of the sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator

from lingraft.core.hashing import stable_fraction
from lingraft.core.validation import HOLDS_ENGINE, as_value_error
from lingraft.data.records import Example, Generation, Message, Pair, Request, Span, asked_text
from lingraft.language.characters import is_blank
from lingraft.language.measures import is_echo, is_looping, translated_into
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import Method, MethodInputs, MethodParams, Tally
from lingraft.methods.base_distillation import DistillationParams
from lingraft.methods.rounds import ExpectedRound, Round, checked_engine
from lingraft.methods.vanilla import translation_example
from lingraft.translation.wording import ask_for, check_wording

Filter = Literal["echo", "looping", "wrong_language"]

FILTERS: tuple[Filter, ...] = get_args(Filter)


class SeqKDParams(DistillationParams):
    """Parameters of sequence-level distillation."""

    truncated: Literal["drop"] = Field(
        "drop", description="a translation that reached the token limit is none: it is not learnt"
    )
    teacher: Literal["base"] | dict[str, Any] = Field(
        "base",
        description="who translates the sources: the base itself, or an engine as under `engine:`, with another model",
        json_schema_extra=HOLDS_ENGINE,
    )
    teacher_instruction: str | None = Field(
        None, description="wording in which the teacher is asked to translate; default: as in the example"
    )
    share: float = Field(1.0, ge=0, le=1, description="of the pairs, which the teacher translates; 0: vanilla")
    max_translation_tokens: int = Field(256, ge=1, description="longest translation asked for, in tokens")
    filters: list[Filter] = Field(
        default_factory=lambda: list(FILTERS),
        description="reasons not to learn a translation, beside an empty, a cut one, and one with thoughts",
    )
    fallback: Literal["none", "reference"] = Field(
        "none", description="what is learnt where a translation is not fit: nothing, or the reference"
    )

    @field_validator("teacher")
    @classmethod
    def _has_a_kind(cls, value: Any) -> Any:
        return checked_engine(value)

    @field_validator("teacher_instruction")
    @classmethod
    def _fillable_by_teachers(cls, value: str | None) -> str | None:
        with as_value_error():
            return value if value is None else check_wording(value)


class SeqKD(Method):
    """Sequence-level knowledge distillation (Kim and Rush 2016, arXiv 1606.07947).

    A teacher q translates each source x, and the student learns its translation y' = argmax q(y | x) in place of the
    reference: L = -log p(y' | x), the approximation of the distillation -sum_y q(y | x) log p(y | x) over all sequences
    by the mode of q (section 3.2). With the base as teacher it is the paper's method on the model itself, the baseline
    SeqKD of RaDis (arXiv 2410.13944): nothing new is taught, and little is forgotten.

    Departures: y' is written greedily by default, where the paper searches with a beam; sampled, with `temperature`.
    The paper keeps every translation; here one that is empty, cut, in another language, repeats the source or itself,
    or holds thoughts is not learnt: the pair is left out and counted, or its reference taken. With soft targets each
    token is learnt from the teacher's distribution at it, the word-level loss of section 3.1 on y' (the paper's
    combination of both), and the teacher has to have the student's tokens.
    """

    name: ClassVar[str] = "seqkd"
    summary: ClassVar[str] = "a teacher's translations (of the base or any engine) in place of the references"
    paper: ClassVar[str] = "arXiv 1606.07947"
    cite: ClassVar[tuple[str, ...]] = ("kim-2016-seqkd",)
    Params: ClassVar[type[MethodParams]] = SeqKDParams
    keeps_references: ClassVar[bool] = False
    params: SeqKDParams

    @classmethod
    def expected_tokens(cls, params: SeqKDParams) -> float:
        """Return about how many tokens a pair's translation has."""
        return 0.25 * params.max_translation_tokens * params.share

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return the one round of the teacher."""
        tokens = self.expected_tokens(self.params)
        if not tokens:
            return []
        return [
            ExpectedRound(
                of=self.params.teacher, name=self.name, tokens=tokens, logprobs=self.params.soft, key="teacher"
            )
        ]

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Let the teacher translate the chosen share of the sources."""
        if number:
            return None
        return Round(requests=lambda: self.requests(inputs), of=self.params.teacher, name=self.name)

    def _chosen(self, pair: Pair, seed: int) -> bool:
        return stable_fraction("seqkd", seed, pair.id) < self.params.share

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask for the translation of each chosen source."""
        sampling = self.params.sampling(self.params.max_translation_tokens, inputs.seed)
        for pair in inputs.pairs:
            if self._chosen(pair, inputs.seed):
                messages = self._messages(pair, inputs.seed)
                yield self.params.asked(Request(f"seqkd:{pair.id}", messages, sampling, direct=True))

    def _messages(self, pair: Pair, seed: int) -> tuple[Message, ...]:
        wording = self.params.teacher_instruction
        return ask_for(pair, [wording] if wording else self.params.instructions, seed)

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield each source with the teacher's translation, where it is fit; pairs not chosen with the reference."""
        for pair in inputs.pairs:
            plain = translation_example(pair, self.params.instructions, inputs.seed)
            if not self._chosen(pair, inputs.seed):
                yield plain
                continue
            generation, given = generations[f"seqkd:{pair.id}"], asked_text(self._messages(pair, inputs.seed))
            reason = self._reason_to_drop(pair, generation, given)
            tally.filters[reason or "kept"] += 1
            if not reason:
                yield Example(pair.id, plain.messages, (self._learnt(generation, given),))
            elif self.params.fallback == "reference":
                yield plain

    def _learnt(self, generation: Generation, given: str) -> Span:
        written = self.params.written(generation, "translation", given=given)
        # A distribution belongs to each token, white space before the translation included; the text alone needs none.
        return written if written.teacher else replace(written, text=written.text.strip())

    def _reason_to_drop(self, pair: Pair, generation: Generation, given: str) -> str:
        """Return the first active check that a translation fails, "" if none."""
        if thinks(generation.text, given):
            return "thinking"
        text = said(generation.text, given).text.strip()
        if is_blank(text):  # nothing to train on, whatever the filters
            return "empty"
        if generation.finish_reason == "length":
            return "truncated"
        references = [pair.target]
        checks = {
            "echo": lambda: is_echo(text, pair.source) and not is_echo(pair.target, pair.source),
            "looping": lambda: is_looping(text) and not is_looping(pair.source),
            "wrong_language": lambda: not translated_into(text, references, pair.target_lang, (pair.source_lang,)),
        }
        return next((name for name in FILTERS if name in self.params.filters and checks[name]()), "")
