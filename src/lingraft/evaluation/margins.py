"""Gates with a margin of non-inferiority in words: how large the margin is, and by which bound it is shown or not.

A gate has a margin where its number lies on the wrong side of no change: a gain that may be a little below zero, a
retention that may be a little below 100 %, a few items that may be forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.figures import MINUS
from lingraft.evaluation.gate import FORGOTTEN, GAIN_OVER, NO_BOUND, Gate, Verdict

_RETENTION = ("retention_mean", "retention_min", "retention")


def margin_of(gate: Gate, system: str) -> float | None:
    """Return how much worse than no change a gate allows; None where it has no margin.

    Args:
        gate: parsed.
        system: that it is about.
    """
    name = _name(gate, system)
    last = name.rpartition(".")[2]
    above = gate.sign.startswith(">")
    if last in _RETENTION:
        margin = 100 - gate.number if above else 0.0
    elif last == FORGOTTEN:
        margin = 0.0 if above else gate.number
    elif last == "gain" or name.startswith(GAIN_OVER):
        margin = -gate.number if above else 0.0
    elif last == "delta":
        margin = -gate.number if above else gate.number
    else:
        margin = 0.0
    return margin if margin > 0 else None


def margin_sentences(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a sentence for each gate with a margin and each system that it is about.

    Where a gate is about several rows, it is about the one that is furthest on the wrong side.

    Args:
        verdicts: of all gates.
    """
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if margin_of(verdict.gate, verdict.system) is not None:
            groups.setdefault((verdict.gate.text, verdict.system), []).append(verdict)
    return [_sentence(min(found, key=_slack)) for found in groups.values()]


def _slack(verdict: Verdict) -> float:
    bound = verdict.bound
    if bound is None:
        return float("-inf")
    return bound - verdict.gate.number if verdict.gate.end == "lower" else verdict.gate.number - bound


def _sentence(verdict: Verdict) -> str:
    gate, bound = verdict.gate, verdict.bound
    name = _name(gate, verdict.system)
    over = name.removeprefix(GAIN_OVER)
    subject = f"gain against {over}" if over != name else name.replace("_", " ")
    where = f" ({verdict.reading.where})" if verdict.reading.where else ""
    percent = name.rpartition(".")[2] in (*_RETENTION, FORGOTTEN)
    margin = f"{margin_of(gate, verdict.system):.4g}{' %' if percent else ''}"
    if verdict.reading.value is None:
        found = "it was not measured"
    elif bound is None:
        found = f"it is {NO_BOUND.partition(',')[0]}"
    elif verdict.reading.ci95 is None:
        found = f"its value is {_shown(bound)}, and has no interval"
    else:
        kind = "one-sided 95 % bound" if gate.one_sided else "end of the two-sided 95 % interval"
        found = f"the {gate.end} {kind} is {_shown(bound)}, and {_shown(gate.number)} was asked for"
    shown = "is shown" if verdict.holds else "is not shown"
    return f"Non-inferiority of {verdict.system} in {subject}{where} with a margin of {margin} {shown}: {found}."


def _name(gate: Gate, system: str) -> str:
    return gate.subject.removeprefix(f"{system}:").strip()


def _shown(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)
