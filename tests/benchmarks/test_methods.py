"""The benchmarks of methods and of deltas: all that is registered is in it, and their recipes can be read and run."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lingraft.methods.base import METHODS
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS
from models_support import save_tiny_model

FOLDER = Path(__file__).parents[2] / "benchmarks"
OF_GIVEN_PAIRS = {"preferences", "cpo", "ipo"}
"""Need preferences that somebody gives."""


@pytest.fixture
def deltas(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("deltas")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("methods")


def options(folder: Path) -> argparse.Namespace:
    given = {"test": "starter:test.de-en.jsonl", "test_rows": 9, "prompts": "starter:prompts.jsonl"}
    none = dict.fromkeys(("source", "target", "pairs", "rows"))
    return argparse.Namespace(**given, **none, model="smollm2-135m-instruct", out=str(folder))


def test_all_that_is_registered_for_pairs_is_compared(benchmark: ModuleType) -> None:
    told = json.dumps([benchmark.ONE_STAGE, benchmark.TWO_STAGES])
    of_pairs = {
        name for name in METHODS if METHODS.get(name).consumes == "pairs" and not METHODS.get(name).needs_markers
    }
    for name in ({*of_pairs, *OBJECTIVES, *TUNERS, "recovery", "mix"} - OF_GIVEN_PAIRS) - {"dpo"}:
        assert f'"{name}"' in told, name


def test_its_recipes_can_be_read(benchmark: ModuleType, tmp_path: Path) -> None:
    plain, *others = [{"name": name, **entry} for name, entry in benchmark.ONE_STAGE.items()]
    del plain["name"]
    read = benchmark.recipe_of(options(tmp_path), "one-stage", [plain], others)
    assert [system.name for system in read.systems()][-1] == "vanilla"
    assert {system.name for system in read.systems()} == set(benchmark.ONE_STAGE)
    for name, stages in benchmark.TWO_STAGES.items():
        assert len(benchmark.recipe_of(options(tmp_path), name, stages, []).stages) == 2


def printed(
    module: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *given: str | Path
) -> dict[str, Any]:
    """What a benchmark prints with --json."""
    monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, given), "--json"])
    assert module.main() == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.long
def test_methods_are_run_and_measured(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--rows", "8", "--test-rows", "3", "--only", "eaft", "radis-before"]
    model = save_tiny_model(tmp_path / "model")
    found = printed(benchmark, capsys, monkeypatch, "--model", model, "--out", tmp_path / "runs", *few)
    systems = {row["name"]: row for row in found["systems"]}
    assert list(systems) == ["base", "eaft", "vanilla", "radis-before"]
    assert systems["base"]["tokens"] == 0
    assert systems["eaft"]["tokens"] == systems["vanilla"]["tokens"] > 0
    assert systems["vanilla"]["written"] == 0 < systems["radis-before"]["written"]
    assert all((tmp_path / "runs" / name / "report.html").exists() for name in ("one-stage", "radis-before"))


@pytest.mark.long
def test_deltas_are_trained_added_and_measured(
    deltas: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def question(lang: str, title: str, number: int) -> dict[str, Any]:
        asked = [{"id": f"{title}{number}", "question": f"Who wrote {title} {number}?"}]
        return {"lang": lang, "title": title, "context": f"{title} {number} was written by {number}.", "qas": asked}

    rows = [question(lang, title, n) for lang in ("en", "th") for title in ("Faust", "Iphigenie") for n in range(5)]
    (tmp_path / "xquad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sentences = {
        "en": "The weather is fine, and so is the water of lake",
        "th": "สวัสดีครับ วันนี้อากาศดีมากและน้ำในทะเลสาบก็เย็นสบายดี",
    }
    for lang, sentence in sentences.items():
        lines = (json.dumps({"text": f"{sentence} {number}. " * 3}) + "\n" for number in range(4))
        (tmp_path / f"{lang}.jsonl").write_text("".join(lines), "utf-8")
    given = ["--xquad", tmp_path / "xquad.jsonl", "--model", save_tiny_model(tmp_path / "model")]
    texts = [part for lang in ("en", "th") for part in ("--texts", f"{lang}={tmp_path / lang}.jsonl")]
    found = printed(
        deltas, capsys, monkeypatch, "--out", tmp_path / "runs", *given, *texts, "--tokens", "500", "--queries", "2"
    )
    assert {row["system"] for row in found["rows"]} == {"base", "task", "en+task", "th+task", "th"}
    assert all(row["ci95"][0] <= row["score"] <= row["ci95"][1] for row in found["rows"])
