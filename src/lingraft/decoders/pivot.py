"""Decoder `pivot`: translate-test, a translator before and after the untouched base (arXiv 1809.05053)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.validation import HOLDS_ENGINE, Needs, as_value_error
from lingraft.data.records import Generation
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Of, Surroundings
from lingraft.decoders.direct import DRAFTS
from lingraft.language.codes import base_language, language
from lingraft.methods.rounds import checked_engine
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.markers import Markers
from lingraft.translation.translators import AskedTranslator, MarkedTranslator, Translator, bounded
from lingraft.translation.wording import DEFAULT, TranslationSystem, check_wording

TESTS = "tests"


class Pivot(Decoder):
    """The base answers in English, the weights translate: questions into English, answers back.

    The comparison to which a model that answers in another language by itself must stand (translate-test of Conneau et
    al. 2018, extended to written answers). Texts to translate are translated by the translator alone; what it knows no
    language of, the base translates. It is the one decoder that answers the suites, too.
    """

    name: ClassVar[str] = "pivot"
    summary: ClassVar[str] = "translate-test: the base answers in English, between two translations"
    paper: ClassVar[str] = "Conneau et al. 2018, XNLI, arXiv 1809.05053"
    cite: ClassVar[tuple[str, ...]] = ("conneau-2018-xnli",)
    version: ClassVar[int] = 2
    answers_questions: ClassVar[bool] = True

    class Params(Decoder.Params):
        """Parameters of `pivot`."""

        needs: ClassVar[Needs] = {
            "instruction": ("an engine as `translator`", lambda own: isinstance(own.translator, dict)),
        }
        translator: Literal["system"] | dict[str, Any] = Field(
            "system",
            description="who translates: the weights themselves, as they were after `translation_pretraining` if they "
            "had one; or an engine as under `engine:`",
            json_schema_extra=HOLDS_ENGINE,
        )
        languages: list[str] = Field(
            default_factory=list, description="languages that are translated; default: those of the vocabulary"
        )
        instruction: str = Field(DEFAULT, description="how an engine is asked for a translation")

        _engine = field_validator("translator", mode="before")(checked_engine)

        @field_validator("languages")
        @classmethod
        def _known(cls, value: list[str]) -> list[str]:
            with as_value_error():
                codes = [base_language(language(code)) for code in value]
            if "en" in codes:
                raise ValueError("questions are translated into English and answers from it; name other languages")
            return codes

        @field_validator("instruction")
        @classmethod
        def _fillable(cls, value: str) -> str:
            with as_value_error():
                return check_wording(value)

    @property
    def of(self) -> Of:
        """Who translates."""
        return "system" if self.params.translator == "system" else dict(self.params.translator)

    def lacks(self, available: Surroundings) -> str:
        """Say where there is no language to translate."""
        if self.params.languages or available.native:
            return ""
        return "there is no language to translate; name its `languages`"

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the steps of translations; questions of suites are translated, answered and translated back."""
        return (ExpectedStep(name=TESTS, of=self.of, key="translator"), ExpectedStep(name=DRAFTS, of="base"))

    def translator(self, system: TranslationSystem, seed: int, markers: Markers | None) -> Translator:
        """Return how translations are asked for.

        Args:
            system: how the weights are asked.
            seed: of the run.
            markers: of weights that translate plain text behind them; None for all others.
        """
        if self.of != "system":
            return AskedTranslator(self.params.instruction, seed)
        if markers is not None:
            return MarkedTranslator(markers, seed)
        return AskedTranslator(system.instruction, seed, system.stop)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield what the translator translates, and the base where it does not know a language; see `Decoder.run`."""
        translator = self.translator(system, inputs.seed, inputs.markers)
        known = [one for one in sources if translator.knows(one.source_lang) and translator.knows(one.target_lang)]
        asked = {
            one.id: list(
                bounded(
                    translator.requests(one.id, one.text, one.source_lang, one.target_lang),
                    inputs.sampling.max_new_tokens,
                )
            )
            for one in known
        }
        given = inputs.ask(TESTS, [replace(each, direct=True) for listed in asked.values() for each in listed], self.of)
        for one in known:
            written = translator.written(one.id, one.text, one.source_lang, one.target_lang, given)
            reason = "length" if written.cut else "stop"
            translation = extract(one, Generation(one.id, written.text, written.token_ids, reason))
            if written.thinking:
                translation = replace(translation, failure="thinking", thought=True)
            yield replace(translation, calls=len(asked[one.id]))
        others = [one for one in sources if one.id not in asked]
        base = TranslationSystem(system.instruction)
        answers = inputs.ask(DRAFTS, list(requests(others, base, inputs.sampling)), "base") if others else {}
        for one in others:
            yield extract(one, answers[one.id])
