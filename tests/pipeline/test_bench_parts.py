"""What a bench notes of its rows before it begins: each with an estimate, those at equal tokens behind."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.progress import Reporter
from lingraft.pipeline.bench_estimate import estimate_bench
from lingraft.pipeline.bench_parts import note_rows
from lingraft.pipeline.noting import noted
from lingraft.recipe.bench import load_bench
from lingraft.store.progress_file import PartNote, ProgressFile, read_progress
from models_support import save_tiny_model
from tiny_runs import values

ROWS: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "long", "set": {"stages.0.train.epochs": 3}},
    {"name": "dear", "run": False, "why": "ninety hours"},
]


def note_of(folder: Path) -> ProgressFile:
    note = read_progress(folder)
    assert note is not None
    return note


def test_rows_are_noted_with_the_hours_of_a_dry_run(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model", seed=3)
    recipe = copy.deepcopy(values(tmp_path / "model", compare=[]))
    recipe["stages"][0] |= {"method": "vanilla", "params": {}}
    file = tmp_path / "bench.yaml"
    file.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": ROWS, "equal_tokens": "plain"}), "utf-8")
    plan = load_bench(file, tmp_path / "out")
    plan.folder.mkdir()
    with noted(plan.folder, Reporter(quiet=True)) as noting:
        note_rows(noting, plan)
        noting.write()
        note = note_of(plan.folder)
        assert note.unknown == ""
        assert [part.of for part in note.parts] == ["plain", "long", "long at equal tokens"]
        reckoned = estimate_bench(plan)
        hours = [reckoned.rows[0].hours, reckoned.rows[1].hours, reckoned.rows[1].equal]
        assert [part.estimate for part in note.parts] == pytest.approx([3600 * each for each in hours])


def test_rows_begin_and_end_others_beside_them(tmp_path: Path) -> None:
    rows = [PartNote(kind="row", of="plain", estimate=9.0), PartNote(kind="row", of="long")]
    with noted(tmp_path, Reporter(quiet=True)) as noting:
        noting.plan(rows)
        noting.row_begins(rows[0], "rows/plain")
        noting.row_begins(rows[1], "rows/long")
        note = note_of(tmp_path)
        assert all(part.began and part.seconds is None for part in note.parts)
        assert [(one.folder, one.done) for one in note.stages] == [("rows/plain", False), ("rows/long", False)]
        noting.row_ends(rows[1], "rows/long")
        note = note_of(tmp_path)
        assert [part.seconds is None for part in note.parts] == [True, False]
        assert all(part.began for part in note.parts)
        assert note.parts[0].estimate == 9.0
        assert [(one.folder, one.done) for one in note.stages] == [("rows/plain", False), ("rows/long", True)]
        noting.row_begins(PartNote(kind="row", of="plain at equal tokens"), "tokens/plain")
        assert [part.of for part in note_of(tmp_path).parts] == ["plain", "long", "plain at equal tokens"]


def test_why_there_are_no_estimates_is_noted(tmp_path: Path) -> None:
    recipe = copy.deepcopy(values(tmp_path / "missing", compare=[]))
    file = tmp_path / "bench.yaml"
    file.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": ROWS[:1]}), "utf-8")
    plan = load_bench(file, tmp_path / "out")
    plan.folder.mkdir()
    with noted(plan.folder, Reporter(quiet=True)) as noting:
        note_rows(noting, plan)
        noting.write()
        note = note_of(plan.folder)
        assert [(part.of, part.estimate) for part in note.parts] == [("plain", None)]
        assert note.unknown
