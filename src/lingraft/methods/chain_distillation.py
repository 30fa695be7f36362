"""Chain distillation: what the chain through English answers is taught as an answer without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Generation, Message, Prompt, Request, Span
from lingraft.language.characters import is_blank
from lingraft.language.codes import language_name
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import ExpectedRound, MethodInputs, MethodParams, Round, Tally
from lingraft.methods.base_native import UNTRANSLATED, NativeParams, NativeReplay, TranslatedPrompt
from lingraft.translation.markers import Markers
from lingraft.translation.wording import with_fields

HINT = (
    "{question}\n\nThe same question in English: {english_question}\n\nA correct answer in English:\n{english_answer}"
    "\n\nNow answer the question in {language}. Write the answer alone, with no word about the English texts."
)
_FIELDS = ("question", "english_question", "english_answer", "language")


class ChainDistillationParams(NativeParams):
    """Parameters of chain distillation."""

    targets: Literal["hard", "soft"] = Field(
        "soft",
        description="soft: KL to the teacher's distribution at each token of the native answer, recorded while it "
        "wrote; hard: cross-entropy on its words",
    )
    teacher: Literal["before", "base"] = Field(
        "before",
        description="who writes the native answer, seeing the English ones: the graft of the stage before, through its "
        "chain where there are markers; or the base, asked in the words of `hint`",
    )
    hint: str = Field(
        HINT,
        description="what a teacher without the chain is asked, with {question}, {english_question}, {english_answer} "
        "and {language}; never a part of the examples",
    )
    max_native_tokens: int = Field(384, ge=1, description="longest native answer asked for, in tokens")

    @field_validator("hint")
    @classmethod
    def _hinting(cls, value: str) -> str:
        return with_fields(value, _FIELDS)


class ChainDistillation(NativeReplay):
    """Internalised chain: the student is asked in the other language alone; the teacher, which writes the answer, also
    sees the question's translation and the English answer (COPSD, arXiv 2605.09548, for the translation chain of
    thought of TransLLM, Geng et al. 2024, arXiv 2405.13923). After it the graft is asked directly and pays nothing for
    the chain.

    L = sum over tokens t of the native answer of KL(teacher(. | question, its translation, English answer, a_<t) ||
    student(. | question, a_<t)), over the teacher's recorded most probable tokens and one event for all others.

    Departures: COPSD takes the divergence on the student's own answers, at each step; here the answers are the
    teacher's, written and recorded once before the stage, and a further stage of the same kind is a refresh. Its
    questions are given in both languages; here English prompts are carried to the other language as for `tcot`, the
    base answers them in English, and both answers pass `tcot`'s filters. The teacher is by default the graft that has
    learnt the chain, which continues the chain's own turn behind the marker of the language; the paper's, the same
    weights shown both in words, is `teacher: base`.
    """

    name: ClassVar[str] = "chain_distillation"
    summary: ClassVar[str] = "the chain's answers taught without the chain: the graft is then asked directly"
    paper: ClassVar[str] = "arXiv 2605.09548, for arXiv 2405.13923"
    cite: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2605.09548", "geng-2024-transllm")
    Params: ClassVar[type[MethodParams]] = ChainDistillationParams
    chat: ClassVar[Literal["direct", "tcot"] | None] = "direct"
    translated: ClassVar[tuple[str, ...]] = ("query",)
    params: ChainDistillationParams

    @property
    def asks_chain(self) -> bool:
        """Whether the graft of the stage before must answer through the chain."""
        return self.params.teacher == "before"

    def check(self, languages: Sequence[str]) -> None:
        """Refuse as the methods of native answers do, and distributions over pieces that the student does not write.

        Raises:
            UsageError: as there; or soft targets of the base beside an extended vocabulary.
            DataError: as there.
        """
        super().check(languages)
        if languages and self.params.teacher == "base" and self.params.targets == "soft":
            raise UsageError(
                f"method {self.name}: the base's distributions are over its own pieces, and the student writes with "
                f"those of the extended vocabulary; set `targets: hard`, or `teacher: before`"
            )

    def least_tokens(self, prompt: Prompt, count: Callable[[str], int]) -> int:
        """Return 0: the English answer is no part of the example."""
        return 0

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask the base for English answers; they are not learnt, so that no distribution is needed."""
        for request in super().requests(inputs):
            yield replace(request, top_logprobs=0)

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Ask for the native answers last."""
        last = 3 if self.own_prompts else 2
        if number != last:
            return super().round(number, inputs, answers)
        return Round(requests=lambda: self._native_requests(inputs, answers), of=self.params.teacher, name=self.name)

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return those of the native answers' methods, and that of the teacher."""
        native = ExpectedRound(
            of=self.params.teacher,
            name=self.name,
            tokens=0.75 * self.params.max_native_tokens,
            logprobs=self.params.soft,
            key="teacher",
        )
        return [*(replace(one, logprobs=False) for one in super().expected_rounds()), native]

    def known_examples(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Example]:
        """Yield the examples with a letter in place of what is still to be written."""
        yield from self._carried(inputs, generations, Tally(), UNTRANSLATED)

    def _native_requests(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Iterator[Request]:
        """Ask for the answer to each question that was carried over, with what the chain holds before it."""
        sampling = self.params.sampling(self.params.max_native_tokens, inputs.seed)
        for prompt, answer, lang, native_query in self._carried_queries(inputs, answers):
            query, english = prompt.messages[-1].content.strip(), answer.text.strip()
            before, id_ = prompt.messages[:-1], _id(prompt, lang)
            if self.asks_chain and inputs.markers is not None:
                turn = _opened(inputs.markers, lang, query, english)
                messages = (*before, Message("user", native_query))
                request = Request(id_, messages, sampling, turn=turn, direct=True)
            else:
                asked = self.params.hint.format(
                    question=native_query,
                    english_question=query,
                    english_answer=english,
                    language=language_name(lang),
                )
                request = Request(id_, (*before, Message("user", asked)), sampling, direct=True)
            yield self.params.asked(request)

    def _translation(
        self, prompt: Prompt, field: str, text: str, lang: str, generations: Mapping[str, Generation]
    ) -> tuple[str, str]:
        """Return the translation of a question; of an answer, what the teacher wrote in its place."""
        if field != "reply":
            return super()._translation(prompt, field, text, lang, generations)
        found = generations[_id(prompt, lang)]
        if thinks(found.text, text):
            return "", "thinking"
        if found.finish_reason == "length":
            return "", "unfinished"
        answer = said(found.text, text).text.strip()
        return ("", "empty") if is_blank(answer) else (answer, "")

    def written(self, prompt: Prompt, lang: str, text: str, generations: Mapping[str, Generation]) -> Span:
        """Return what the teacher wrote, with its distributions where targets are soft."""
        generation = generations.get(_id(prompt, lang))
        if generation is None:  # not written yet
            return super().written(prompt, lang, text, generations)
        return self.params.written(generation, "native_reply", given=text)

    def example(self, carried: TranslatedPrompt, inputs: MethodInputs) -> Example:
        """Return question and answer in the other language."""
        return Example(f"chain_distillation:{carried.prompt.id}", carried.messages, (carried.written,))


def _opened(markers: Markers, lang: str, query: str, answer: str) -> tuple[Span, ...]:
    """Return the turn that the chain has written up to its native answer."""
    return (
        *(markers.span(markers.english), Span(query, "english_query")),
        *(markers.span(markers.response), Span(answer, "english_reply")),
        markers.span(markers.of(lang)),
    )


def _id(prompt: Prompt, lang: str) -> str:
    return f"chain_distillation:{lang}:{prompt.id}"
