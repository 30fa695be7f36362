"""Decoder `sitr`: a summary in another language by summarising, improving, translating and refining, one request each.

Source: Li et al. 2024, "Think Carefully and Check Again! Meta-Generation Unlocking LLMs for Low-Resource Cross-Lingual
Summarization" (arXiv 2410.20021). The four steps and their order are the paper's; the wordings are this project's own,
so that scores are not those of the paper's prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import Field

from lingraft.core.tasks import Task
from lingraft.core.validation import Needs
from lingraft.data.records import Generation, Message, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.language.codes import language_name
from lingraft.language.sentences import split_text
from lingraft.translation import summaries
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

SUMMARISE = (
    "Summarise the following {lang} text in {lang}. Write two to four sentences with the most important facts, and "
    "nothing else.\n\n{text}"
)
IMPROVE = (
    "Here is a {lang} text, and a summary of it.\n\nText:\n{text}\n\nSummary:\n{summary}\n\nCheck the summary against "
    "the text: correct what the text does not say, add what is important and missing, leave out what is not. Write the "
    "improved summary in {lang}, of two to four sentences, and nothing else."
)
REFINE = (
    "Here is a {lang} text, and its translation into {target}.\n\nText:\n{summary}\n\nTranslation:\n{translation}\n\n"
    "Correct meanings, names and numbers that are wrong, and what does not read like {target}. Write the corrected "
    "{target} text, and nothing else."
)

Mode = Literal["sitr", "summarise-translate", "translate-summarise"]
_STEPS: Mapping[Mode, tuple[str, ...]] = {
    "sitr": ("summaries", "improved", "translations", "refined"),
    "summarise-translate": ("summaries", "translations"),
    "translate-summarise": ("documents", "summarised"),
}
_LAST = ("translations", "refined", "summarised")
"""Steps that write a summary in the target language."""


@dataclass
class _State:
    """What is known of one document. `text`: what the last step that wrote something has written."""

    source: Source
    text: str = ""
    failures: list[str] = field(default_factory=list)
    tokens: int = 0
    calls: int = 0
    thought: bool = False
    steps: dict[str, str] = field(default_factory=dict)

    def fields(self, step: str) -> dict[str, str]:
        """Return what the wording of a step is filled in with."""
        source, target = (language_name(code) for code in (self.source.source_lang, self.source.target_lang))
        if step == "summarised":
            return {"lang": target, "text": self.text}
        known = {"lang": source, "target": target, "text": self.source.text, "translation": self.text}
        return known | {"summary": self.steps.get("improved") or self.steps.get("summaries", "")}

    def take(self, step: str, found: Translation) -> None:
        """Take what a step has written; a step that wrote nothing leaves the text of the one before."""
        self.tokens, self.calls = self.tokens + found.tokens, self.calls + 1
        self.thought = self.thought or found.thought
        self.steps[step] = found.text
        if found.failure:
            self.failures.append(f"{step}_{found.failure}")
        self.text = found.text or self.text


class Sitr(Decoder):
    """Summarise in the source language, improve the summary beside the document, translate it, refine the translation.

    Each step is a request of its own to the same weights; the third is asked as the system was taught to translate. A
    step that writes nothing leaves what the step before has written, and is counted under its name, such as
    `improved_empty`; without any summary nothing further is asked. Two pipelines that the paper compares with are modes
    of it, so that all of them are asked alike. Departures: the wordings, and `max_words`.
    """

    name: ClassVar[str] = "sitr"
    summary: ClassVar[str] = "summaries in another language: summarise, improve, translate, refine"
    paper: ClassVar[str] = "Li et al. 2024, Think Carefully and Check Again! (arXiv 2410.20021)"
    cite: ClassVar[tuple[str, ...]] = ("li-2024-think",)
    tasks: ClassVar[frozenset[Task]] = frozenset({"summary"})
    lengthened_by: ClassVar[tuple[str, ...]] = ("max_words", "document_tokens")

    class Params(Decoder.Params):
        """Of the four steps."""

        needs: ClassVar[Needs] = {
            "document_tokens": ("`mode: translate-summarise`", lambda own: own.mode == "translate-summarise"),
        }
        mode: Mode = Field(
            "sitr", description="sitr: all four steps; the others: two steps, in the order that their names say"
        )
        max_words: int = Field(
            0,
            ge=0,
            description="a longer document is cut behind the last sentence within so many words, which is counted as "
            "`cut`; 0: never cut, one that the model cannot hold is refused",
        )
        document_tokens: int = Field(
            1024, ge=1, description="of translate-summarise: longest translation of a document, in tokens"
        )

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the steps of the mode, one answer a document each."""
        tokens = {"documents": float(self.params.document_tokens)}
        return [ExpectedStep(name=step, tokens=tokens.get(step)) for step in _STEPS[self.params.mode]]

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield a summary of each document in the target language; see `Decoder.run`."""
        mode, states = self.params.mode, []
        for source in sources:
            text, cut = _cut(source.text, source.source_lang, self.params.max_words)
            states.append(_State(replace(source, text=text), failures=["cut"] if cut else []))
        asking = _Asking(system, inputs)
        if mode == "translate-summarise":
            asking.translate("documents", states, [one.source for one in states], self.params.document_tokens)
            asking.ask("summarised", [one for one in states if one.text], SUMMARISE)
        else:
            asking.ask("summaries", states, SUMMARISE)
            begun = [one for one in states if one.text]
            if mode == "sitr":
                asking.ask("improved", begun, IMPROVE)
            asking.translate("translations", begun, [replace(one.source, text=one.text) for one in begun])
            if mode == "sitr":
                asking.ask("refined", [one for one in begun if one.steps["translations"]], REFINE)
        for one in states:
            failure = one.failures[0] if one.failures else ""
            last = next(
                (one.steps[step] for step in reversed(_STEPS[mode]) if step in _LAST and one.steps.get(step)), ""
            )
            yield Translation(one.source.id, last, one.tokens, failure, one.thought, calls=one.calls, steps=one.steps)


@dataclass(frozen=True)
class _Asking:
    """Lets steps be answered, each about all documents at once."""

    system: TranslationSystem
    inputs: DecoderInputs

    def ask(self, step: str, states: Sequence[_State], wording: str) -> None:
        """Ask in a wording, the fields of which are filled in with what the steps before have written."""
        sampling = replace(self.inputs.sampling, stop=())
        asked = [
            Request(one.source.id, (Message("user", wording.format(**one.fields(step))),), sampling, direct=True)
            for one in states
        ]
        answers: Mapping[str, Generation] = self.inputs.ask(step, asked) if asked else {}
        for one in states:
            lang = one.source.target_lang if step in _LAST else one.source.source_lang
            found = summaries.extract(replace(one.source, target_lang=lang), answers[one.source.id])
            # An announcement is taken off, and what is passed on is as it should be.
            passed = found.failure == "preamble" and step not in _LAST
            one.take(step, replace(found, failure="") if passed else found)

    def translate(self, step: str, states: Sequence[_State], sources: Sequence[Source], tokens: int = 0) -> None:
        """Ask for a translation, as the system was taught to translate; `tokens`: most, 0 as of a summary."""
        sampling = replace(self.inputs.sampling, max_new_tokens=tokens or self.inputs.sampling.max_new_tokens)
        asked = list(requests(sources, self.system, sampling))
        answers = self.inputs.ask(step, asked) if asked else {}
        for one, source in zip(states, sources, strict=True):
            one.take(step, extract(source, answers[source.id], self.system.stop))


def _cut(text: str, lang: str, words: int) -> tuple[str, bool]:
    """Return a text up to the last sentence within some words, at least its first one; and whether it was cut."""
    if not words or len(text.split()) <= words:
        return text, False
    kept, count = "", 0
    for piece in split_text(text, lang=lang):
        count += len(piece.text.split())
        if count > words and kept.strip():
            break
        kept += piece.text
    return kept.rstrip(), True
