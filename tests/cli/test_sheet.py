"""`lingraft sheet` as a user meets it, on a run's folder with two systems."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lingraft.cli import main as cli
from lingraft.core.hashing import file_hash
from lingraft.data.records import SideBySide
from lingraft.evaluation.scorecard import ModelIdentity, Scorecard, System, TranslationScore
from lingraft.store.files import write_lines, write_sealed


@pytest.fixture
def lingraft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lingraft", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    score = {
        "test_set": "t",
        "direction": "de-en",
        "metric": "bleu",
        "signature": "",
        "n": 9,
        "score": 1,
        "ci95": (0, 2),
    }
    card = Scorecard(
        schema="lingraft.scorecard/1",
        run="tiny",
        created="2026-01-01T00:00:00Z",
        base=ModelIdentity(id="x", sha256="y"),
        seed=0,
        versions={},
        systems=[System(name="base"), System(name="radis")],
        translation=[TranslationScore.model_validate({"system": "base", **score})],
        general=[],
        summary=[],
        cost=[],
    )
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "scorecard.json").write_text(card.to_json(), "utf-8")
    outputs = [{"base": f"b {n}", "radis": f"r {n}"} for n in range(9)]
    rows = [SideBySide(f"t/{n}", "de-en", f"Quelle {n}", "ref", both) for n, both in enumerate(outputs)]
    write_lines(folder / "outputs.jsonl", (row.to_json() for row in rows))
    published = {name: file_hash(folder / name) for name in ("scorecard.json", "outputs.jsonl")}
    write_sealed(folder / "run.json", {"published": published})
    return folder


def rate(folder: Path, rater: str, better: str) -> Path:
    """Fill the sheet as somebody would who can tell the systems apart and prefers one."""
    with (folder / "raters/sheet.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    path = folder / f"{rater}.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "rating": "A" if row["A"].startswith(better) else "b"} for row in rows)
    return path


def test_a_sheet_goes_out_and_comes_back(lingraft: Any, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sheet"
    code, out, err = lingraft("sheet", "export", run, "--systems", "base,radis", "--n", 8, "--seed", 1, "--out", folder)
    assert (code, out.split()) == (
        0,
        [
            str(folder / name)
            for name in ("raters/sheet.csv", "raters/form.html", "raters/instructions.txt", "key.json")
        ],
    )
    assert "8 items to rate" in err
    anna, bo = rate(folder, "anna", "r"), rate(folder, "bo", "b")
    code, out, _ = lingraft("sheet", "import", folder, anna, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["comparisons"][0]["win"] == {"percent": 100.0, "ci95": [100.0, 100.0]}
    assert (found["comparisons"][0]["system"], found["raters"]) == ("radis", {"anna": 8})
    code, out, _ = lingraft("sheet", "import", folder, anna, bo)
    assert code == 0
    assert "radis against base: win rate 50.0 %" in out
    assert "Agreement on 8 items rated by two or more" in out
    assert "anna 8 of 8, bo 8 of 8" in out


def test_mistakes_are_one_sentence(lingraft: Any, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sheet"
    export = ("sheet", "export", run, "--out", folder)
    for arguments, message in (
        ((*export, "--systems", "base"), "two or more different systems are needed, not base"),
        ((*export, "--systems", "base,raids"), "did you mean 'radis'"),
        ((*export, "--systems", "base,radis", "--only", "self"), "no direction or suite 'self'"),
        (
            ("sheet", "export", tmp_path, "--systems", "a,b", "--out", folder),
            "holds no finished run: it lacks run.json",
        ),
        (("sheet", "import", folder, folder / "x.csv"), "key.json is missing"),
    ):
        code, out, err = lingraft(*arguments)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1
    lingraft(*export, "--systems", "base,radis")
    path = rate(folder, "anna", "r")
    path.write_text(path.read_text("utf-8").replace(",b,", ",better,", 1), "utf-8")
    code, _, err = lingraft("sheet", "import", folder, path)
    assert code == 1
    assert f"{path}, line " in err
    assert "'better' is no rating" in err
