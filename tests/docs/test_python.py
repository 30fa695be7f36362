"""The programs of `docs/python.md`, as they stand there, in a folder with the files that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from doc_files import lay_out
from lingraft import api
from nursery import ran

ROOT = Path(__file__).parents[2]
DRIVER = """
import runpy, sys, time
for path in sys.argv[1:]:
    print("##", path, flush=True)
    runpy.run_path(path, run_name="__main__")
"""


def programs(page: str) -> list[str]:
    """The Python programs of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the page describes it."""
    folder = tmp_path_factory.mktemp("python")
    lay_out(folder)
    return folder


def test_all_programs_run_as_they_stand(place: Path) -> None:
    found = programs((ROOT / "docs" / "python.md").read_text("utf-8"))
    assert len(found) == 7
    paths = [place / f"{number}.py" for number in range(1, len(found) + 1)]
    for path, text in zip(paths, found, strict=True):
        path.write_text(text, "utf-8")
    done = ran(DRIVER, *(path.name for path in paths), cwd=place)
    assert done.returncode == 0, done.stderr
    one, two, three, four, *_, own = done.stdout.split("## ")[1:]
    assert "train-radis" in one
    assert "Nothing was started" in one
    assert "runs/mine/report.html" in one
    assert two.splitlines()[-2].endswith("True")
    assert "1 of 2 gates missed: gain>=1000" in three
    assert [line.split()[0] for line in three.splitlines()[1:3]] == ["holds", "MISSED"]
    assert (place / "frontier.csv").read_text("utf-8").startswith('"system","run"')
    assert "<svg" in (place / "frontier.html").read_text("utf-8")
    assert "mine:radis check:mine gain" in four
    ((base, *_), (system, score, bounds), (routed, *_)) = ast.literal_eval(own.splitlines()[1])
    assert (base, system, routed) == ("base", "copy-after", "copy-after-route")
    assert bounds[0] <= score <= bounds[1]
    report = (place / "runs" / "own" / "report.html").read_text("utf-8")
    assert "copy-after" in report
    assert "same_end" in report or "Same end %" in report


def test_the_page_names_every_function_of_the_api() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    named = set(re.findall(r"\b([a-z_]+)\(", page)) | set(re.findall(r"`([a-z_]+)`", page))
    assert set(api.__all__) - named == set()
