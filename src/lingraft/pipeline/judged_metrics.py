"""Stages `judge-<metric>-<system>`: what the judges of metrics say of each system's translations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from lingraft.data.records import Generation, Pair, Request
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.judged import JudgedMetric
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.context import Context, in_folders
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.judges import Judge, ask_judge
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.suites import merge_rounds
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tasks import reported_metrics
from lingraft.suites.base import WithoutThoughts

Verdicts = Mapping[str, Mapping[str, Generation]]
"""What was said, by name of metric and id of request."""


@dataclass(frozen=True)
class Judged:
    """All systems' answers with what their verdicts cost, and the verdicts."""

    decoded: list[SystemAnswers]
    verdicts: Verdicts


def judged_metrics(recipe: Recipe) -> list[OpenMetric]:
    """Return the metrics of a recipe whose scores a judge gives."""
    opened = (open_metric({"kind": one.kind, "name": one.name, **one.params}) for _, _, one in reported_metrics(recipe))
    return [one for one in opened if isinstance(one.metric, JudgedMetric)]


def judge_translations(context: Context, data: Data, decoded: Sequence[SystemAnswers]) -> Judged:
    """Let the judges of metrics give their verdicts on all translations.

    Args:
        context: of the run.
        data: whose test sets were translated.
        decoded: what all systems have answered.

    Raises:
        ModelError, UsageError, EngineError: a judge cannot be used.
    """
    answered, verdicts = list(decoded), dict[str, dict[str, Generation]]()
    for opened in judged_metrics(context.recipe):
        said = verdicts.setdefault(opened.name, {})
        for place, system in enumerate(answered):
            found, artefacts = _of_system(context, opened, system, list(translated(data, opened, system)))
            said |= found
            answered[place] = replace(system, artefacts=(*system.artefacts, *artefacts))
    return Judged(answered, verdicts)


def translated(data: Data, opened: OpenMetric, system: SystemAnswers) -> Iterator[tuple[Pair, str]]:
    """Yield the segments of the test sets that a metric measures, each with a system's translation."""
    for test in (one for one in data.tests if one.task in type(opened.metric).tasks):
        texts = system.translations.get(test.key, {})
        yield from ((pair, texts[pair.id].text) for pair in test.pairs if pair.id in texts)


def verdict_rows(
    context: Context, data: Data, decoded: Sequence[SystemAnswers], verdicts: Verdicts
) -> Iterator[dict[str, Any]]:
    """Yield what the judges of metrics have said of each translation, in readable form."""
    for opened in judged_metrics(context.recipe):
        metric = opened.metric
        assert isinstance(metric, JudgedMetric)
        metric.verdicts = verdicts[opened.name]
        for system in decoded:
            for row in metric.verdict_rows(list(translated(data, opened, system))):
                yield {"metric": opened.name, "system": system.name, **row}


def verdicts_wanted(metric: JudgedMetric, pairs: Sequence[Pair], longest: int) -> Iterator[tuple[Request, int]]:
    """Yield what a metric's judge would be asked about one system, each with the tokens that the translation and what
    the judge has written itself may have at most.

    Args:
        metric: asked about.
        pairs: the segments.
        longest: translation, in tokens.
    """
    rows, said = [(pair, "-") for pair in pairs], dict[str, Generation]()
    for own in (0, metric.params.verdict_tokens):
        asked = metric.questions(rows, said)
        yield from ((request, longest + own) for request in asked)
        said = {request.id: Generation(request.id, "-", (), "stop") for request in asked}


def _of_system(
    context: Context, opened: OpenMetric, system: SystemAnswers, rows: Sequence[tuple[Pair, str]]
) -> tuple[dict[str, Generation], list[Any]]:
    metric = opened.metric
    assert isinstance(metric, JudgedMetric)
    parts, artefacts, known = list[Mapping[str, Generation]](), list[Any](), dict[str, Request]()
    said: Mapping[str, Generation] = {}
    for number in count(1):
        asked = metric.questions(rows, said)
        if not asked:
            break
        stage = f"judge-{opened.name}-{in_folders(system.name)}" + (f"-round{number}" if number > 1 else "")
        artefacts.append(ask_judge(context, stage, Judge.of(metric.judge), asked))
        parts.append(read_answers(artefacts[-1]))
        known |= {request.id: request for request in asked}
        said = WithoutThoughts(merge_rounds(parts), known)
    return dict(said), artefacts
