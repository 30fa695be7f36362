"""The suites of a run, asked together: what each system is asked, and the parts of its answers that each suite sees."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.data.records import Continuation, Generation, Request
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import SUITES, Answers, ItemScores, Suite, SuiteInputs, thinking_values
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem

MAX_ROUNDS = 20
"""Of one conversation or of one verdict: a suite that asks on for ever is a mistake."""


@dataclass(frozen=True)
class OpenSuite:
    """A suite of a run under its name. Outside the suite, its ids begin with `name/`.

    `retains` False: all its metrics are diagnostics, whatever the suite says of them.
    """

    name: str
    suite: Suite
    inputs: SuiteInputs
    retains: bool = True

    def asking(self, translating: TranslationSystem) -> OpenSuite:
        """Return the suite with another way to ask for translations."""
        return replace(self, inputs=replace(self.inputs, translating=translating))

    def of_system(self, renderer: Renderer, markers: Markers | None, translating: TranslationSystem) -> OpenSuite:
        """Return the suite as it asks a system.

        Args:
            renderer: of the system's tokenizer.
            markers: of its extended vocabulary, if it has one.
            translating: how it is asked for translations.
        """
        inputs = replace(self.inputs, renderer=renderer, markers=markers, translating=translating)
        return replace(self, inputs=inputs)

    def _named(self, requests: Sequence[Request]) -> list[Request]:
        return [replace(request, id=f"{self.name}/{request.id}") for request in requests]

    def requests(self) -> list[Request]:
        """What every system is asked first, and what only those with markers are asked."""
        return self._named([*self.suite.requests(self.inputs), *self.suite.chain_requests(self.inputs)])

    def sampled(self) -> list[Request]:
        """What only the base is asked, for the divergence from it."""
        return self._named(self.suite.base_only_requests(self.inputs))

    def follow_ups(self, answers: Answers) -> list[Request]:
        """What a system is asked next."""
        return self._named(self.suite.follow_ups(self.inputs, answers.of(self.name).generations))

    def score(self, base: Answers, system: Answers) -> list[ItemScores]:
        """The values of a system's answers."""
        own = system.of(self.name)
        scores = [*self.suite.score(self.inputs, base.of(self.name), own), *thinking_values(own)]
        return scores if self.retains else [each.diagnostic() for each in scores]

    def asked(self, given: Answers) -> Iterator[Request]:
        """Yield what a system was asked in all rounds that it has answered, by going through them again."""
        asked = self.requests()
        known: dict[str, Generation] = {}
        for _ in rounds([self]):
            asked = [request for request in asked if request.id in given.generations]
            if not asked:
                return
            yield from asked
            known |= {request.id: given.generations[request.id] for request in asked}
            asked = self.follow_ups(Answers(known))

    def continuations(self) -> list[Continuation]:
        """The continuations whose log-likelihood is measured."""
        return [replace(one, id=f"{self.name}/{one.id}") for one in self.suite.continuations(self.inputs)]

    def verdict_requests(
        self, base: Answers, system: Answers, verdicts: Mapping[str, Generation] | None = None
    ) -> list[Request]:
        """What the judge is asked next about a system."""
        own = system.of(self.name)
        given = Answers(verdicts or {}).of(self.name).generations
        return self._named(self.suite.verdict_requests(self.inputs, base.of(self.name), own, given))

    def verdict_rows(self, base: Answers, name: str, system: Answers) -> Iterator[dict[str, Any]]:
        """What the judge has said about a system, in readable form."""
        for row in self.suite.verdict_rows(self.inputs, base.of(self.name), system.of(self.name)):
            yield {"suite": self.name, "system": name, **row}


def open_suites(context: Context, data: Data) -> list[OpenSuite]:
    """Return the recipe's suites."""
    pairs = [pair for test in data.tests if test.task == "translation" for pair in test.pairs]
    longest = context.longest or SuiteInputs.context_tokens
    inputs = SuiteInputs(
        data.retention,
        data.languages,
        seed=context.recipe.seed,
        renderer=context.renderer,
        pairs=pairs,
        context_tokens=longest,
        texts=data.heldout,
    )
    opened = []
    for choice in context.recipe.evaluate.retention.suites:
        suite = SUITES.create(choice)
        opened.append(OpenSuite(choice.label, suite, inputs, choice.retains))
    for one in opened:
        _check_turns(one, context.renderer)
    return opened


def _check_turns(suite: OpenSuite, renderer: Renderer) -> None:
    """Refuse a suite whose conversations the chat template does not take, before anything is asked.

    Raises:
        UsageError: it does not.
    """
    asked = suite.requests()
    given = {request.id: Generation(request.id, "An answer.", (), "stop") for request in asked}
    for request in [*asked, *suite.follow_ups(Answers(given))]:
        try:
            renderer.template.check(request.messages)
        except UsageError as error:
            raise UsageError(f"suite {suite.name!r}: {error}; or leave the suite out") from error


def rounds(suites: Sequence[OpenSuite]) -> Iterator[int]:
    """Count rounds of questions from 2.

    Raises:
        UsageError: there is no end of them.
    """
    yield from range(2, MAX_ROUNDS + 1)
    names = ", ".join(suite.name for suite in suites)
    raise UsageError(f"one of the suites {names} still asks after {MAX_ROUNDS} rounds; that is an error in the suite")


def merge_rounds(parts: Sequence[Mapping[str, Generation]]) -> Mapping[str, Generation]:
    """Return several rounds' answers as one mapping."""
    return ChainMap(*(part for part in parts))  # type: ignore[arg-type]  # none is written to
