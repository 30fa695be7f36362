"""RaDis: train on the reference followed by a rationale that the base itself wrote after it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import UsageError
from lingraft.core.hashing import stable_fraction
from lingraft.core.validation import HOLDS_ENGINE
from lingraft.data.records import Example, Generation, Message, Pair, Request, Span, asked_text
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language, language_name
from lingraft.language.identification import identifier_label, identify, may_be
from lingraft.language.measures import is_echo, is_looping, letter_count, words
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import Method, MethodInputs, MethodParams, Tally
from lingraft.methods.base_distillation import DistillationParams
from lingraft.methods.rounds import ExpectedRound, Round, checked_engine
from lingraft.methods.vanilla import translation_example
from lingraft.translation.wording import ask_for, with_fields

DELIMITERS = ("\n\nNote:", "\n\nExplanation:", "\n\n[Note]", "\n\n----\n\n", "\n\n#### Note\n\n")
"""Tried in this order. A bare blank line is not among them: it would cut translations of several paragraphs."""

Filter = Literal["empty", "too_short", "looping", "wrong_language", "echo", "second_translation"]

FILTERS: tuple[Filter, ...] = get_args(Filter)


class RaDisParams(DistillationParams):
    """Parameters of RaDis."""

    rationale_weight: float = Field(1.0, ge=0, description="weight of rationale tokens; 0: vanilla")
    rationale_share: float = Field(1.0, ge=0, le=1, description="share of pairs that get a rationale; 0: vanilla")
    rationales: Literal["base", "before"] | dict[str, Any] = Field(
        "base",
        description="who writes them: the base itself; the graft of the stage before, in a further stage; or an engine "
        "as under `engine:`, with another model",
        json_schema_extra=HOLDS_ENGINE,
    )
    rationale_prompt: str = Field(
        "",
        description="what an engine is asked, with {request} and {reference}, where it cannot go on from a beginning; "
        "empty: it goes on behind reference and delimiter, as the base does",
    )
    max_rationale_tokens: int = Field(96, ge=1, description="longest rationale asked for, in tokens")
    min_rationale_words: int = Field(5, ge=0, description="shorter rationales are dropped")
    delimiter: str = Field(
        "auto",
        description="text between translation and rationale, and the stop string when translating; auto: the first of "
        "a few that occurs in no source and no target",
    )
    filters: list[Filter] = Field(
        default_factory=lambda: list(FILTERS), description="reasons to drop a rationale; the pair is kept without it"
    )

    @field_validator("rationales")
    @classmethod
    def _has_a_kind(cls, value: Any) -> Any:
        return checked_engine(value)

    @field_validator("rationale_prompt")
    @classmethod
    def _with_both(cls, value: str) -> str:
        return with_fields(value, ("request", "reference")) if value else value

    @model_validator(mode="after")
    def _asked_of_engines(self) -> RaDisParams:
        if self.rationale_prompt and isinstance(self.rationales, str):
            raise ValueError(
                "rationale_prompt is for an engine as `rationales`; the base goes on behind the reference, drop it"
            )
        if self.rationale_prompt and self.targets == "soft":
            raise ValueError(
                "rationale_prompt lets an engine answer another question, whose distributions are not those behind the "
                "reference; set `targets: hard`, or drop it"
            )
        return self

    @field_validator("delimiter")
    @classmethod
    def _visible(cls, value: str) -> str:
        if is_blank(value):
            raise ValueError(
                "a delimiter of white space alone (or that shows nothing) would cut translations of several paragraphs"
            )
        return value


class RaDis(Method):
    """Rationale distillation (Wu et al. 2025, arXiv 2410.13944).

    The base continues an assistant turn that already holds the reference and a delimiter; what it writes is the
    rationale.
    The example is [translation, separator, rationale], conditioned on the plain request, so that
    -log P(reference) is the new skill and -log P(rationale | request, reference) the self-distillation (section 3).

    Departures: the paper states neither how translation and rationale are told apart nor any filter. Here a visible
    delimiter separates them (and stops decoding), and rationales that loop, echo, translate again or are in an
    unexpected language are dropped, each counted; a cut-off rationale does not teach the stop token. The paper does not
    say how rationales are sampled: greedily by default. With soft targets the rationale is learnt from the base's
    distribution at each of its tokens, recorded while it wrote, instead of from the tokens alone.

    `rationales` says who writes them, the dial of the paper's section 5.2: the base's own keep the most of what it
    knows, those of a stronger model gain the most in translation. `before` asks, in a further stage, the graft that the
    stage before has trained, so that they follow the student (on-policy). Distributions are those of whoever wrote.
    """

    name: ClassVar[str] = "radis"
    summary: ClassVar[str] = "reference + a rationale written by the base itself"
    paper: ClassVar[str] = "arXiv 2410.13944"
    cite: ClassVar[tuple[str, ...]] = ("wu-2025-radis",)
    Params: ClassVar[type[MethodParams]] = RaDisParams
    params: RaDisParams

    @classmethod
    def expected_tokens(cls, params: RaDisParams) -> float:
        """Return about how many tokens of rationale a pair gets."""
        return 0.75 * params.max_rationale_tokens * params.rationale_share if params.rationale_weight else 0.0

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return the one round of whoever writes the rationales."""
        tokens = self.expected_tokens(self.params)
        if not tokens:
            return []
        return [ExpectedRound(of=self.params.rationales, tokens=tokens, logprobs=self.params.soft, key="rationales")]

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Let whoever writes the rationales write them."""
        return None if number else Round(requests=lambda: self.requests(inputs), of=self.params.rationales)

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Choose the delimiter.

        Raises:
            UsageError: the given delimiter occurs in the data, or every candidate does.
        """
        candidates = DELIMITERS if self.params.delimiter == "auto" else (self.params.delimiter,)
        # Compared by its visible part: at the edge of a text the blank lines around it may be missing.
        free = {delimiter: delimiter.strip() for delimiter in candidates}
        clash = ""
        for pair in inputs.pairs:
            for delimiter, core in list(free.items()):
                if core in pair.target or core in pair.source:
                    del free[delimiter]
                    clash = pair.id if delimiter == candidates[-1] else clash
            if not free:
                break
        if free:
            return {"delimiter": next(iter(free))}
        raise UsageError(
            f"the delimiter {candidates[-1]!r} occurs in pair {clash!r}; "
            f"set the parameter `delimiter` to a text that is in no pair"
        )

    @property
    def delimiter(self) -> str:
        """The delimiter, or "auto"."""
        return str(self.params.delimiter)

    def stop(self, inputs: MethodInputs) -> tuple[str, ...]:
        """Stop at the delimiter: its visible part, at the start of a line if the delimiter starts one (the number of
        blank lines before it may vary)."""
        delimiter = str(inputs.prepared["delimiter"])
        core = delimiter.strip()
        return ("\n" + core if "\n" in delimiter[: delimiter.index(core)] else core,)

    def _chosen(self, pair: Pair, seed: int) -> bool:
        # An unweighted rationale cannot change the loss of the translation before it, but would hide the stop token.
        if not self.params.rationale_weight:
            return False
        return stable_fraction("rationale", seed, pair.id) < float(self.params.rationale_share)

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask for the continuation after reference and delimiter, or for a rationale in words, for the chosen share of
        pairs."""
        delimiter = str(inputs.prepared["delimiter"])
        sampling = self.params.sampling(self.params.max_rationale_tokens, inputs.seed)
        for pair in inputs.pairs:
            if self._chosen(pair, inputs.seed):
                messages = ask_for(pair, self.params.instructions, inputs.seed)
                prefill = pair.target.strip() + delimiter
                if self.params.rationale_prompt:
                    messages, prefill = self._in_words(pair, messages), ""
                yield self.params.asked(Request(pair.id, messages, sampling, prefill))

    def _in_words(self, pair: Pair, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return the question for a rationale, in place of a beginning that is to be continued."""
        *before, last = messages
        asked = self.params.rationale_prompt.format(request=last.content, reference=pair.target.strip())
        return (*before, Message(last.role, asked))

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield reference + rationale, or the reference alone where the rationale was filtered or not asked for."""
        delimiter = str(inputs.prepared["delimiter"])
        for pair in inputs.pairs:
            plain = translation_example(pair, self.params.instructions, inputs.seed)
            generation = generations.get(pair.id) if self._chosen(pair, inputs.seed) else None
            if generation is None:
                yield plain
                continue
            cut = generation.finish_reason == "length"
            given = self._given(pair, plain)
            reason = self._reason_to_drop(pair, generation.text, cut, given)
            tally.filters[reason or ("kept_truncated" if cut else "kept")] += 1
            if reason:
                yield plain
                continue
            spans = (
                Span(pair.target.strip(), "translation"),
                Span(delimiter, "separator"),  # learnt in full whatever the weight: it ends the translation
                self._rationale(generation, delimiter, given),
            )
            yield Example(pair.id, plain.messages, spans, end_turn=not cut)

    def _rationale(self, generation: Generation, delimiter: str, given: str) -> Span:
        """Return the rationale; an answer to a question of its own begins anew, and is set off from the delimiter."""
        span = self.params.written(generation, "rationale", float(self.params.rationale_weight), given=given)
        if not self.params.rationale_prompt:
            return span
        return replace(span, text=("" if delimiter[-1:].isspace() else " ") + span.text.strip())

    def _given(self, pair: Pair, asked: Example) -> str:
        """Return what whoever wrote the rationale was given before it: the request and the reference."""
        if self.params.rationale_prompt:
            return asked_text(self._in_words(pair, asked.messages))
        return "\n".join([asked_text(asked.messages), pair.target])

    def _reason_to_drop(self, pair: Pair, rationale: str, cut: bool, given: str) -> str | None:
        """Return the first active filter that the rationale fails; thoughts are never a rationale.

        Args:
            pair: whose translation the rationale explains.
            rationale: as the base wrote it.
            cut: whether it reached the token limit.
            given: what the base was asked.
        """
        if thinks(rationale, given):
            return "thinking"
        text = said(rationale, given).text.strip()
        checks = {
            "empty": lambda: is_blank(text),
            "too_short": lambda: 0 < len(words(text)) < self.params.min_rationale_words,
            "looping": lambda: is_looping(text),
            "wrong_language": lambda: _unexpected_language(text, pair),
            "echo": lambda: is_echo(text, pair.target) or is_echo(text, pair.source),
            "second_translation": lambda: _translates_again(text, pair),
        }
        if cut and self.params.truncated == "drop":
            return "truncated"
        return next((name for name in FILTERS if name in self.params.filters and checks[name]()), None)


def _unexpected_language(text: str, pair: Pair) -> bool:
    """Whether the rationale is in none of: English (the language of the request), source, target."""
    expected = {"en", pair.source_lang, pair.target_lang}
    if letter_count(text) < 30 or any(identifier_label(code) is None for code in expected):
        return False
    found, probability = identify(text, expected)
    return not any(may_be(found, code) for code in expected) and probability >= 0.9


def _translates_again(text: str, pair: Pair) -> bool:
    """Whether a line of the rationale announces or repeats a translation instead of explaining it."""
    names = {language_name(pair.target_lang), language_name(base_language(pair.target_lang))}
    label = rf"(?:{'|'.join(map(re.escape, names))}|translation|alternative translation)"
    for line in filter(None, map(str.strip, text.splitlines())):
        if re.match(rf"{label}\s*(?:\([^)]*\)\s*)?:", line, re.IGNORECASE) or is_echo(line, pair.target):
            return True
    return False
