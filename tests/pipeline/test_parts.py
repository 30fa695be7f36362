"""What a run says names the part it is in, of how many: each number comes, in order, up to the last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.evaluation.scorecard import Scorecard
from lingraft.pipeline.context import in_folders
from lingraft.pipeline.parts import parts_of
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.store.holders import Holder
from lingraft.store.progress_file import ProgressFile, read_progress
from tiny_runs import values


class Listening(Reporter):
    """Keeps what is said, and what the run has noted of itself when its last part begins."""

    def __init__(self, folder: Path) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []
        self.folder = folder
        self.noted: ProgressFile | None = None

    def say(self, text: str, *, always: bool = False) -> None:
        self.lines.append(text)
        if text.startswith("Evaluating"):
            self.noted = read_progress(self.folder)


def test_each_part_of_a_run_is_counted(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    changed = values(tmp_path / "model")
    stage = changed["stages"][0] | {"method": "vanilla", "params": {}}
    more = {key: value for key, value in stage.items() if key != "tuner"}
    changed["stages"] = [stage | {"name": "one"}, more | {"name": "two"}]
    changed["compare"] = [{"without": ["one"], "name": "short"}]
    changed["evaluate"] |= {"scales": [0.5], "stages": True}
    changed["evaluate"]["retention"]["suites"] = []
    changed["seeds"] = 2
    recipe = parse_recipe(changed, "", Path("/"))
    heard = Listening(tmp_path / "run")
    run(recipe, tmp_path / "run", heard)
    said = [tuple(map(int, found)) for line in heard.lines for found in re.findall(r"\(part (\d+) of (\d+)\)$", line)]
    # Data, examples, 2 x (1 + 2) trainings, 7 systems: base, two after each stage, further seeds, a scale; evaluation.
    total = 1 + 1 + 6 + 7 + 1
    assert len(parts_of(recipe)) == total
    assert {of for _, of in said} == {total}
    assert list(dict.fromkeys(part for part, _ in said)) == list(range(1, total + 1))
    assert "Starting data (part 1 of 16)" in heard.lines
    assert "Evaluating (part 16 of 16)" in heard.lines

    noted = heard.noted
    assert noted is not None
    assert noted.holder == Holder.own()
    assert noted.part == total
    assert not noted.ended
    kinds = ["data", "examples", *["train"] * 6, *["answer"] * 7, "evaluate"]
    assert [part.kind for part in noted.parts] == kinds
    measured = Scorecard.read(tmp_path / "run" / "scorecard.json").systems
    assert [part.of for part in noted.parts if part.kind == "answer"] == [system.name for system in measured]
    trained = {stage.folder.rpartition("-")[0] for stage in noted.stages if stage.folder.startswith("train-")}
    assert {in_folders(f"train-{part.of}") for part in noted.parts if part.kind == "train"} == trained
    assert not noted.unknown
    assert all(part.estimate and part.estimate > 0 for part in noted.parts)
    assert [part.seconds is None for part in noted.parts] == [*[False] * (total - 1), True]
    assert all(stage.done and 1 <= stage.part <= total for stage in noted.stages)
    assert "\ue000" in noted.example
    assert not list((tmp_path / "run").glob("*progress*"))  # the run has ended well


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"stages": [], "compare": [], "grafts": ["a/graft", "b/graft"]}, 1 + 3 + 1),
        ({"grafts": ["a/graft"]}, 2 + 2 + 4 + 1),
    ],
)
def test_given_grafts_count(tmp_path: Path, changes: dict[str, object], parts: int) -> None:
    assert len(parts_of(parse_recipe(values(tmp_path, **changes), "", Path("/")))) == parts
