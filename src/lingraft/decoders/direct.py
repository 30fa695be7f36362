"""Decoder `direct`: ask once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from lingraft.core.tasks import Task
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.translation import summaries
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

DRAFTS = "drafts"
"""The step in which a system is asked once."""


class Direct(Decoder):
    """One request for each source: for a translation in the words that the system was taught, for a summary in those of
    `evaluate.summary`.

    Every system is measured so by itself; under a name of its own it is the yardstick of the others' cost.
    """

    name: ClassVar[str] = "direct"
    summary: ClassVar[str] = "ask once: what every system does without a decoder"

    tasks: ClassVar[frozenset[Task]] = frozenset({"translation", "summary"})

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step."""
        return (ExpectedStep(name=DRAFTS),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield what was answered, by the rule that all systems are read by; see `Decoder.run`."""
        return drafts(sources, system, inputs)


def drafts(sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
    """Yield what the system translates, or summarises, when it is asked once: the first step of other decoders, too, so
    that it is asked once for all of them.

    Args:
        sources: what is to be translated or summarised.
        system: how it is asked.
        inputs: who answers.
    """
    if inputs.task == "summary":
        asked = list(summaries.requests(sources, inputs.summarising, inputs.sampling, system.stop))
        read = summaries.extract
    else:
        asked, read = list(requests(sources, system, inputs.sampling)), extract
    answers = inputs.ask(DRAFTS, asked)
    for source in sources:
        yield read(source, answers[source.id], system.stop)
