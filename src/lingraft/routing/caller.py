"""Decider "caller": who asks says whether it is a translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lingraft.data.records import Request
from lingraft.routing.base import BASE, GRAFT, Decider, Route, RouteInputs


class CallerDecider(Decider):
    """Sends to the graft what is asked for as a translation (`Request.direct`, a field of the protocol, a command).

    There is no error of it to measure: it is that of whoever calls.
    """

    name: ClassVar[str] = "caller"
    summary: ClassVar[str] = "the caller says it: a field of the request, a command of the chat"
    guesses: ClassVar[bool] = False

    class Params(Decider.Params):
        """It has no parameters."""

    def decide(self, requests: Sequence[Request], inputs: RouteInputs) -> list[Route]:
        """Return who answers each request; see `Decider.decide`."""
        return [GRAFT if one.direct else BASE for one in requests]
