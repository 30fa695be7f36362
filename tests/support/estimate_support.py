"""Recipes and files for the tests of the dry run's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.pipeline.dry_run import Estimate
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe

SOURCE, TARGET = "Das Wetter ist heute schön.", "The weather is nice."


def rows(path: Path, count: int, bad: int = 0) -> Path:
    lines = [json.dumps({"source": SOURCE, "target": TARGET})] * count + ["{not json"] * bad
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe(folder: Path, **changes: Any) -> Recipe:
    rows(folder / "train.jsonl", 50, bad=3)
    rows(folder / "test.jsonl", 10)
    values: dict[str, Any] = {
        "name": "run",
        "pairs": {
            "train": {"path": "train.jsonl", "source": "de", "target": "en"},
            "test": {"path": "test.jsonl", "source": "de", "target": "en"},
        },
        "stages": {"method": "vanilla"},
        "evaluate": {"retention": {"suites": []}},
    }
    return parse_recipe({**values, **changes}, "x", folder)


def stage(result: Estimate, name: str) -> Any:
    return next(line for line in result.lines if line.stage == name)


def train(**changes: Any) -> dict[str, Any]:
    source = {"path": "train.jsonl", "source": "de", "target": "en", **changes}
    return {"train": source, "test": {"path": "test.jsonl", "source": "de", "target": "en"}}
