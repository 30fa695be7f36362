"""The items of the report's browser as data: the page holds them as JSON and draws those that are looked at."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lingraft.data.records import SideBySide
from lingraft.reporting.drawing import style_of
from lingraft.reporting.segment_scores import orderings, segment_scores
from lingraft.reporting.tables import Names


def browser_data(items: Sequence[SideBySide], names: Names, directions: Collection[str]) -> dict[str, Any]:
    """Return what the page's script needs.

    Args:
        items: in the order in which they are shown.
        names: order and colours of the systems, and the headline system.
        directions: groups that are directions of translation; all others are suites.

    Returns:
        `systems` (name and style), `groups` (name and whether it is a direction), `left` and `right` (positions of the
        systems compared first: the base and the headline system), `orders` (title and positions of the items), and
        `items`: id, position of the group, source, reference, a text or null for each system, a score or null for each
        system (null for all where there is no reference), and where decoders wrote in steps, the steps of each system
        (name and text).
    """
    systems = list(dict.fromkeys([*names.order, *(name for item in items for name in item.outputs)]))
    groups = {group: position for position, group in enumerate(dict.fromkeys(item.group for item in items))}
    headline = systems.index(names.headline)
    scores = segment_scores(items)
    return {
        "systems": [{"name": name, "style": style_of(names.cell(name).series)} for name in systems],
        "groups": [{"name": group, "direction": group in directions} for group in groups],
        "left": 0 if headline else min(1, len(systems) - 1),
        "right": headline,
        "orders": [
            {"title": order.title, "places": order.places} for order in orderings(scores, names.headline, systems[0])
        ],
        "items": [
            [
                item.id,
                groups[item.group],
                item.source,
                item.reference,
                [item.outputs.get(name) for name in systems],
                [found.get(name) for name in systems] if found else None,
                *([[list(item.steps.get(name, {}).items()) for name in systems]] if item.steps else []),
            ]
            for item, found in zip(items, scores, strict=True)
        ],
    }


def script_json(value: Mapping[str, Any]) -> str:
    """Return JSON that can stand inside a `script` element: no text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
