"""Human evaluation with Pearmut (arXiv 2601.02933), on which WMT's raters work: the items of a sheet as a campaign.

Its raters mark errors and give scores (ESA, MQM, DA) instead of saying which of two is better. The order of systems is
shuffled there and their names are hidden; who sets up the campaign sees them. What it has noted is read back as ratings
of the same items: of two systems the one with the higher score is better.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, UsageError, first_line
from lingraft.core.printable import printable
from lingraft.data.records import SideBySide
from lingraft.evaluation.sheet import Filled, Key, Sheet, read_filled, task_of

PROTOCOLS = ("ESA", "cESA", "DA", "MQM")
"""What raters do: mark errors and score, the same with systems side by side, score alone, mark and name errors."""
RESET = "__RESET__"
"""In place of annotations: what the rater has done before does not count."""
MOST = 1000


def campaign(
    sheet: Sheet, *, protocol: str = "ESA", raters: int = 1, reference: bool = False, directions: Sequence[str] = ()
) -> str:
    """Return a campaign as Pearmut's `add` takes it, JSON: each rater rates all items, every system of each.

    Args:
        sheet: drawn; items on which all systems wrote the same are left out.
        protocol: one of `PROTOCOLS`.
        raters: how many there will be.
        reference: whether they see the reference.
        directions: the groups that are translations.

    Raises:
        UsageError: no such protocol, or no or too many raters.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"Pearmut has no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    if not 1 <= raters <= MOST:
        raise UsageError(f"{raters} raters are none or too many; give 1 to {MOST}")
    if odd := next((name for name in sheet.systems if name.isdigit()), ""):
        raise UsageError(f"Pearmut takes no system whose name is a number, as {odd!r} is; give it another name")
    documents = [[_item(sheet, row, reference, directions)] for row in sheet.rows]
    values = {
        "info": {"assignment": "task-based", "protocol": protocol, "shuffle": True, "seed": sheet.seed},
        "campaign_id": f"{sheet.run or 'lingraft'}-{sheet.id}",
        "data": [documents] * raters,
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _item(sheet: Sheet, row: SideBySide, reference: bool, directions: Sequence[str]) -> dict[str, Any]:
    task = task_of(row.group, directions)
    return {
        "instructions": html.escape(f"{task[0].upper()}{task[1:]}"),  # which Pearmut shows as HTML
        "src": _text(row.source),
        **({"ref": _text(row.reference)} if reference and row.reference else {}),
        "tgt": {name: _text(row.outputs[name]) for name in sheet.systems},
        "item_id": f"{sheet.id}:{row.group}:{row.id}",
        "group": row.group,
    }


def _text(text: str) -> str:
    """Return a text that Pearmut shows as one: what begins with the tag of a picture, it would show as a picture."""
    return f" {text}" if text.startswith("<") else text


def read_ratings(path: Path, key: Key) -> list[Filled]:
    """Return what a file holds: a filled sheet of one rater, or the annotations of a campaign (`.jsonl`) of several.

    Raises:
        DataError: it cannot be used; the sentence names the line.
    """
    return _annotations(path, key) if path.suffix == ".jsonl" else [read_filled(path, key)]


def _annotations(path: Path, key: Key) -> list[Filled]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); copy Pearmut's annotations anew") from error
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            rater, given = str(entry["user_id"]), entry["annotation"]
            if given == RESET:
                scores.pop(rater, None)
                continue
            pairs = list(zip(entry["item"], given, strict=True))
            found = {str(item.get("item_id", "")): _scores(one) for item, one in pairs if one is not None}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: is no annotation of Pearmut's ({error!r})") from error
        for name, one in found.items():
            sheet, _, source = name.partition(":")
            if sheet != key.sheet or source not in key.sources.values():
                raise DataError(
                    f"{path}, line {number}: item {printable(name, 60)!r} is not of this sheet ({key.sheet}); were the "
                    f"annotations made for another export?"
                )
            scores.setdefault(rater, {})[source] = one
    filled = [Filled(rater, str(path), _ratings(key, items)) for rater, items in scores.items()]
    if not any(one.ratings for one in filled):
        raise DataError(f"{path} holds no item of which two systems have scores; let raters finish some")
    return [one for one in filled if one.ratings]


def _scores(annotation: Any) -> dict[str, float]:
    """Return the score of each system; without one, it was not rated."""
    values = {name: one.get("score") for name, one in annotation.items()}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def _ratings(key: Key, items: dict[str, dict[str, float]]) -> dict[str, int]:
    ratings = {}
    for name, (left, right) in key.sides.items():
        scores = items.get(key.sources[name], {})
        if left in scores and right in scores:
            ratings[name] = (scores[right] > scores[left]) - (scores[right] < scores[left])
    return ratings
