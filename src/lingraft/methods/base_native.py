"""What methods share that carry English prompts and answers to other languages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import UsageError
from lingraft.core.hashing import file_hash, stable_fraction
from lingraft.core.validation import HOLDS_ENGINE, IS_PATH, Needs, as_value_error
from lingraft.data.files import locate
from lingraft.data.records import Example, Generation, Message, Prompt, Request, Span
from lingraft.language.codes import base_language, language
from lingraft.methods.base import MethodInputs, MethodParams, Tally
from lingraft.methods.base_replay import PromptAnswer, Replay, ReplayParams
from lingraft.methods.carried_text import GivenTranslations, fault, from_engine, from_graft
from lingraft.translation.by_sentence import engine_requests, graft_requests
from lingraft.translation.wording import check_wording


class NativeParams(ReplayParams):
    """Parameters of prompts and answers that are carried to other languages."""

    truncated: Literal["drop"] = Field(
        "drop", description="answers that reached the token limit are dropped: their translation would have no end"
    )
    prompt_language: Literal["en"] = Field("en", description="prompts: self: those in another language are dropped")
    languages: list[str] = Field(
        default_factory=list,
        description="languages carried to, each prompt to one of them; empty: those of the extended vocabulary",
    )
    translator: Literal["graft"] | dict[str, Any] = Field(
        "graft",
        description="who translates: the graft of the stage before, sentence by sentence as in "
        "`translation_pretraining`, or an engine as under `engine:`",
        json_schema_extra=HOLDS_ENGINE,
    )
    needs: ClassVar[Needs] = {
        "translator_instruction": ("an engine as `translator`", lambda own: isinstance(own.translator, dict)),
    }
    translator_instruction: str | None = Field(
        None, description="wording in which an engine is asked to translate; default: the first of `instructions`"
    )
    translations: Annotated[str | None, IS_PATH] = Field(
        None,
        description="JSON Lines file of translations of prompts and answers (`source` and `target`), found by the "
        "exact English text; nothing is translated then",
    )
    max_length_ratio: float = Field(4.0, gt=1, description="longest to shortest of a text and its translation")

    @field_validator("languages")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        with as_value_error():
            codes = [language(code) for code in value]
        if "en" in map(base_language, codes):
            raise ValueError("prompts and answers are English already; name other languages")
        return codes

    @field_validator("translator_instruction")
    @classmethod
    def _fillable_by_engines(cls, value: str | None) -> str | None:
        with as_value_error():
            return value if value is None else check_wording(value)

    @model_validator(mode="after")
    def _one_translator(self) -> NativeParams:
        if isinstance(self.translator, dict):
            if not isinstance(self.translator.get("kind"), str):
                raise ValueError("translator: an engine needs a `kind`, see `lingraft list engines`")
            if self.translations is not None:
                raise ValueError("translations come from a file or from an engine; leave out one of the two")
        return self


UNTRANSLATED = "a"
"""In place of a translation that is not known yet."""


@dataclass(frozen=True)
class TranslatedPrompt:
    """A prompt and its answer in English and in another language; `written`: the answer there, as it is learnt."""

    prompt: Prompt
    lang: str
    query: str
    answer: Span
    native_query: str
    written: Span

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation with its last question in the other language; turns before it stay English, as the chain of
        thought passes them on."""
        return (*self.prompt.messages[:-1], Message("user", self.native_query))


class NativeReplay(Replay):
    """Base of methods whose examples are prompts and answers in another language.

    The answers and the translations have the same ids in all of them, and are shared.
    """

    version: ClassVar[int] = 2  # since sentences are those of sentencex
    Params: ClassVar[type[MethodParams]] = NativeParams
    follow_up_cache: ClassVar[str] = "native"
    role: ClassVar[str] = "english_reply"
    translated: ClassVar[tuple[str, ...]] = ("query", "reply")
    """What is carried over by the translator: questions, answers, or both."""
    lost: ClassVar[float] = 0.5  # what is left has to pass the filters of two translations
    params: NativeParams

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._given: GivenTranslations | None = None

    def check(self, languages: Sequence[str]) -> None:
        """Refuse languages that cannot be carried to, and a file of translations that cannot be used.

        Raises:
            UsageError: no language, or one without a marker where that is needed.
            DataError: the file of translations cannot be read, or has none.
        """
        codes = self.params.languages or languages
        if not codes:
            raise UsageError(f"method {self.name}: no language to carry to; name some as the parameter `languages`")
        if self.asks_before and not languages:
            raise UsageError(
                f"method {self.name}: the graft translates behind the markers of an extended vocabulary, which the "
                f"recipe lacks; add `vocabulary:`, or set the parameter `translator` or `translations`"
            )
        if self.needs_markers or self.asks_before:
            lacking = [code for code in codes if base_language(code) not in languages]
            if lacking:
                raise UsageError(
                    f"method {self.name}: the language {lacking[0]!r} has no marker; name it under `vocabulary:`, or "
                    f"take it out of the parameter `languages`"
                )
        if self.params.translations is not None:
            GivenTranslations(self.params.translations, codes)

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return the languages, and the hash of the file of translations.

        Raises:
            UsageError, DataError: as `check`.
        """
        known = inputs.markers.languages if inputs.markers else ()
        self.check(known)
        codes, path = list(self.params.languages or known), self.params.translations
        if path is None:
            return {"languages": codes}
        return {"languages": codes, "translations": file_hash(locate(path, "jsonl", Path()).path)}

    @property
    def translator(self) -> Mapping[str, Any] | None:
        """The engine that translates; None: the graft of the stage before."""
        return None if self.params.translator == "graft" else self.params.translator

    @property
    def asks_before(self) -> bool:
        """Whether the graft of the stage before translates."""
        return self.params.translations is None and self.params.translator == "graft"

    def prompts(self, inputs: MethodInputs) -> Iterator[Prompt]:
        """Yield the prompts that are used: English ones."""
        used = 0
        for prompt in inputs.prompts:
            if used == self.params.max_prompts:
                return
            if base_language(prompt.lang) == "en":
                used += 1
                yield prompt

    def follow_ups(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Request]:
        """Ask for the translations of prompts and fit answers."""
        if self.params.translations is not None:
            return
        for item in self.answered(inputs, generations):
            if item.span is None:
                continue
            lang = self._language(item.prompt, inputs)
            for field, text in _texts(item):
                if field not in self.translated:
                    continue
                id_ = _id(item.prompt, lang, field)
                if self.params.translator != "graft":
                    wording = self.params.translator_instruction or self.params.instructions[0]
                    yield from engine_requests(id_, text, lang, wording, seed=inputs.seed)
                elif inputs.markers is not None:
                    yield from graft_requests(id_, text, lang, inputs.markers, seed=inputs.seed)

    def _language(self, prompt: Prompt, inputs: MethodInputs) -> str:
        """Return the language to which a prompt is carried: it depends on its id alone, and all have about as many."""
        codes = inputs.prepared["languages"]
        return str(codes[int(stable_fraction("language", inputs.seed, prompt.id) * len(codes))])

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield the examples whose answer and translations pass the filters; all others are counted."""
        yield from self._carried(inputs, generations, tally)

    def known_examples(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Example]:
        """Yield the examples with the translations of a file, or where these are still to be made with a letter in the
        place of each."""
        yield from self._carried(inputs, generations, Tally(), None if self.params.translations else UNTRANSLATED)

    def _carried(
        self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally, stand_in: str | None = None
    ) -> Iterator[Example]:
        """Yield the examples; with `stand_in`, that is taken for every translation, and nothing is said against it."""
        self._open_given(inputs)
        inputs = self.asking(inputs, generations)
        self.count_prompts(inputs, tally)
        for item in self.answered(inputs, generations):
            if item.span is None:
                tally.filters[item.reason] += 1
                continue
            lang = self._language(item.prompt, inputs)
            found: list[str] = []
            for field, text in _texts(item):
                if stand_in is not None:
                    found.append(stand_in)
                    continue
                translation, reason = self._translation(item.prompt, field, text, lang, generations)
                reason = reason or fault(text, translation, lang, self.params.max_length_ratio)
                if reason:
                    tally.filters[f"{field}_{reason}"] += 1
                    break
                found.append(translation)
            else:
                tally.filters["kept"] += 1
                query = item.prompt.messages[-1].content.strip()
                native_query, native_answer = found
                written = self.written(item.prompt, lang, native_answer, generations)
                yield self.example(TranslatedPrompt(item.prompt, lang, query, item.span, native_query, written), inputs)

    def _carried_queries(
        self, inputs: MethodInputs, generations: Mapping[str, Generation]
    ) -> Iterator[tuple[Prompt, Span, str, str]]:
        """Yield prompts with their fit answers, the language that they are carried to, and the question there, where
        its translation passes the filters."""
        self._open_given(inputs)
        for item in self.answered(inputs, generations):
            if item.span is None:
                continue
            lang, query = self._language(item.prompt, inputs), item.prompt.messages[-1].content.strip()
            carried, reason = self._translation(item.prompt, "query", query, lang, generations)
            if not (reason or fault(query, carried, lang, self.params.max_length_ratio)):
                yield item.prompt, item.span, lang, carried

    def _open_given(self, inputs: MethodInputs) -> None:
        if self.params.translations is not None and self._given is None:
            self._given = GivenTranslations(self.params.translations, inputs.prepared["languages"])

    def written(self, prompt: Prompt, lang: str, text: str, generations: Mapping[str, Generation]) -> Span:
        """Return the span of an answer in the other language.

        Args:
            prompt: that is answered.
            lang: the other language.
            text: of the answer.
            generations: all answers so far.
        """
        return Span(text, "native_reply")

    def _translation(
        self, prompt: Prompt, field: str, text: str, lang: str, generations: Mapping[str, Generation]
    ) -> tuple[str, str]:
        """Return the translation of a text, or why there is none."""
        if self._given is not None:
            given = self._given.get(text, lang)
            if given is None and (pair := self._given.of_prompt(prompt.id, lang)):
                # The answer by the prompt's id is that of the answer that came with it, and of no other.
                own = field == "query" or text == (prompt.reference or "").strip()
                given = pair[field == "reply"] if own else None
            return ("", "not_given") if given is None else (given, "")
        id_ = _id(prompt, lang, field)
        if self.params.translator == "graft":
            return from_graft(id_, text, lang, generations)
        return from_engine(id_, text, generations)

    @abstractmethod
    def example(self, carried: TranslatedPrompt, inputs: MethodInputs) -> Example:
        """Return the example of a prompt and its answer in two languages."""


def _id(prompt: Prompt, lang: str, field: str) -> str:
    return f"translation:{lang}:{prompt.id}:{field}"


def _texts(item: PromptAnswer) -> list[tuple[str, str]]:
    """Return what is carried to the other language: the prompt's last question and the answer."""
    answer = item.span.text if item.span is not None else ""
    return [("query", item.prompt.messages[-1].content.strip()), ("reply", answer.strip())]
