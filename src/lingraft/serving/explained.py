"""A translation with what the graft writes behind it, for clients that ask for its rationale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.language.thinking import said
from lingraft.translation.by_sentence import without_rationale
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

STEP, RATIONALE = "explained", "rationale"
LONG = 256.0
"""Tokens of a translation with its rationale, about."""


class Explained(Decoder):
    """Ask once, and let the model go on behind the translation: the delimiter ends the translation, not the answer."""

    name: ClassVar[str] = "explained"
    summary: ClassVar[str] = "ask once, and tell the rationale apart"

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step."""
        return (ExpectedStep(name=STEP, tokens=LONG),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield translations as `direct` does, the rationale among their steps; see `Decoder.run`."""
        answers = inputs.ask(STEP, list(requests(sources, replace(system, stop=()), inputs.sampling)))
        for source in sources:
            found = extract(source, answers[source.id], system.stop)
            written = said(answers[source.id].text, source.text).text
            part, _ = without_rationale(source.text, written, system.stop)
            yield replace(found, steps={RATIONALE: written[len(part) :].strip()})
