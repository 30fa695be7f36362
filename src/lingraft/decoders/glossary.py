"""Decoder `glossary`: the terms of a source and their translations stand in its request (arXiv 2302.07856)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from lingraft.core.validation import IS_PATH
from lingraft.data.glossary import Glossary, Term, read_glossary
from lingraft.data.records import Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Surroundings
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem, with_fields

TERMS = "terms"
LISTED = "Use these translations of terms, inflected as the sentence needs:\n{terms}"


class GlossaryTerms(Decoder):
    """Ask once, with the translations of those terms that occur in the source.

    What is asked is the system's own request behind a list of the terms, one a line: `Vertrag = contract`, and of terms
    that stay `Lingraft = Lingraft (keep as it is)`. How a term is found, inflected, and the longest first: see
    `lingraft.language.terms.find_term` and `lingraft.data.glossary.Glossary.terms_in`. A source without a term is asked
    for as by `direct`. Departures from the paper: no dictionary of common words and one translation of each term; and
    terms that are missing from the translation are counted, not asked for again.
    """

    name: ClassVar[str] = "glossary"
    summary: ClassVar[str] = "put your terms that occur in the source into the request"
    paper: ClassVar[str] = "Ghazvininejad et al. 2023, Dictionary-based Phrase-level Prompting, arXiv 2302.07856"
    cite: ClassVar[tuple[str, ...]] = ("ghazvininejad-2023-dictionary",)

    class Params(Decoder.Params):
        """Parameters of `glossary`."""

        path: Annotated[str, IS_PATH] = Field(
            "",
            description="CSV file of the terms: source,target[,source_lang,target_lang]; no target: it is kept",
        )
        instruction: str = Field(
            LISTED, description="what stands before the request; {terms} is the list of the terms, one a line"
        )

        @field_validator("instruction")
        @classmethod
        def _fillable(cls, value: str) -> str:
            return with_fields(value, ["terms"])

    @classmethod
    def holding(cls, terms: Glossary) -> GlossaryTerms:
        """Return the decoder with terms that are in no file."""
        found = cls()
        found.__dict__["glossary"] = terms  # where `cached_property` keeps what it has read
        return found

    @cached_property
    def glossary(self) -> Glossary:
        """The terms.

        Raises:
            DataError: the file cannot be read.
        """
        return read_glossary(self.params.path)

    def check(self) -> None:
        """Read the terms; see `Decoder.check`."""
        if self.params.path:
            self.glossary  # noqa: B018  (reading says what is wrong)

    def lacks(self, available: Surroundings) -> str:
        """Say where there is no glossary."""
        return "" if self.params.path else "it has no terms; name their CSV file as its `path`"

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step."""
        return (ExpectedStep(name=TERMS),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield what was answered, and whether it has the terms; see `Decoder.run`."""
        terms = {one.id: self.glossary.terms_in(one.text, one.source_lang, one.target_lang) for one in sources}
        asked = [self._request(one, terms[one.id], system, inputs) for one in sources]
        answers = inputs.ask(TERMS, asked)
        for one in sources:
            found = extract(one, answers[one.id], system.stop)
            missing = [term for term in terms[one.id] if not term.is_in(found.text, one.target_lang)]
            outcome = "terms missing" if missing else "terms translated" if terms[one.id] else "without terms"
            yield replace(found, outcome=outcome)

    def _request(
        self, source: Source, terms: Sequence[Term], system: TranslationSystem, inputs: DecoderInputs
    ) -> Request:
        return next(requests([source], with_terms(system, terms, self.params.instruction), inputs.sampling))


def with_terms(system: TranslationSystem, terms: Sequence[Term], instruction: str = LISTED) -> TranslationSystem:
    """Return how a system is asked for a translation with these terms; without any, as it is.

    Args:
        system: how it is asked else.
        terms: that occur in the source.
        instruction: what stands before the request; {terms} is the list of the terms, one a line.
    """
    if not terms:
        return system
    listed = "\n".join(f"{term.source} = {term.target}{' (keep as it is)' if term.kept else ''}" for term in terms)
    before = instruction.format(terms=listed).replace("{", "{{").replace("}", "}}")
    return replace(system, instruction=f"{before}\n\n{system.instruction}")
