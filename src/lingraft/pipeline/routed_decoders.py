"""Systems that translate by a decoder whose every request is routed: to a graft, or to its base."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.hashing import list_hash
from lingraft.data.records import Generation, Request
from lingraft.decoders.base import Of
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.decoders import RunAsk, decode_by
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.route import FACTS, RoutedAnswers
from lingraft.recipe.decoders import DecodedSystem
from lingraft.routing.base import BASE, GRAFT, Route, RouteInputs
from lingraft.routing.stored import read_route
from lingraft.store.files import write_json


@dataclass(kw_only=True)
class RoutedAsk(RunAsk):
    """An `Ask` that sends each request of a step to the graft or to the base, as the decider of the system says.

    Attributes:
        decider: the artefact that holds it.
        by: its name.
        graft: the system whose graft answers.
    """

    decider: Path
    by: str
    graft: MeasuredSystem

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return the answers to a step; what a decoder asks the base itself, or another engine, is not routed."""
        asked = list(requests)
        if of != "system" or not asked:
            return super().__call__(step, asked, of)
        routes, found = self._routes(step, asked), dict[str, Generation]()
        for side, system in ((GRAFT, self.graft), (BASE, self.base)):
            own = [one for one in asked if routes[one.id] == side]
            ask = RunAsk(context=self.context, name=self.name, system=system, base=self.base, artefacts=self.artefacts)
            answers = ask(f"{step}-{side}", own)
            found |= {one.id: answers[one.id] for one in own}
        return found

    def _routes(self, step: str, asked: Sequence[Request]) -> dict[str, Route]:
        """Return who answers each request; it is decided once."""

        def build(folder: Path) -> dict[str, Any]:
            from lingraft.routing.states import prompt_states

            decider, stored = read_route(self.decider, self.by)
            inputs = RouteInputs(wordings=stored.wordings, states=lambda read: prompt_states(self.context.loaded, read))
            routes = decider.decide(asked, inputs)
            write_json(folder / FACTS, {one.id: route for one, route in zip(asked, routes, strict=True)})
            return {"requests": len(asked), "to_graft": routes.count(GRAFT)}

        key = {"decider": self.decider.name, "requests": list_hash(one.to_dict() for one in asked)[0]}
        folder = self.context.artefact(f"routing-{self.name}-{step}", key, build)
        self.artefacts.append(folder)
        routes: dict[str, Route] = json.loads((folder / FACTS).read_text("utf-8"))
        return routes


def decode_routed(context: Context, data: Data, one: DecodedSystem, measured: Sequence[SystemAnswers]) -> SystemAnswers:
    """Let a decoder translate all test sets with a system that routes; see `decode_by`.

    Args:
        context: of the run.
        data: whose test sets are translated.
        one: the decoder, and the name of the system.
        measured: what all systems have answered, the base first.
    """
    by_name = {each.name: each for each in measured}
    weights, base = by_name[one.weights], measured[0].system
    assert isinstance(weights, RoutedAnswers), "it routes"
    how = weights.routing
    graft = by_name[how.of].system
    ask = RoutedAsk(
        context=context, name=one.name, system=weights.system, base=base, decider=how.folder, by=how.by, graft=graft
    )
    return decode_by(context, data, one, weights, base, ask)
