"""Decoders rehearsed: whether all that they may ask fits the model's context, before hours of answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from lingraft.core.tasks import Task
from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.decoders.base import DECODERS, Decoder, DecoderInputs, Of
from lingraft.pipeline.lengths import Window, refuse
from lingraft.recipe.schema import Recipe
from lingraft.translation.direct import Source
from lingraft.translation.wording import TranslationSystem

_MARK = re.compile(r"Zq(\d+)qZ")
"""What stands for an answer of which nothing is known but its most tokens."""


class _NoFurther(Exception):
    """Internal: a decoder goes on by what answers say."""


@dataclass
class _Rehearsal:
    """An `Ask` that answers with marks, and notes what does not fit.

    Attributes:
        decoder: that asks.
        window: what the model can hold.
        certain: step -> requests that leave no room for their answers whatever is answered.
        possible: step -> how many leave none if the answers that they quote are as long as they may be.
        limits: most tokens of each answer so far.
    """

    decoder: Decoder
    window: Window
    certain: dict[str, list[tuple[Request, int]]] = field(default_factory=dict)
    possible: dict[str, int] = field(default_factory=dict)
    limits: list[int] = field(default_factory=list)

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return marks in place of answers; see `Ask`."""
        found = {}
        for request in requests:
            if isinstance(of, str):  # the context of another model is not known
                self._look(step, request)
            text = self.decoder.stand_in(step, f"Zq{len(self.limits)}qZ")
            self.limits.append(request.sampling.max_new_tokens)
            found[request.id] = text
        if None in found.values():
            raise _NoFurther
        return {id_: Generation(id_, text or "", (0,), "stop") for id_, text in found.items()}

    def _look(self, step: str, request: Request) -> None:
        texts = [*(message.content for message in request.messages), request.prefill]
        quoted = sum(self.limits[int(number)] for text in texts for number in _MARK.findall(text))
        # An answer has a token at least.
        messages = tuple(replace(one, content=_MARK.sub("-", one.content)) for one in request.messages)
        least = replace(request, messages=messages, prefill=_MARK.sub("-", request.prefill))
        if self.window.excess(least) > 0:
            self.certain.setdefault(step, []).append((least, 0))
        elif quoted and self.window.excess(least, quoted) > 0:
            self.possible[step] = self.possible.get(step, 0) + 1


def check_decoders(
    recipe: Recipe,
    window: Window,
    sources: Mapping[Task, Sequence[Source]],
    wordings: Sequence[str],
    exemplars: Iterable[Pair],
) -> list[str]:
    """Let the decoders of a recipe ask as they will, with marks in place of answers, and refuse what cannot fit.

    Args:
        recipe: with its decoders.
        window: what the engine that evaluates can hold.
        sources: of the test sets, by their task.
        wordings: in which translations may be asked for.
        exemplars: pairs that may be shown; iterated more than once.

    Returns:
        Sentences about steps that fit only if the answers that they quote are not as long as they may be.

    Raises:
        DataError: names the first request of a step that leaves no room for its answer, and how many there are.
    """
    notes: dict[str, None] = {}
    for choice in recipe.evaluate.all_decoders if window.context is not None else ():
        decoder = DECODERS.create(choice).rehearsed()
        for task, texts in sources.items():
            if task not in decoder.tasks or not texts:
                continue
            settings = f"lower evaluate.{task}.max_new_tokens"
            knobs = "".join(f", or the decoder's {name}" for name in decoder.lengthened_by)
            for wording in wordings:
                asking = _Rehearsal(decoder, window)
                with suppress(_NoFurther):
                    for _ in decoder.run(texts, TranslationSystem(wording), _inputs(recipe, task, asking, exemplars)):
                        pass
                for step, asked in asking.certain.items():
                    remedy = f"shorten the text or leave it out, {settings}{knobs}"
                    refuse(window, asked, f"decoder {choice.label!r}, step {step!r}", "requests", remedy)
                for step, count in asking.possible.items():
                    said = (
                        f"decoder {choice.label!r}, step {step!r}: {count:,} requests leave no room for a whole answer "
                        f"in the model's context of {window.context} if the answers that they quote are as long as "
                        f"they may be; such are cut; {settings}{knobs}"
                    )
                    notes[said] = None
    return list(notes)


def _inputs(recipe: Recipe, task: Task, asking: _Rehearsal, exemplars: Iterable[Pair]) -> DecoderInputs:
    summary: Any = recipe.evaluate.summary
    return DecoderInputs(
        ask=asking,
        sampling=Sampling(recipe.evaluate.measured(task).max_new_tokens, seed=recipe.seed),
        task=task,
        seed=recipe.seed,
        exemplars=exemplars,
        score=lambda metric, pairs, texts: [0.0] * len(texts),
        **({"summarising": summary.instruction} if summary else {}),
    )
