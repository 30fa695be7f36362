"""What the report's browser of outputs holds: scores of segments, and the orders in which they can be read."""

from __future__ import annotations

import dataclasses

import pytest
from sacrebleu.metrics import CHRF

from lingraft.data.records import SideBySide
from lingraft.reporting.browser import browser_data
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.segment_scores import orderings, segment_scores
from lingraft.reporting.tables import Names

REFERENCE = "The teapot looks pretty but drips."


def _item(id_: str, reference: str, **outputs: str) -> SideBySide:
    return SideBySide(id_, "de-en" if reference else "self", "Quelle", reference, outputs)


def test_segments_with_a_reference_have_sentence_chrfpp() -> None:
    items = [
        _item("1", REFERENCE, base=REFERENCE, radis="The teapot drips.", vanilla=""),
        _item("2", "", base="An answer", radis="Another"),
        _item("3", " \n", base="An answer"),
        _item("4", "\ud800 half a pair", base="\ud800 half"),
    ]
    first, second, third, fourth = segment_scores(items)
    expected = CHRF(word_order=2).sentence_score("The teapot drips.", [REFERENCE]).score
    assert 20 < expected < 80
    assert first == {"base": 100.0, "radis": round(expected, 1), "vanilla": 0.0}
    assert second == third == {}
    assert 0 < fourth["base"] < 100


def test_orders_put_worst_loss_and_gain_first_and_items_without_a_score_last() -> None:
    scores = [
        {},
        {"base": 50.0, "radis": 40.0},  # loses 10
        {"base": 20.0, "radis": 30.0},  # gains 10
        {"radis": 5.0},  # the base has none: neither gain nor loss
        {"base": 60.1, "radis": 50.1},  # loses 10: a tie stays in order, whatever floats make of it
        {"base": 70.0, "radis": 70.0},
    ]
    found = {order.title: order.places for order in orderings(scores, "radis", "base")}
    assert found == {
        "As they were measured": [0, 1, 2, 3, 4, 5],
        "Lowest score of radis first": [3, 2, 1, 4, 5, 0],
        "Largest loss against base first": [1, 4, 5, 2, 0, 3],
        "Largest gain against base first": [2, 5, 1, 4, 0, 3],
    }
    assert [order.title for order in orderings(scores, "base", "base")] == [
        "As they were measured",
        "Lowest score of base first",
    ]
    assert orderings([{}, {}], "radis", "base") == []


def test_browser_has_systems_in_the_order_of_the_tables(contents: ReportContents) -> None:
    names = Names.of(contents.scorecard, "vanilla")
    shuffled = [dataclasses.replace(i, outputs=dict(reversed(i.outputs.items()))) for i in contents.examples]
    data = browser_data(shuffled, names, ["de-en", "en-zh"])
    assert [system["name"] for system in data["systems"]] == ["base", "vanilla", "radis"]
    assert (data["left"], data["right"]) == (0, 1)
    assert [order["title"] for order in data["orders"]][1] == "Lowest score of vanilla first"
    for item, (*_, outputs, scores) in zip(contents.examples, data["items"], strict=True):
        assert outputs == [item.outputs.get(name) for name in ("base", "vanilla", "radis")]
        assert (scores is None) == (not item.reference)
    for order in data["orders"]:
        assert sorted(order["places"]) == list(range(len(contents.examples)))
    first = data["orders"][1]["places"][0]
    assert data["items"][first][5][1] == min(scores[1] for *_, scores in data["items"] if scores)
    unscored = [item for item in contents.examples if not item.reference]
    assert browser_data(unscored, names, [])["orders"] == []


@pytest.mark.parametrize("gone", ["radis", "base"])
def test_a_system_that_was_not_asked_has_no_score(contents: ReportContents, gone: str) -> None:
    items = [
        dataclasses.replace(item, outputs={name: text for name, text in item.outputs.items() if name != gone})
        for item in contents.examples
    ]
    data = browser_data(items, Names.of(contents.scorecard, "radis"), ["de-en"])
    position = [system["name"] for system in data["systems"]].index(gone)
    assert {item[5][position] for item in data["items"] if item[5]} == {None}
