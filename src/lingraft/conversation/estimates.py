"""How good a translation is likely to be, without a reference: by the model that wrote it, or by a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError
from lingraft.data.records import Continuation, Pair
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.segments import segment_scores
from lingraft.translation.wording import TranslationSystem, ask

if TYPE_CHECKING:
    from lingraft.conversation.open_graft import OpenGraft

MODEL = "model"
"""Names the estimate by the model itself: the mean log-probability of a translation's tokens, in nats, 0 at most."""
DOUBTFUL_BELOW = -1.0
"""By `MODEL`: on average each token had a probability of less than 37%."""

Estimator = str | Mapping[str, Any]


def chosen_estimator(
    choice: Estimator, below: float | None, source: str, target: str
) -> tuple[OpenMetric | None, float]:
    """Return the metric of an estimate (None: the model itself), and the value below which one is doubtful.

    Args:
        choice: "model", a metric by its name, or by `kind` and parameters.
        below: the value; None for the default, which only the model's has.
        source: language code of the texts.
        target: language code of the translations.

    Raises:
        UsageError: there is no such metric, it needs references or something that is not installed, or no value is
            given.
    """
    if choice == MODEL:
        return None, DOUBTFUL_BELOW if below is None else below
    opened = open_metric(choice)
    if opened.metric.references:
        raise UsageError(
            f"the metric {opened.name!r} compares with references, and there are none; take {MODEL!r} or a metric that "
            f"needs none, such as CometKiwi: {{kind: comet, model: Unbabel/wmt22-cometkiwi-da}}"
        )
    if below is None:
        raise UsageError(f"say which scores of {opened.name!r} are doubtful: --doubtful-below, such as 60")
    opened.metric.build(source, target, (source, target))  # says whether it can be measured here
    return opened, below


def estimates(
    opened: OpenGraft, metric: OpenMetric | None, rows: Sequence[tuple[str, str]], source: str, target: str
) -> list[float]:
    """Return an estimate for each text and translation, in their order.

    Args:
        opened: has translated them.
        metric: that estimates; None for the model itself, whose weights are loaded here.
        rows: texts and translations.
        source: language code of the texts.
        target: language code of the translations.
    """
    if metric is not None:
        pairs = [Pair(str(number), text, "", source, target) for number, (text, _) in enumerate(rows)]
        try:
            return segment_scores(metric, list(zip(pairs, (said for _, said in rows), strict=True)), ())
        finally:
            metric.metric.close()
    if not rows:
        return []
    from lingraft.engines.likelihood import log_likelihoods

    how = opened.info.translating if opened.info else TranslationSystem()
    with opened.held() as held:
        renderer = held.loaded.renderer
        wanted = []
        for number, (text, said) in enumerate(rows):
            prompt = renderer.prompt_ids(ask(how.instruction, text, source, target)).ids
            wanted.append(Continuation(str(number), tuple(prompt), tuple(renderer.plain_ids(said))))
        found = log_likelihoods(held.loaded, wanted)
    return [one.logprob / len(ids.continuation) for one, ids in zip(found, wanted, strict=True)]
