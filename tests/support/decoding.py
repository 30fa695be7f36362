"""What asks a scripted engine for a decoder, step by step, and keeps what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sacrebleu

from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.decoders.base import DECODERS, Decoder, DecoderInputs, Of
from lingraft.engines.scripted import Rule, ScriptedEngine


@dataclass
class Asked:
    """An `Ask` on rules. `steps`: name, who was asked, and what, in order; `written`: tokens of all answers."""

    rules: Sequence[Rule]
    steps: list[tuple[str, Of, list[Request]]] = field(default_factory=list)
    written: int = 0

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        listed = list(requests)
        assert listed == list(requests), "the requests cannot be gone over twice"
        assert len({request.id for request in listed}) == len(listed), f"ids of the step {step} repeat"
        assert step not in [name for name, _, _ in self.steps], f"the step {step} is asked twice"
        self.steps.append((step, of, listed))
        answers = {one.id: one for one in ScriptedEngine(self.rules).generate(listed)}
        self.written += sum(len(one.token_ids) for one in answers.values())
        return answers

    @property
    def calls(self) -> int:
        """How many requests were answered."""
        return sum(len(requests) for _, _, requests in self.steps)


def overlap(metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
    """Score as `DecoderInputs.score` does: chrF against the target, or the source where there is none."""
    scorer = sacrebleu.CHRF()
    return [
        scorer.sentence_score(text, [pair.target or pair.source]).score for pair, text in zip(pairs, texts, strict=True)
    ]


def decoder_inputs(asked: Asked, **changes: Any) -> DecoderInputs:
    """Return inputs of a decoder that asks by rules."""
    return DecoderInputs(**{"ask": asked, "sampling": Sampling(64), "seed": 1, "score": overlap, **changes})


def made(name: str, **params: Any) -> Decoder:
    """Return a decoder with some parameters."""
    return DECODERS.create({"kind": name, **params})
