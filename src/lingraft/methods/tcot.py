"""Translation chain of thought: train to answer through English, all in one turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Prompt, Span
from lingraft.methods.base import MethodInputs, MethodParams
from lingraft.methods.base_native import NativeParams, NativeReplay, TranslatedPrompt


class TCoTParams(NativeParams):
    """Parameters of the translation chain of thought."""

    marker_weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="factor on the loss of the three markers of a chain, which are few among its tokens; above 1 where "
        "chains lack markers",
    )


class TCoT(NativeReplay):
    """Translation chain of thought (Geng et al. 2024, arXiv 2405.13923, section 3.1), the transfer fine-tuning of
    TransLLM: to a question in, say, Thai the model writes `<EN>` and the question in English, `<RESPONSE>` and the
    answer in English, `<TH>` and the answer in Thai. It stands beside `recovery`, whose answers come after `<RESPONSE>`
    alone.

    Departures: the paper has prompts and answers translated by Google Translate. Here the graft of the stage before,
    which was pre-trained on translations, carries them over itself, sentence by sentence; another model or a file of
    translations can take its place. What is empty, cut, looping, copied, far longer or shorter than its source, in
    another language, or without the source's numbers is dropped and counted. Chains whose English answer was cut are
    dropped, since a chain must be whole. Turns before the last question stay English, as they are passed on in a
    conversation. With `answers: reference` it is the paper's comparison with answers of a stronger model.
    """

    name: ClassVar[str] = "tcot"
    summary: ClassVar[str] = "answers in another language through English, in one turn"
    paper: ClassVar[str] = "arXiv 2405.13923"
    cite: ClassVar[tuple[str, ...]] = ("geng-2024-transllm",)
    Params: ClassVar[type[MethodParams]] = TCoTParams
    params: TCoTParams
    needs_markers: ClassVar[bool] = True
    cost: ClassVar[tuple[int, int]] = (1, 2)
    chat: ClassVar[Literal["direct", "tcot"] | None] = "tcot"

    def least_tokens(self, prompt: Prompt, count: Callable[[str], int]) -> int:
        """Return the tokens of the question, which the chain begins with, and of an answer that is given."""
        return count(prompt.messages[-1].content) + super().least_tokens(prompt, count)

    def example(self, carried: TranslatedPrompt, inputs: MethodInputs) -> Example:
        """Return question, and the chain of its translation, the answer and the answer's translation.

        Raises:
            UsageError: there are no markers.
        """
        markers = inputs.markers
        if markers is None:
            raise UsageError("method tcot needs the markers of an extended vocabulary; add `vocabulary:` to the recipe")
        opening, response, native = (
            replace(markers.span(token), weight=self.params.marker_weight)
            for token in (markers.english, markers.response, markers.of(carried.lang))
        )
        spans = (
            *(opening, Span(carried.query, "english_query")),
            *(response, carried.answer),
            *(native, carried.written),
        )
        return Example(f"tcot:{carried.prompt.id}", carried.messages, spans)
