"""How the systems of a server are written together: a batch for each, and what holds while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from lingraft.engines.packed import packed_weights
from lingraft.engines.slot_cache import attending_in_groups
from lingraft.models.loading import LoadedModel
from lingraft.routing.base import BASE, GRAFT, Route
from lingraft.routing.router import graft_off
from lingraft.serving.batches import Batches, SlotWriting, can_batch, inner_model
from lingraft.serving.bridge import Bridge
from lingraft.serving.decoding import AnsweringEngine, Side, engine_here
from lingraft.serving.systems import ServedSystem


class Batching:
    """The batches of a server.

    Args:
        batches: of the model.
        writing: by name of the system and route, what begins to write as it; empty: answers are written one after the
            other.
        loaded: the model, where its weights may be packed; None where grafts are switched on it.

    Attributes:
        at_once: answers written at the same time.
        gives_logprobs: whether clients can have log-probabilities.
    """

    gives_logprobs = True

    def __init__(
        self,
        batches: Batches,
        writing: Mapping[str, Mapping[Route, SlotWriting]],
        at_once: int,
        loaded: LoadedModel | None = None,
    ) -> None:
        self._batches, self._writing, self._loaded, self.at_once = batches, writing, loaded, at_once
        self._bridges: list[Bridge] = []

    @classmethod
    def of(cls, systems: Sequence[ServedSystem], rows: int, tokens: int, *, base_too: bool) -> Batching:
        """Return the batches of systems that are one model in memory.

        Args:
            systems: that are served.
            rows: answers written at once; 1: one after the other.
            tokens: of all of them, padding and what is still to be written included.
            base_too: whether the first system's graft is switched off now and then, to answer as its base.
        """
        batches = Batches(rows, tokens)
        if rows < 2 or not all(can_batch(one.in_memory) for one in systems):
            return cls(batches, {}, 1)
        writing: dict[str, dict[Route, SlotWriting]] = {}
        for one in systems:
            writing[one.name] = {GRAFT: batches.writing(one.in_memory, _putting_on(one))}
        if base_too and hasattr(systems[0].in_memory.model, "disable_adapter"):
            writing[systems[0].name][BASE] = batches.writing(systems[0].in_memory, _as_base(systems[0]))
        alone = len(systems) == 1 and not base_too
        return cls(batches, writing, rows, systems[0].in_memory if alone else None)

    def step(self) -> bool:
        """Compute for all that wait; return whether there was anything to do."""
        return self._batches.step()

    def writing(self, name: str) -> Mapping[Route, SlotWriting] | None:
        """Return what begins to write as a system, None where answers are written one after the other."""
        return self._writing.get(name)

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Compute with packed weights for the block, where nothing else computes with the model; see
        `lingraft.engines.packed`."""
        if self._loaded is None:
            yield
            return
        with packed_weights(self._loaded.model), attending_in_groups(inner_model(self._loaded)):
            yield

    def side(self, system: ServedSystem, wake: Callable[[], None]) -> Side | None:
        """Return where steps of decoders and other translations are answered beside others; None where there are no
        batches.

        Args:
            system: that they are asked of.
            wake: tells the model's thread that something is asked.
        """
        if not self._writing:
            return None
        own, bridge = self._writing[system.name], Bridge(wake)
        self._bridges.append(bridge)
        return Side(bridge, own[GRAFT].batch, own.get(BASE, own[GRAFT]).batch, system.put_on)

    def answering(self, system: ServedSystem, wake: Callable[[], None]) -> Callable[[], AnsweringEngine]:
        """Return what makes engines for decoders and other translations, of which one works at a time; see `side`."""
        side = self.side(system, wake)
        return lambda: engine_here(system.loaded, system.folder is not None, side)

    def close(self) -> None:
        """Wait for work beside the batches, which is at its end."""
        for bridge in self._bridges:
            bridge.close()


def _putting_on(system: ServedSystem) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def around() -> Iterator[None]:
        system.put_on()
        yield

    return around


def _as_base(system: ServedSystem) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def around() -> Iterator[None]:
        system.put_on()
        with graft_off(system.in_memory):
            yield

    return around
