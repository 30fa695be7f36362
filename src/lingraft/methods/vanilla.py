"""Plain supervised fine-tuning on the references: what every other method is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from lingraft.data.records import Example, Generation, Pair, Request, Span
from lingraft.methods.base import Method, MethodInputs, Tally
from lingraft.translation.wording import ask_for


def translation_example(pair: Pair, wordings: list[str], seed: int) -> Example:
    """Return the plain example of a pair: the request, and the reference as the answer."""
    return Example(pair.id, ask_for(pair, wordings, seed), (Span(pair.target, "translation"),))


class Vanilla(Method):
    """Cross-entropy on the reference, given the translation request."""

    name: ClassVar[str] = "vanilla"
    summary: ClassVar[str] = "fine-tuning on the references alone"
    paper: ClassVar[str] = "the common baseline (e.g. arXiv 2309.11674, stage 2)"

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask nothing."""
        return iter(())

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield one example a pair."""
        for pair in inputs.pairs:
            yield translation_example(pair, self.params.instructions, inputs.seed)
