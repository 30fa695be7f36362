"""How often a system that routes sends a request to the wrong one of its two models, by kind of request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lingraft.core.figures import number
from lingraft.data.labelled_requests import LabelledRequest
from lingraft.evaluation.scorecard import GeneralScore
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import ItemScores

ROUTING = "routing"
"""Name of what is measured, beside the suites."""


def _facts(label: str) -> MetricFacts:
    return MetricFacts(label=label, better="lower", decimals=1, unit="%", retains=False)


def routing_errors(requests: Sequence[LabelledRequest], routes: Mapping[str, str], signature: str) -> list[ItemScores]:
    """Return the errors, 0 or 1 a request: all, those of either route, and those of each kind of request.

    Args:
        requests: with the routes that they should take.
        routes: request id -> the route that it took.
        signature: says who decided, and on which requests.
    """
    wrong = {one.id: float(routes[one.id] != one.route) for one in requests}

    def row(metric: str, label: str, ids: Sequence[str]) -> ItemScores:
        values = {id_: wrong[id_] for id_ in ids}
        return ItemScores(metric, values, _facts(label), scale=100.0, signature=signature)

    found = [
        row("error", "Sent to the wrong model", list(wrong)),
        row("to_graft", "Sent to the graft, for the base", [one.id for one in requests if one.route == "base"]),
        row("to_base", "Sent to the base, for the graft", [one.id for one in requests if one.route == "graft"]),
    ]
    kinds = dict.fromkeys((one.kind, one.route) for one in requests if one.kind)
    for kind, route in kinds:
        ids = [one.id for one in requests if (one.kind, one.route) == (kind, route)]
        found.append(row(f"{kind}_{route}", f"Wrong, {kind} (for the {route})", ids))
    return found


def routing_sentence(name: str, of: str, by: str, general: Sequence[GeneralScore]) -> str:
    """Return what a routed system is, and how often its decider errs on requests that it was not built for.

    Args:
        name: of the system.
        of: whose graft answers its requests for translations.
        by: name of the decider.
        general: all general rows.
    """
    text = (
        f"{name} answers as {of} where its decider ({by}) sees a request for a translation, and as the base otherwise"
    )
    own = {row.metric: row for row in general if row.system == name and row.suite == ROUTING}
    shares = [
        f"{number(own[metric].score, 0)} % of those for {of_whom} go to {to}"
        for metric, of_whom, to in (("to_graft", "the base", of), ("to_base", of, "the base"))
        if metric in own
    ]
    if not shares:
        return f"{text}."
    return f"{text}. Of {own['error'].n} requests in words that it was not built for, {' and '.join(shares)}."
