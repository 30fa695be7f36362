"""The bench files whose results are published: they load, and name what the results have and where the data are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lingraft.recipe.bench import load_bench

FOLDER = Path(__file__).parents[2] / "benchmarks" / "bench"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_some() -> None:
    assert {file.stem for file in FILES} >= {"captions", "captions-final"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads_and_its_rows_are_those_of_the_results(file: Path) -> None:
    rows = {plan.row.name for plan in load_bench(file).rows}
    results = FOLDER / "results" / file.stem / "bench.json"
    if results.exists():
        assert {row["name"] for row in json.loads(results.read_text("utf-8"))["rows"]} <= rows


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_where_its_files_are_had_is_said(file: Path) -> None:
    said = (FOLDER / "README.md").read_text("utf-8")
    named = set(re.findall(r"files/([\w.-]+)", re.sub("(?m)^#.*$", "", file.read_text("utf-8"))))
    assert len(named) > 5
    assert [name for name in sorted(named) if f"`{name}`" not in said] == []
