"""Stage `masks-<name>`: which numbers of the base learn, where a tuner selects them, some after a first training.

Masks depend on the base and what the tuner looks at alone, and systems that select alike share them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.errors import LingraftError
from lingraft.data.records import Example, Prompt, Span
from lingraft.models.adapter import take_off
from lingraft.models.loading import LoadedModel
from lingraft.pipeline.context import Context
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.store.artefacts import SCRATCH
from lingraft.training.selection import FILE, write_masks
from lingraft.training.train import TrainResult
from lingraft.training.tuners import Tuner, TunerInputs

REPLAYED = 1000
"""General prompts that are handed to a tuner at most."""


@dataclass(frozen=True, kw_only=True)
class Selecting:
    """A selection that is to be made.

    Attributes:
        context: of the run.
        name: of the stage that trains with it.
        inputs: all that it depends on.
        tuner: that selects.
        given: what it may look at; with the replayed prompts.
        base: yields the base as the stage trains it.
        first: trains in a folder all that the tuner adapts, and returns the result, the adapter still on the base.
    """

    context: Context
    name: str
    inputs: dict[str, Any]
    tuner: Tuner
    given: TunerInputs
    base: Callable[[], AbstractContextManager[LoadedModel]]
    first: Callable[[LoadedModel, Path], TrainResult]

    def folder(self) -> Path:
        """Return the folder of the masks, selecting (or continuing to) if needed."""
        join = self._join if self.tuner.passes == 2 else None
        return self.context.artefact(f"masks-{self.name}", self.inputs, self._build, join, training=True)

    def _build(self, folder: Path) -> dict[str, Any]:
        given, trained, cost, began = self.given, folder / SCRATCH / "trained", dict[str, Any](), time.monotonic()
        with self.base() as loaded:
            if self.tuner.passes == 2:
                result = self.first(loaded, folder)
                try:
                    self.tuner.save(result.model, trained)
                finally:
                    take_off(result.model)
                cost = {"seconds": result.seconds, "steps": result.steps, "tokens": result.tokens}
                began = time.monotonic()
                given = replace(given, trained=trained)
            masks = self.tuner.select(loaded.model, given)
            if not masks or not any(bool(mask.any()) for mask in masks.values()):
                raise LingraftError(f"tuner {self.tuner.name}: it has selected nothing to train; change its parameters")
            shapes = {name: loaded.model.get_parameter(name).shape for name in masks}
        # The training's own seconds, of all attempts, and those of the choice.
        cost["seconds"] = round(cost.get("seconds", 0.0) + time.monotonic() - began, 2)
        write_masks(folder / FILE, masks, self.context.files.sha256)
        learns = sum(int(mask.expand(shapes[name]).sum()) for name, mask in masks.items())
        return {**cost, "learning": learns, "of": sum(shape.numel() for shape in shapes.values())}

    def _join(self, folder: Path) -> None:
        """Train with the first process, which selects."""
        with self.base() as loaded:
            take_off(self.first(loaded, folder).model)


def replayed(prompts: Any, renderer: Renderer) -> list[Rendered]:
    """Return general prompts as tokens, with their answers where the file has them: what the base is to keep.

    Args:
        prompts: those of the replay half, in their order.
        renderer: of the base's tokenizer.
    """
    return [_row(prompt, renderer) for prompt in islice(prompts, REPLAYED)]


def _row(prompt: Prompt, renderer: Renderer) -> Rendered:
    if prompt.reference is None:
        ids = tuple(renderer.prompt_ids(prompt.messages).ids)
        return Rendered(prompt.id, ids, (0.0,) * len(ids), (-1,) * len(ids), (), ())
    return renderer.render(Example(prompt.id, prompt.messages, (Span(prompt.reference, "reply"),)))
