"""Ratings that the page saved are read strictly, and add up over raters whichever side an answer stood on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from lingraft.core.errors import DataError
from lingraft.evaluation.thumbs import read_thumbs


def row(source: str, rating: str, *, left: str = "base", right: str = "mine", **changes: Any) -> dict[str, Any]:
    texts = {"a": f"{left} {source}", "b": f"{right} {source}"}
    return {"task": "t", "source": source, "left": left, "right": right, **texts, "rating": rating, **changes}


def save(path: Path, rater: str, *rows: dict[str, Any], **changes: Any) -> Path:
    path.write_text(json.dumps({"schema": "lingraft.ratings/1", "rater": rater, "ratings": rows, **changes}), "utf-8")
    return path


def test_two_raters_of_the_same_answers_are_one_sheet(tmp_path: Path) -> None:
    alike = row("same", "tie", a="x  y", b="x y")
    anna = save(tmp_path / "a.json", "anna", row("1", "B"), row("2", "A"), row("3", "tie"), alike)
    turned = [row("1", "A", left="mine", right="base"), row("2", "B", left="mine", right="base", blind=True)]
    bo = save(tmp_path / "bo.json", " ", *turned, row("4", "B"), alike)
    key, filled = read_thumbs([anna, bo])
    assert key.systems == ("base", "mine")
    assert key.same == {("base", "mine"): 1}
    assert [one.rater for one in filled] == ["anna", "bo"]
    found = lg.import_sheets(anna, [bo])
    (pair,) = found.comparisons
    # Of four items rated one tie, two wins and one loss of mine, and one more on which both wrote the same.
    assert (pair.system, pair.against, pair.rated, pair.same) == ("mine", "base", 4, 1)
    assert pair.win.percent == pytest.approx(100 * (1 + 0 + 0.5 + 1 + 0.5) / 5)
    assert found.agreement.items == 2
    assert found.agreement.kappa == 1
    assert found.raters == {"anna": 3, "bo": 3}


def test_three_systems_are_compared_pair_by_pair(tmp_path: Path) -> None:
    rows = [row("1", "B"), row("1", "A", right="other"), row("1", "A", left="mine", right="other")]
    found = lg.import_sheets(save(tmp_path / "a.json", "a", *rows))
    assert [(one.against, one.system, one.win.percent) for one in found.comparisons] == [
        ("base", "mine", 100.0),
        ("base", "other", 0.0),
        ("mine", "other", 0.0),
    ]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([row("1", "C")], {}, "ratings.1.rating"),
        ([row("1", "A", right="base")], {}, "rating 1: both answers are by 'base'"),
        ([row("1", "A"), row("2", "A"), row("1", "tie")], {}, "rating 3: .* rated before, as rating 1"),
        ([row("1", "A", more=1)], {}, "ratings.1.more"),
        ([], {}, "ratings"),
        ([row("1", "A")], {"schema": "lingraft.ratings/2"}, "schema"),
    ],
)
def test_what_is_no_rating_is_refused(
    rows: list[dict[str, Any]], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_thumbs([save(tmp_path / "a.json", "a", *rows, **changes)])


@pytest.mark.parametrize("data", [b"", b"item,rating\n", b"\xff", b"[" * 100_000, b'{"schema":1}'])
def test_other_files_are_refused_in_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match="save the ratings from the page again"):
        lg.import_sheets(tmp_path / "a.json")
