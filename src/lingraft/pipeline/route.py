"""Stages `route-...` and `routing-...`: systems of which a graft answers requests for translations, the base all else.

Nothing is asked that the two have answered already: an answer of such a system is that of its graft or of the base.
What is new are follow-ups to answers of both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.hashing import file_hash, list_hash
from lingraft.data.labelled_requests import LabelledRequest, read_labelled
from lingraft.data.records import KL, Generation, Request, Sampling
from lingraft.models.graft import read_info
from lingraft.models.graft_names import graft_folder
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.answers import answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers, sources_of, task_answer, task_requests
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.suites import merge_rounds, rounds
from lingraft.recipe.asking import wordings_of
from lingraft.recipe.evaluation import RoutedSystem
from lingraft.routing.base import BASE, DECIDERS, GRAFT, NO_ROUTE, Lessons, Route, RouteInputs
from lingraft.routing.stored import read_route, route_files, write_route
from lingraft.store.files import write_json
from lingraft.suites.base import Answers, WithoutThoughts
from lingraft.translation.direct import Source

FACTS = "routes.json"


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How a system routes.

    Attributes:
        folder: of the artefact that holds its decider.
        of: name of the system whose graft answers.
        by: name of the decider.
        requests: by which its errors are measured; none of a decider that does not guess.
        routes: of these, by id.
        signature: of the errors.
    """

    folder: Path
    of: str
    by: str
    requests: Sequence[LabelledRequest] = ()
    routes: Mapping[str, Route]
    signature: str = ""


@dataclass(frozen=True, kw_only=True)
class RoutedAnswers(SystemAnswers):
    """All answers of a system that routes, and how it does."""

    routing: Routing


def check_routed(context: Context) -> None:
    """Refuse given grafts that cannot be routed to, before anything is trained.

    Raises:
        UsageError: there is one, or it lacks the decider that is asked for.
    """
    grafts = {one.label: one for one in context.recipe.grafts}
    for one in context.recipe.routed_systems():
        given = grafts.get(one.of)
        if given is None:
            continue
        folders = [graft_folder(path) for path in given.paths]
        if any(read_info(folder).chat == "tcot" or Vocabulary.in_folder(folder) for folder in folders):
            raise UsageError(f"evaluate.route, {one.name!r}: {one.of!r} cannot be routed to: {NO_ROUTE}; drop it")
        if DECIDERS.get(one.by.kind).learns:
            read_route(folders[-1], one.by.kind, context.files.sha256)


def routed_systems(context: Context, data: Data, measured: Sequence[SystemAnswers]) -> list[SystemAnswers]:
    """Return what the recipe's routed systems answer.

    Args:
        context: of the run.
        data: whose test sets are translated.
        measured: what the base, first, and all grafts have answered, with their divergence from the base.

    Raises:
        DataError: a decider has too little to learn from.
        UsageError: a suite asks on for ever.
    """
    by_name = {one.name: one for one in measured}
    return [
        _Routed(context, data, one, by_name[one.of], measured[0]).answers() for one in context.recipe.routed_systems()
    ]


def routing_systems(answers: Sequence[SystemAnswers]) -> list[RoutedAnswers]:
    """Return the systems that route; of those that translate by a decoder over such a one, none."""
    return [one for one in answers if isinstance(one, RoutedAnswers) and not one.system.weights]


def deciders_of(name: str, answers: Sequence[SystemAnswers]) -> list[Path]:
    """Return the files of the deciders that route to the graft of a system; they are shipped with it."""
    folders = [one.routing.folder for one in routing_systems(answers) if one.routing.of == name]
    return [path for folder in folders for path in route_files(folder)]


@dataclass
class _Routed:
    """One routed system in the making.

    Attributes:
        context: of the run.
        data: of the run.
        plan: its entry in the recipe.
        own: the system whose graft answers requests for translations.
        base: that answers all else.
    """

    context: Context
    data: Data
    plan: RoutedSystem
    own: SystemAnswers
    base: SystemAnswers

    @cached_property
    def _wordings(self) -> list[str]:
        """In which the graft was taught to be asked; of a given one that is known of the first alone."""
        trained = self.own.system.trained
        taught = wordings_of(trained.synthesised.system.stages) if trained else None
        return taught or [self.own.system.translating.instruction]

    @cached_property
    def _inputs(self) -> RouteInputs:
        from lingraft.routing.states import prompt_states

        return RouteInputs(
            wordings=self._wordings, states=lambda requests: prompt_states(self.context.loaded, requests)
        )

    def _identity(self) -> dict[str, Any]:
        from lingraft.routing.states import STATES

        kind, params = DECIDERS.read(self.plan.by)
        of_model = {"base": self.context.files.sha256, "precision": self.context.precision, "states": STATES}
        return {
            "by": kind.name,
            "version": kind.version,
            "params": params.model_dump(mode="json"),
            "wordings": self._wordings,
            **(of_model | {"device": self.context.device} if kind.reads else {}),
        }

    @cached_property
    def decider(self) -> Path:
        """The artefact of the decider, which has learnt what it needs."""
        kind, system = DECIDERS.get(self.plan.by.kind), self.own.system
        given = kind.learns and system.trained is None
        inputs = self._identity()
        if given:
            assert system.graft is not None
            inputs["stored"] = [file_hash(path) for path in route_files(system.graft) if kind.name in path.stem]
        elif kind.learns:
            inputs |= {"data": self.data.folder.name, "seed": self.context.recipe.seed}

        def build(folder: Path) -> dict[str, Any]:
            if given:
                assert system.graft is not None
                decider, stored = read_route(system.graft, kind.name, self.context.files.sha256)
                facts = stored.facts
            else:
                decider = DECIDERS.create(self.plan.by)
                lessons = Lessons(pairs=self.data.train, prompts=self.data.replay, seed=self.context.recipe.seed)
                facts = decider.learn(lessons, self._inputs)
            write_route(folder, decider, self._wordings, self.context.files.sha256, facts)
            return facts

        return self.context.artefact(f"route-{self.plan.name}", inputs, build)

    def _routes(self, step: str, requests: Iterable[Request]) -> tuple[dict[str, Route], Path]:
        """Return who answers each request, and the artefact that holds it."""
        asked = list(requests)
        inputs = {"decider": self.decider.name, "requests": list_hash(one.to_dict() for one in asked)[0]}

        def build(folder: Path) -> dict[str, Any]:
            decider, _ = read_route(self.decider, self.plan.by.kind)
            with self.context.reporter.working(f"routing {len(asked):,} requests"):
                routes = decider.decide(asked, self._inputs)
            write_json(folder / FACTS, {one.id: route for one, route in zip(asked, routes, strict=True)})
            return {"requests": len(asked), "to_graft": routes.count(GRAFT)}

        folder = self.context.artefact(f"routing-{self.plan.name}{step}", inputs, build)
        return json.loads((folder / FACTS).read_text("utf-8")), folder

    def answers(self) -> RoutedAnswers:
        """Return all answers of the system."""
        own, base = self.own.system, self.base.system
        kind = DECIDERS.get(self.plan.by.kind)
        labelled = read_labelled(self.plan.requests) if kind.guesses else []
        tests = self.data.tests
        sources = {test.key: sources_of(test.pairs, test.key) for test in tests}
        asked = {GRAFT: self._first(self.own, sources), BASE: self._first(self.base, sources)}
        drawn = [one for suite in self.own.suites for one in suite.sampled() if one.id in self.own.answers.kl]
        marked = [Request(f"{FACTS}/{one.id}", one.messages, Sampling()) for one in labelled]
        routes, folder = self._routes("", [*asked[GRAFT], *drawn, *marked])
        artefacts = [folder, *self._answered("", asked, routes)]
        known = {one.id: one for one in self._sent(asked, routes)}
        found = [read_answers(path) for path in artefacts[1:]]
        answers = Answers(WithoutThoughts(merge_rounds(found), known))
        for number in rounds(self.own.suites):
            asked = {
                side: [one for suite in suites for one in suite.follow_ups(answers)]
                for side, suites in ((GRAFT, self.own.suites), (BASE, self.base.suites))
            }
            if not asked[GRAFT]:
                break
            step = f"-round{number}"
            further, folder = self._routes(step, asked[GRAFT])
            routes |= further
            made = self._answered(step, asked, further)
            artefacts += [folder, *made]
            known |= {one.id: one for one in self._sent(asked, further)}
            found += [read_answers(path) for path in made]
            answers = Answers(WithoutThoughts(merge_rounds(found), known))
        sides = {GRAFT: self.own.answers.kl, BASE: self.base.answers.kl}
        kl: dict[str, KL] = {one.id: sides[routes[one.id]][one.id] for one in drawn}
        written: Mapping[str, Generation] = answers.generations
        translations = {
            test.key: {
                pair.id: task_answer(
                    test.task,
                    source,
                    written[source.id],
                    (own if routes[source.id] == GRAFT else base).translating,
                )
                for pair, source in zip(test.pairs, sources[test.key], strict=True)
            }
            for test in tests
        }
        signature = "|".join([f"by:{kind.name}:{kind.version}", f"requests:{Path(self.plan.requests).name}"])
        return RoutedAnswers(
            system=self._system(kind.name),
            artefacts=(self.decider, *artefacts),
            translations=translations,
            # Likelihoods are of texts that no client asks for, so that they are the base's.
            answers=replace(answers, kl=kl, likelihoods=self.base.answers.likelihoods),
            suites=self.own.suites,
            routing=Routing(
                folder=self.decider,
                of=self.plan.of,
                by=kind.name,
                requests=labelled,
                routes={one.id: routes[f"{FACTS}/{one.id}"] for one in labelled},
                signature=signature,
            ),
        )

    def _first(self, side: SystemAnswers, sources: Mapping[str, Sequence[Source]]) -> list[Request]:
        """Return what the graft, or the base, is asked first."""
        recipe, how = self.context.recipe, side.system.translating
        tests = [task_requests(recipe, test.task, sources[test.key], how) for test in self.data.tests]
        return [*chain.from_iterable(tests), *(one for suite in side.suites for one in suite.requests())]

    def _sent(self, asked: Mapping[Route, Sequence[Request]], routes: Mapping[str, Route]) -> list[Request]:
        """Return each request as the one that answers it is asked."""
        return [one for side, listed in asked.items() for one in listed if routes.get(one.id, BASE) == side]

    def _answered(self, step: str, asked: Mapping[Route, Sequence[Request]], routes: Mapping[str, Route]) -> list[Path]:
        """Return the artefacts of both sides' answers, most of which are taken over from their own."""
        made = []
        for side, system in ((GRAFT, self.own.system), (BASE, self.base.system)):
            wanted = [one for one in asked[side] if routes.get(one.id, BASE) == side]
            if wanted:
                made.append(
                    answer(
                        self.context,
                        f"decode-{self.plan.name}-{side}{step}",
                        wanted,
                        graft=system.graft,
                        graft_hash=system.graft_hash,
                        choice=self.context.recipe.evaluate.engine,
                    )
                )
        return made

    def _system(self, by: str) -> MeasuredSystem:
        own = self.own.system
        return replace(
            self.base.system,
            name=self.plan.name,
            translating=own.translating,
            method=own.method,
            routed=(self.plan.of, by),
        )
