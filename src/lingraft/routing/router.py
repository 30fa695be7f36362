"""A graft on its base, one model in memory, that answers as either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lingraft.core.errors import UsageError
from lingraft.data.records import Message, Request, Sampling
from lingraft.models.graft import GraftInfo
from lingraft.models.loading import AskedModel, LoadedModel
from lingraft.models.vocabulary import Vocabulary
from lingraft.routing.base import DECIDERS, GRAFT, NO_ROUTE, Decider, Route, RouteInputs
from lingraft.routing.states import prompt_states
from lingraft.routing.stored import read_route


def decider_of(graft: Path | None, info: GraftInfo | None, by: str) -> tuple[Decider, Sequence[str]]:
    """Return the decider by which a graft is routed to, and the wordings in which the graft is asked.

    Args:
        graft: folder of the graft; None for a base alone.
        info: of the graft.
        by: name of the decider: the stored one, where the graft holds one of the name.

    Raises:
        UsageError: there is no such decider, it has to learn and is not stored, or there is nothing to route to.
        ModelError: what is stored is damaged, or for another base.
    """
    kind = DECIDERS.get(by)
    if graft is None or info is None:
        raise UsageError(f"routing by {by!r} is between a graft and its base, and there is no graft; give one")
    if info.chat == "tcot" or Vocabulary.in_folder(graft) is not None:
        raise UsageError(f"the graft {graft} cannot be routed to: {NO_ROUTE}; leave out the route")
    if kind.learns or (graft / f"route-{by}.json").is_file():
        decider, stored = read_route(graft, by, info.base_sha256)
        return decider, stored.wordings
    return DECIDERS.create({"kind": by}), [info.instruction]


@contextmanager
def graft_off(loaded: LoadedModel) -> Iterator[None]:
    """Switch a model's graft off for the block, in which its base answers."""
    model: Any = loaded.model
    try:
        with model.disable_adapter():
            yield
    finally:
        model.requires_grad_(False)  # PEFT lets an adapter learn that it switches on


class Router:
    """Decides who answers a conversation, and lets it answer.

    Args:
        loaded: the base, the graft on; of a decider that reads no states of it, and for who answers elsewhere, without
            weights.
        decider: decides.
        wordings: in which the graft is asked for translations.
    """

    def __init__(self, loaded: AskedModel, decider: Decider, wordings: Sequence[str]) -> None:
        self._loaded, self._decider = cast(LoadedModel, loaded), decider
        self._inputs = RouteInputs(wordings=wordings, states=lambda requests: prompt_states(self._loaded, requests))

    @property
    def by(self) -> str:
        """Name of the decider."""
        return self._decider.name

    def route(self, messages: Sequence[Message], to: Route | None = None) -> Route:
        """Return who answers a conversation.

        Args:
            messages: the user's turn last.
            to: who is to answer by the word of the caller, which counts more than the decider's.

        Raises:
            UsageError, DataError: the conversation cannot be put to the model.
        """
        if to is not None:
            return to
        return self._decider.decide([Request("turn", tuple(messages), Sampling())], self._inputs)[0]

    @contextmanager
    def answering(self, route: Route) -> Iterator[LoadedModel]:
        """Give the model that answers; the graft is off meanwhile where that is the base."""
        if route == GRAFT:
            yield self._loaded
            return
        with graft_off(self._loaded):
            yield self._loaded
