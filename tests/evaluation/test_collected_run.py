"""A run that is collected: the same numbers, no text and no path, and a seal of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benches import publish
from lingraft.core.errors import StoreError, UsageError
from lingraft.data.records import SideBySide
from lingraft.evaluation.collected_run import asked_texts, collect_run
from lingraft.evaluation.compared_run import ComparedRun, read_run
from lingraft.evaluation.published import is_collected, open_run, published_hashes
from lingraft.evaluation.scorecard import Contamination, Scorecard
from lingraft.recipe.load import load_recipe
from lingraft.reporting.sheets import draw_sheet
from lingraft.statistics.items import item_lines
from lingraft.store.files import write_sealed

TEXTS = ("Der Hund schläft heute.", "The dog is asleep today.", "他今天没有来", "Ja.")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose ids are partly its texts, whose metric is a program, and whose training data overlap."""
    rows = [SideBySide(f"news/{text}", "de-en", text, TEXTS[1], {"base": "An answer of the base."}) for text in TEXTS]
    outputs = "".join(f"{row.to_json()}\n" for row in rows)
    folder = publish(tmp_path / "run", {"radis": (12.0, 0.7), "radis#2": (12.5, 0.7)}, outputs=outputs)
    found = read_run(folder, "run")
    ids = (*TEXTS, "/home/u/news.tsv:1", "item 7", "a\tb", "x" * 200, *(f"i{number}" for number in range(52)))
    clusters = tuple(f"d:{TEXTS[0]}" if number < 20 else f"d:{number // 4}" for number in range(60))
    signature = "command|python /home/u/bin/score.py {input}|bs:200"
    items = [replace(one, ids=ids, clusters=clusters, signature=signature) for one in found.items]
    card = found.scorecard.model_copy(deep=True)
    for row in card.general:
        if row.changed:
            row.changed.lost_ids, row.changed.gained_ids = [TEXTS[0], "i3"], ["item 7"]
    card.contamination.append(
        Contamination(where="news", kind="exact", n=60, shared=1, ids=[TEXTS[0]], rows=[TEXTS[1]])
    )
    (folder / "scorecard.json").write_text(card.to_json(), "utf-8")
    (folder / "items.jsonl").write_text("\n".join(item_lines(items, card.base.sha256)) + "\n", "utf-8")
    record = {"published": published_hashes(folder, trained=False), "model": {"id": "/home/u/models/base"}, "seed": 1}
    write_sealed(folder / "run.json", {**record, "stages": [{"stage": "data", "note": TEXTS[0]}], "key": "k"})
    return folder


def collected(run: Path, out: Path) -> Path:
    collect_run(run, out, {"data": "d"}, known=["/home/u"], texts=set(asked_texts(open_run(run))))
    return out


def numbers(run: ComparedRun) -> list[tuple[object, ...]]:
    return [(one.system, one.where, one.metric, one.statistics.tolist(), one.chance, one.facts) for one in run.items]


def test_the_numbers_are_those_of_the_run(run: Path, tmp_path: Path) -> None:
    out = collected(run, tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["items.jsonl", "run.json", "scorecard.json"]
    before, after = read_run(run, "run"), read_run(out, "run")
    assert numbers(before) == numbers(after)
    kept = ("systems", "translation", "summary", "cost", "seeds", "base", "created", "versions", "averages")
    shown = [Scorecard.read(folder / "scorecard.json").model_dump(include=set(kept)) for folder in (run, out)]
    for row in shown[0]["translation"]:
        row["signature"] = row["signature"].replace("/home/u/bin/", "")
    assert shown[0] == shown[1]
    for one, other in zip(before.items, after.items, strict=True):  # what belongs together still does
        assert len(set(one.ids)) == len(set(other.ids))
        assert one.clusters
        assert other.clusters
        assert [one.clusters.index(name) for name in one.clusters] == [
            other.clusters.index(name) for name in other.clusters
        ]


def test_no_text_and_no_path_goes_along(run: Path, tmp_path: Path) -> None:
    out = collected(run, tmp_path / "out")
    for path in out.iterdir():
        written = path.read_text("utf-8")
        for secret in (*TEXTS, "An answer", "/home", "models/", str(tmp_path)):
            assert secret not in written, (path, secret)
    (first, *_) = read_run(out, "run").items
    assert first.ids[8:] == tuple(f"i{number}" for number in range(52))  # an id that is one stays
    assert not {*first.ids[:8]} & {*TEXTS, "item 7"}
    assert len(set(first.ids)) == 60
    assert first.signature == "command|python score.py {input}|bs:200"
    (overlap,) = Scorecard.read(out / "scorecard.json").contamination
    assert (overlap.n, overlap.shared, overlap.ids, overlap.rows) == (60, 1, [], [])
    lost = [row.changed.lost_ids for row in Scorecard.read(out / "scorecard.json").general if row.changed]
    assert lost[0] == [first.ids[0], "i3"]


def test_what_needs_texts_is_refused_in_a_sentence(run: Path, tmp_path: Path) -> None:
    out = collected(run, tmp_path / "out")
    assert (is_collected(out), is_collected(run)) == (True, False)
    with pytest.raises(
        StoreError, match=r"out was collected without its texts, outputs\.jsonl among them; take the run"
    ):
        draw_sheet(
            out, ["base", "radis"], tmp_path / "sheet", n=5, seed=0, only=(), reference=False, pearmut="", raters=1
        )
    with pytest.raises(UsageError, match="out was collected without its texts and its recipe; take the run itself"):
        load_recipe(str(out))


def test_a_collected_run_is_collected_as_it_is(run: Path, tmp_path: Path) -> None:
    first, again = collected(run, tmp_path / "out"), tmp_path / "again"
    collect_run(first, again, {"data": "other"})
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
    assert open_run(again).origin == open_run(run).origin


@pytest.mark.parametrize("name", ["scorecard.json", "items.jsonl", "run.json"])
def test_a_collected_run_that_was_changed_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    out = collected(run, tmp_path / "out")
    text = (out / name).read_text("utf-8")
    (out / name).write_text(text.replace("radis", "sidar"), "utf-8")
    if name == "run.json":
        (out / name).write_text(text.replace('"seed": 1', '"seed": 2'), "utf-8")
    with pytest.raises(StoreError, match="collect it again: `lingraft collect`"):
        open_run(out)


def test_a_run_that_was_changed_is_not_collected(run: Path, tmp_path: Path) -> None:
    with (run / "items.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(StoreError, match=r"items\.jsonl is not the one that the run published"):
        collect_run(run, tmp_path / "out", {})
    with pytest.raises(StoreError, match="holds no finished run"):
        collect_run(tmp_path, tmp_path / "out", {})
