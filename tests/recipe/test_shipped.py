"""Shipped recipes: their names, what is said of them, and copies to edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import load_recipe
from lingraft.recipe.shipped import copy_recipe, shipped_names, shipped_recipes, summary
from lingraft.training.decoder_layers import layer_numbers


def test_names() -> None:
    assert shipped_names() == [
        "demo",
        "keep-de-en",
        "merge-de-en",
        "radis-de-en",
        "radis-wmt22",
        "summaries",
        "transllm-th",
        "transllm-th-7b",
        "xplus-de-en",
    ]
    assert sorted(shipped_recipes()) == shipped_names()


def test_a_summary_is_the_first_sentence_of_the_comment() -> None:
    assert summary("# One\n# sentence (arXiv 1.2). Another.\n#\n# more\nname: x\n") == "One sentence (arXiv 1.2)."
    assert summary("# No end\nname: x\n") == "No end"
    for text in shipped_recipes().values():
        assert summary(text).endswith(".")


@pytest.mark.parametrize("name", ["demo", "transllm-th"])
def test_a_copy_is_the_recipe_to_the_byte(tmp_path: Path, name: str) -> None:
    copy_recipe(name, tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_bytes() == shipped_recipes()[name].encode("utf-8")
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match=r"mine\.yaml is there already"):
        copy_recipe("demo", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text("utf-8") == "mine"
    with pytest.raises(UsageError, match="'dmo'; there are demo, keep-de-en"):
        copy_recipe("dmo", tmp_path / "other.yaml")
    assert not (tmp_path / "other.yaml").exists()


def test_two_phases_leave_the_layers_between_them_alone() -> None:
    (system,) = (one for one in load_recipe("xplus-de-en").systems() if one.name == "xplus")
    phases = [set(layer_numbers(stage.tuner.params["layers"], 30)) for stage in system.stages]
    assert phases == [set(range(4)), set(range(22, 30))]
    assert [stage.fresh for stage in system.stages] == [False, True]
