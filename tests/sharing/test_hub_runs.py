"""A run that was pushed is compared from the hub, as it would be from its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from hub import Hub, hub  # noqa: F401  (fixture)
from lingraft.core.errors import ModelError, StoreError


@pytest.fixture
def run(graft: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(graft.parent, tmp_path / "somebody" / "mine"))


@pytest.fixture
def pushed(run: Path, hub: Hub) -> str:
    lg.push(run, "org/de-en", base_model="org/base", license="mit", quiet=True)
    return "org/de-en"


def figures(found: lg.Comparison) -> list[dict[str, Any]]:
    return [
        {key: row[key] for key in row if key not in ("name", "run")} for row in json.loads(found.to_json())["systems"]
    ]


def test_it_is_as_from_its_folder(run: Path, pushed: str) -> None:
    local = figures(lg.compare([run], resamples=100))
    assert figures(lg.compare([pushed], resamples=100)) == local
    assert len(local) > 1


def test_both_stand_beside_each_other_by_their_names(run: Path, pushed: str, lingraft: Any) -> None:
    done = lingraft("compare", pushed, run, "--resamples", "100", "--json")
    assert done.code == 0, done.err
    assert {row["run"] for row in json.loads(done.out)["systems"]} == {"org/de-en", "mine"}
    one_sentence(lingraft("compare", pushed, f"{pushed}@main"), 1, "org/de-en is given twice")


def test_no_text_is_pushed_with_the_results(run: Path, pushed: str, hub: Hub) -> None:
    texts = {json.loads(line)["source"] for line in (run / "outputs.jsonl").read_text("utf-8").splitlines()}
    files = {name: data.decode() for name, data in hub.files(pushed).items() if name.startswith("results/")}
    assert len(files) == 3
    for text in filter(None, texts):
        for name, content in files.items():
            assert json.dumps(text)[1:-1] not in content, name
            assert text not in content, name


def test_a_push_without_results_is_told(pushed: str, hub: Hub, run: Path) -> None:
    there = hub.repositories[pushed]
    there.commit("main", {name: data for name, data in hub.files(pushed).items() if not name.startswith("results/")})
    with pytest.raises(StoreError, match=r"org/de-en has no results/scorecard.json: .* an earlier version"):
        lg.compare([pushed, run])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("org/none", ModelError, r"cannot fetch 'org/none' from the hub .* give the folder of a finished run"),
        ("no/such/folder", StoreError, r"no/such/folder: there is no such folder; give that of a finished run"),
    ],
)
def test_what_is_neither_here_nor_there(hub: Hub, name: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        lg.compare([name])
