"""Sheets as campaigns of Pearmut, and what its raters have noted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import SideBySide
from lingraft.evaluation.campaign import PROTOCOLS, campaign, read_ratings
from lingraft.evaluation.raters import findings
from lingraft.evaluation.sheet import Sheet, make_sheet, read_key, write_sheet

SYSTEMS = ("base", "radis", "vanilla")


def rows() -> list[SideBySide]:
    texts = {"base": "A", "radis": "<img src=x onerror=alert(1)>", "vanilla": "<b>C</b>"}
    found = [
        SideBySide(str(n), "de-en", f"Satz {n}", f"Sentence {n}", {name: f"{text}{n}" for name, text in texts.items()})
        for n in range(4)
    ]
    alike = dict.fromkeys(SYSTEMS, "same")
    return [*found, SideBySide("alike", "de-en", "Gleich", "", alike), SideBySide("q", "suite", "Why?", "", texts)]


def sheet(**options: Any) -> Sheet:
    return make_sheet(rows(), SYSTEMS, run="mine", directions=["de-en"], **options)


def values(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(campaign(sheet(), directions=["de-en"], **options))
    return found


def test_a_campaign_has_every_system_of_each_item_once_for_each_rater() -> None:
    found = values(protocol="MQM", raters=2, reference=True)
    assert found["info"] == {"assignment": "task-based", "protocol": "MQM", "shuffle": True, "seed": 0}
    assert found["campaign_id"] == f"mine-{sheet().id}"
    first, second = found["data"]
    assert first == second
    assert sorted(item["src"] for (item,) in first) == [f"Satz {n}" for n in range(4)]  # not where all are alike
    for (item,) in first:
        number = item["src"][-1]
        assert item["instructions"] == "Translation from German to English"
        assert item["ref"] == f"Sentence {number}"
        # What begins with a tag is none: Pearmut would show a picture, and run what it says.
        assert item["tgt"] == {
            "base": f"A{number}",
            "radis": f" <img src=x onerror=alert(1)>{number}",
            "vanilla": f" <b>C</b>{number}",
        }
        assert item["item_id"] == f"{sheet().id}:de-en:{number}"
    assert "ref" not in values()["data"][0][0][0]
    assert values() == values()


def test_what_pearmut_would_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="no protocol 'X'; choose one of ESA, cESA, DA, MQM"):
        campaign(sheet(), protocol="X")
    with pytest.raises(UsageError, match="0 raters are none or too many"):
        campaign(sheet(), raters=0)
    numbers = [SideBySide("1", "de-en", "s", "r", {"1": "a", "2": "b"})]
    with pytest.raises(UsageError, match="no system whose name is a number, as '1' is"):
        campaign(make_sheet(numbers, ["1", "2"]))


def noted(user: str, item: str, **scores: float | None) -> str:
    annotation = {name: {"score": score, "error_spans": []} for name, score in scores.items()}
    return json.dumps({"user_id": user, "item_i": 0, "item": [{"item_id": item}], "annotation": [annotation]})


def test_annotations_are_ratings_of_the_same_items(tmp_path: Path) -> None:
    drawn = sheet()
    write_sheet(tmp_path, drawn, "", False)
    key = read_key(tmp_path)
    path = tmp_path / "mine.jsonl"
    lines = [
        noted("ann", f"{drawn.id}:de-en:0", base=1, radis=2, vanilla=2),
        noted("bob", f"{drawn.id}:de-en:0", base=90, radis=10, vanilla=20),
        json.dumps({"user_id": "bob", "annotation": "__RESET__"}),
        noted("bob", f"{drawn.id}:de-en:1", base=50, radis=70, vanilla=None),
        noted("ann", f"{drawn.id}:de-en:1", base=0, radis=0, vanilla=0),
        noted("ann", f"{drawn.id}:de-en:1", base=3, radis=1, vanilla=0),  # corrected
        "",
    ]
    path.write_text("\n".join(lines))
    ann, bob = read_ratings(path, key)
    assert (ann.rater, bob.rater) == ("ann", "bob")

    def better(ratings: dict[str, int], item: str) -> dict[tuple[str, str], int]:
        """By the order in which the systems were named."""
        found = {}
        for name, (left, right) in key.sides.items():
            if key.sources[name] == f"de-en:{item}" and name in ratings:
                sign = 1 if SYSTEMS.index(left) < SYSTEMS.index(right) else -1
                one, other = sorted((left, right), key=SYSTEMS.index)
                found[one, other] = sign * ratings[name]
        return found

    pairs = [("base", "radis"), ("base", "vanilla"), ("radis", "vanilla")]
    assert better(ann.ratings, "0") == dict(zip(pairs, (1, 1, 0), strict=True))
    assert better(ann.ratings, "1") == dict(zip(pairs, (-1, -1, -1), strict=True))
    assert better(bob.ratings, "0") == {}
    assert better(bob.ratings, "1") == {("base", "radis"): 1}
    assert findings(key, [ann, bob]).raters == {"ann": 6, "bob": 1}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1: is no annotation of Pearmut's"),
        ('{"user_id": "a", "item": [], "annotation": [1]}', "line 1: is no annotation of Pearmut's"),
        (noted("a", "other:0", base=1, radis=2), "line 1: item 'other:0' is not of this sheet"),
        ("", "holds no item of which two systems have scores"),
    ],
)
def test_what_is_no_annotation_is_told_by_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    write_sheet(tmp_path, sheet(), "", False)
    path = tmp_path / "a.jsonl"
    path.write_text(line)
    with pytest.raises(DataError) as caught:
        read_ratings(path, read_key(tmp_path))
    assert complaint in str(caught.value)


PEARMUT = os.environ.get("PEARMUT") or shutil.which("pearmut")


@pytest.mark.skipif(PEARMUT is None, reason="Pearmut is not installed (Python 3.12; its program as $PEARMUT)")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pearmut_itself_takes_the_campaign(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "campaign.json"
    path.write_text(campaign(sheet(), protocol=protocol, raters=3, directions=["de-en"]))
    done = subprocess.run([str(PEARMUT), "add", path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (stored,) = (tmp_path / "data" / "campaigns").glob("*.json")
    found = json.loads(stored.read_text())
    assert len(found["data"]) == 3
    assert f"mine-{sheet().id}" in done.stdout
