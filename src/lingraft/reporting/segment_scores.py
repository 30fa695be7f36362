"""Scores of single segments, for a reader who looks for the worst translations; no table is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lingraft.data.records import SideBySide
from lingraft.language.characters import is_blank

DECIMALS = 1


@dataclass(frozen=True)
class Ordering:
    """A way to go through the items: `places` are positions of all items, those without a score last."""

    title: str
    places: Sequence[int]


def segment_scores(items: Sequence[SideBySide]) -> list[dict[str, float]]:
    """Return the sentence chrF++ of every system's text against the reference, for each item.

    Returns:
        For each item: system -> 0 to 100, as it is shown; empty for an item without a reference.
    """
    from sacrebleu.metrics import CHRF

    metric = CHRF(word_order=2)
    scores = []
    for item in items:
        known: dict[str, float] = {}  # systems often write the same
        if not is_blank(item.reference):
            for text in item.outputs.values():
                if text not in known:
                    known[text] = round(metric.sentence_score(text, [item.reference]).score, DECIMALS)
        scores.append({name: known[text] for name, text in item.outputs.items() if text in known})
    return scores


def orderings(scores: Sequence[Mapping[str, float]], headline: str, base: str) -> list[Ordering]:
    """Return the orders in which the outputs can be read; none where nothing has a score.

    Args:
        scores: of each item, as `segment_scores` returns them.
        headline: the system whose worst segments come first.
        base: the system against which it gains or loses; where it is the same one, it does neither.
    """
    worst = {place: found[headline] for place, found in enumerate(scores) if headline in found}
    changes = {place: value - scores[place][base] for place, value in worst.items() if base in scores[place]}
    if not worst:
        return []
    made = [
        Ordering("As they were measured", list(range(len(scores)))),
        Ordering(f"Lowest score of {headline} first", _sorted(worst, len(scores))),
    ]
    if changes and headline != base:
        made += [
            Ordering(f"Largest loss against {base} first", _sorted(changes, len(scores))),
            Ordering(
                f"Largest gain against {base} first",
                _sorted({place: -change for place, change in changes.items()}, len(scores)),
            ),
        ]
    return made


def _sorted(values: Mapping[int, float], n: int) -> list[int]:
    return sorted(range(n), key=lambda place: (place not in values, round(values.get(place, 0.0), DECIMALS), place))
