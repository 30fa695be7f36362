"""The `transformers` engine: in this process, on CPU or GPU, with a loop of its own over slots of a key/value cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel, EngineParams
from lingraft.engines.finishing import finished, prompt_within

if TYPE_CHECKING:  # torch is imported when the engine is made, not when a recipe names it
    from lingraft.engines.library_decoder import LibraryDecoder
    from lingraft.engines.slot_decoder import SlotDecoder, SlotRow
    from lingraft.models.loading import LoadedModel
    from lingraft.rendering.renderer import Renderer

WORTH_PACKING = 8192
"""Tokens of prompts and answers from which packing the weights saves more time than it takes: not for a chat's turn."""

ON_CPU = (16, 256)
"""Fewest and most answers saved together on a CPU."""


class TransformersEngine(Engine):
    """Lets requests write side by side, longest first; those that end make room for the next.

    A sampled answer follows its request's id and seed, whatever is asked beside it, up to rounding.

    Args:
        loaded: model and renderer.
        batch_tokens: tokens (prompt and answer, padding included) held at once.
        max_batch: requests at once.

    Attributes:
        worth_packing: tokens from which weights are packed.
        padding: see `SlotDecoder`.
    """

    worth_packing: float = WORTH_PACKING
    padding: int = 1
    name: ClassVar[str] = "transformers"
    summary: ClassVar[str] = "in this process, continuous batches sorted by length, CPU or GPU"

    class Params(EngineParams):
        """Parameters of the transformers engine."""

        batch_tokens: int = Field(24_576, ge=256, description="tokens held at once, padding and answers included")
        max_batch: int = Field(128, ge=1, description="requests decoded at once")

    def __init__(self, loaded: LoadedModel, batch_tokens: int = 24_576, max_batch: int = 128) -> None:
        from lingraft.models.architectures import context_length

        self._base = self._loaded = loaded
        self._kept: tuple[Path, LoadedModel] | None = None
        self._batch_tokens = batch_tokens
        self._max_batch = max_batch
        self.part_size = self.saved_together(loaded)
        self._context = context_length(loaded.model.config) or 1 << 30

    @staticmethod
    def saved_together(loaded: LoadedModel) -> int:
        """Return how many answers are saved together: enough that slots stay filled and rows of like length meet.

        On a CPU a kill costs some minutes: 256 answers of a model of 135 M parameters, 64 of one of 0.5 B.
        """
        if loaded.device.type == "cuda":
            return 1024
        fewest, most = ON_CPU
        size = 200_000_000 * most // sum(weight.numel() for weight in loaded.model.parameters())
        return min(most, max(fewest, 1 << (size.bit_length() - 1) if size else 0))

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> TransformersEngine:
        """Make the engine from its parameters (batch limits are part of its identity: they decide near-ties)."""
        return cls(model.load(), params.batch_tokens, params.max_batch)

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return parameters and how it decodes; see `Engine.identity`."""
        return {**super().identity(params), "decoding": "slots"}

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations as they end, longest prompts first; see `Engine.generate`."""
        from lingraft.models.graft import grafted

        kept = self._kept if self._kept is not None and self._kept[0] == graft else None
        with nullcontext(kept[1]) if kept else grafted(self._base, graft) as loaded:
            self._loaded = loaded
            try:
                self.under_way = 0
                yield from self._answers(requests)
            finally:
                self._loaded, self.under_way = self._base, 0

    @contextmanager
    def keeping(self, graft: Path | None) -> Iterator[None]:
        """Keep a graft on the base for the block; see `Engine.keeping`."""
        from lingraft.models.graft import grafted

        if graft is None or self._kept is not None:
            yield
            return
        with grafted(self._base, graft) as loaded:
            self._kept = graft, loaded
            try:
                yield
            finally:
                self._kept = None

    @property
    def _renderer(self) -> Renderer:
        """Of the model that answers: a graft may have a vocabulary of its own."""
        return self._loaded.renderer

    def _answers(self, requests: Iterable[Request]) -> Iterator[Generation]:
        from lingraft.engines.packed import packed_weights
        from lingraft.engines.slot_decoder import SlotRow

        groups: dict[tuple[float, float, int], list[SlotRow]] = defaultdict(list)
        for request in requests:
            row = SlotRow(request, prompt_within(self._renderer, request, self._context))
            if request.sampling.max_new_tokens < 1:
                yield self._generation(row)
            else:
                groups[request.sampling.temperature, request.sampling.top_p, request.top_logprobs].append(row)
        tokens = sum(row.room for rows in groups.values() for row in rows)
        with packed_weights(self._loaded.model) if tokens >= self.worth_packing else nullcontext():
            for rows in groups.values():
                for row in self._decoder(max(row.room for row in rows)).run(rows):
                    self.under_way -= len(row.tokens)
                    yield self._generation(row)

    def _decoder(self, width: int) -> SlotDecoder | LibraryDecoder:
        """Return what writes rows of up to `width` tokens."""
        from peft import PeftModel

        from lingraft.engines.library_decoder import LibraryDecoder
        from lingraft.engines.slot_cache import layers_for_slots
        from lingraft.engines.slot_decoder import SlotDecoder

        limits: dict[str, Any] = {
            "max_tokens": self._batch_tokens,
            "max_rows": self._max_batch,
            "ended": self._ended,
        }
        model: Any = self._loaded.model
        # Adapters sit inside the layers, so that the base model computes with them; prompts learnt as vectors do not.
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        learnt_prompts = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
        layers = 0 if learnt_prompts else layers_for_slots(inner, width)
        if layers:
            return SlotDecoder(inner, layers, padding=self.padding, longest=self._context, **limits)
        return LibraryDecoder(model, pad_id=self._renderer.pad_id, end_ids=self._renderer.end_ids, **limits)

    def _ended(self, row: SlotRow) -> bool:
        """Count a row's last token and tell whether it ends the row: end of turn, token limit, or a stop string."""
        self.under_way += 1
        sampling = row.request.sampling
        ends = (*self._renderer.end_ids, *row.request.ends)
        if row.last in ends or len(row.tokens) >= sampling.max_new_tokens:
            return True
        if not sampling.stop:
            return False
        # A token is at least one byte of text or part of a character; 4 more cover characters split over tokens.
        window = max(len(text.encode("utf-8")) for text in sampling.stop) + 4
        recent = self._renderer.decode(row.tokens[-window:])
        return any(stop in recent for stop in sampling.stop) and self._finished(row) is not None

    def _finished(self, row: SlotRow) -> Generation | None:
        return finished(self._renderer, row.request, row.prompt, row.tokens, row.logprobs)

    def _generation(self, row: SlotRow) -> Generation:
        generation = self._finished(row)
        assert generation is not None, "only rows that have ended leave their decoder"
        return generation
