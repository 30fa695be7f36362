"""A judge in a test: a function from what it is shown to what it writes, asked as a run asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lingraft.data.records import Generation, Request
from lingraft.suites.base import Answers, ItemScores, Suite, SuiteInputs

Writes = Callable[[Request], str]


def answers(texts: Mapping[str, str]) -> Answers:
    """What a system wrote."""
    return Answers({id_: Generation(id_, text, (1,), "stop") for id_, text in texts.items()})


def converse(suite: Suite, inputs: SuiteInputs, writes: Writes) -> Answers:
    """Let a system answer all turns of a suite."""
    found: dict[str, Generation] = {}
    asked = suite.requests(inputs)
    while asked:
        found |= {request.id: Generation(request.id, writes(request), (1,), "stop") for request in asked}
        asked = suite.follow_ups(inputs, found)
    return Answers(found)


def judge(suite: Suite, inputs: SuiteInputs, base: Answers, system: Answers, writes: Writes) -> tuple[Answers, int]:
    """Return the answers with their verdicts, and the number of rounds that took."""
    given: dict[str, Generation] = {}
    rounds = 0
    while asked := suite.verdict_requests(inputs, base, system, given):
        assert not {request.id for request in asked} & given.keys()
        given |= {request.id: Generation(request.id, writes(request), (1,), "stop") for request in asked}
        rounds += 1
    return replace(system, verdicts=given), rounds


def by_metric(scores: list[ItemScores]) -> dict[str, ItemScores]:
    """The rows by name."""
    return {row.metric: row for row in scores}
