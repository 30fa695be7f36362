"""Decoder `direct`: ask once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

DRAFTS = "drafts"
"""The step in which a system is asked once."""


class Direct(Decoder):
    """One request for each source, in the words that the system was taught.

    Every system is measured so by itself; under a name of its own it is the yardstick of the others' cost.
    """

    name: ClassVar[str] = "direct"
    summary: ClassVar[str] = "ask once: what every system does without a decoder"

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step."""
        return (ExpectedStep(name=DRAFTS),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield what was answered, by the rule that all systems are read by; see `Decoder.run`."""
        return drafts(sources, system, inputs)


def drafts(sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
    """Yield what the system translates when it is asked once: the first step of other decoders, too, so that it is
    asked once for all of them.

    Args:
        sources: what is to be translated.
        system: how it is asked.
        inputs: who answers.
    """
    answers = inputs.ask(DRAFTS, list(requests(sources, system, inputs.sampling)))
    for source in sources:
        yield extract(source, answers[source.id], system.stop)
