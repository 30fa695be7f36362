"""Continued pre-training on documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.errors import UsageError
from lingraft.core.validation import as_value_error
from lingraft.data.records import Example, Generation, Request, Span, Text
from lingraft.language.codes import base_language, language
from lingraft.methods.base import Consumed, Method, MethodInputs, MethodParams, Tally


class PretrainingParams(MethodParams):
    """Parameters of pre-training on documents."""

    languages: list[str] = Field(
        default_factory=list, description="languages of the documents used; empty: all but English"
    )
    block_tokens: int = Field(512, ge=16, description="longest row; documents are cut into rows of like length")
    balance: Literal["proportional", "equal"] = Field(
        "proportional",
        description="of several languages: as many documents as there are, or of each as many characters as of the "
        "one with the fewest",
    )

    @field_validator("languages")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        with as_value_error():
            return [language(code) for code in value]


class Pretraining(Method):
    """Target-language pre-training, stage 1 of TransLLM (Geng et al. 2024, arXiv 2405.13923, section 3.1): next-token
    prediction on documents as they are, outside of the chat template.

    Beside `translation_pretraining`, with `languages: [en]`, it holds the English of the base (stage 2 of the paper).

    Departures: the released code puts all documents into one stream and cuts it every 512 tokens, dropping the rest;
    here no row holds two documents and no text is dropped. The tokenizer's BOS token stands before a document where the
    tokenizer puts one.
    """

    name: ClassVar[str] = "pretraining"
    summary: ClassVar[str] = "continued pre-training on documents"
    paper: ClassVar[str] = "arXiv 2405.13923"
    cite: ClassVar[tuple[str, ...]] = ("geng-2024-transllm",)
    Params: ClassVar[type[MethodParams]] = PretrainingParams
    consumes: ClassVar[Consumed] = "texts"
    params: PretrainingParams

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask nothing."""
        return iter(())

    def _used(self, inputs: MethodInputs) -> Iterator[Text]:
        wanted = {base_language(code) for code in self.params.languages}
        for text in inputs.texts:
            code = base_language(text.lang)
            if code in wanted if wanted else code != "en":
                yield text

    def prepare(self, inputs: MethodInputs) -> dict[str, int]:
        """Say how many characters of each language are used at most.

        Raises:
            UsageError: there is no document in the languages asked for.
        """
        characters: Counter[str] = Counter()
        for text in self._used(inputs):
            characters[base_language(text.lang)] += len(text.text)
        wanted = {base_language(code) for code in self.params.languages}
        if not characters or wanted - set(characters):
            lacking = ", ".join(sorted(wanted - set(characters))) or "a language other than English"
            raise UsageError(
                f"method pretraining: no text in {lacking}; add a source to `texts:`, or change the parameter "
                f"`languages`"
            )
        least = min(characters.values())
        return {code: least if self.params.balance == "equal" else n for code, n in sorted(characters.items())}

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield the documents; of each language the first ones, up to the characters that are used of it."""
        used: Counter[str] = Counter()
        for text in self._used(inputs):
            code = base_language(text.lang)
            if used[code] < inputs.prepared[code]:
                used[code] += len(text.text)
                tally.filters[f"kept_{code}"] += 1
                yield Example(text.id, (), (Span(text.text, "text"),), block=self.params.block_tokens)
            else:
                tally.filters[f"left_out_{code}"] += 1
