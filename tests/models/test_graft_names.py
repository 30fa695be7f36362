"""Names of grafts: folders of this machine first, else the hub, whose branches are pinned to their commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub import Hub, hub
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.graft_names import graft_folder, locate_graft, pinned, shown_name
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.given_grafts import pinned_recipe
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.files import write_sealed
from tiny_runs import values

__all__ = ["hub"]
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w", "lingraft.json": b"{}"}


def test_a_folder_of_the_name_comes_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("org/name", FILES)
    monkeypatch.chdir(tmp_path)
    assert locate_graft("org/name").name == commit
    (tmp_path / "org" / "name" / "graft").mkdir(parents=True)
    (tmp_path / "org" / "name" / "graft" / "lingraft.json").write_text("{}")
    assert locate_graft("org/name") == Path("org/name")
    assert graft_folder("org/name") == Path("org/name/graft")
    assert pinned("org/name") == "org/name"
    assert locate_graft("org/name@main").name == commit
    assert pinned("org/name@main") == f"org/name@{commit}"
    assert shown_name(locate_graft("org/name@main")) == f"org/name@{commit}"
    assert shown_name(Path("org/name/graft")) == "graft"


@pytest.mark.parametrize("name", ["a/b/c", "none", "./org/name", "/none/there", "org/name@"])
def test_what_is_neither_is_said_with_what_may_be_given(hub: Hub, name: str) -> None:
    with pytest.raises(
        ModelError, match=f"there is no graft at {name}; give its folder, that of its run, or a name of"
    ):
        locate_graft(name)
    assert hub.asked == []


def test_a_model_is_no_graft(hub: Hub) -> None:
    hub.add("org/model", {"config.json": b"{}", "model.safetensors": b"w"})
    with pytest.raises(
        ModelError, match=r"cannot fetch 'org/model' from the hub \(it has none of what is read: adapter"
    ):
        locate_graft("org/model")


def recipe(folder: Path, **changes: object) -> Recipe:
    return parse_recipe(values(Path("org/base"), compare=[], **changes), "r", folder)


def test_recipes_name_grafts_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [{"method": "vanilla", "upon": "org/under"}]
    merge = [{"kind": "linear", "of": ["vanilla", "org/a@v1"]}]
    given = ["org/a", "org/b@v2", ["org/a@x", "org/here"], "./not/there"]
    monkeypatch.chdir(tmp_path)  # what lies in the current folder has nothing to do with the recipe's
    for name in ("org/a@main", "else/org/here"):
        (tmp_path / name).mkdir(parents=True)
    found = recipe(tmp_path / "else", stages=stages, merge=merge, grafts=given)
    here = str(tmp_path / "else" / "org" / "here")
    paths = ["org/a@main", "org/b@v2", ["org/a@x", here], str(tmp_path / "else" / "not" / "there")]
    assert [one.path for one in found.grafts] == paths
    assert [one.label for one in found.grafts] == ["a", "b", "a+here", "there"]
    assert found.stages[0].upon == "org/under@main"
    assert found.merge[0].of == ["vanilla", "org/a@v1"]


def test_a_branch_that_moves_is_another_experiment(hub: Hub, tmp_path: Path) -> None:
    first = hub.add("org/a", FILES)
    named = recipe(tmp_path, grafts=["org/a"], merge=[{"kind": "linear", "of": ["radis", "org/a@main"]}])
    fixed = pinned_recipe(named)
    assert [one.path for one in fixed.grafts] == [f"org/a@{first}"]
    assert fixed.merge[0].of == ["radis", f"org/a@{first}"]
    assert fixed.grafts[0].label == "a"
    assert pinned_recipe(fixed) is fixed
    root = tmp_path / "run"
    Experiment(named).begin(root, "0" * 64)
    assert f"path: org/a@{first}" in (root / "recipe.yaml").read_text()
    write_sealed(root / "run.json", {})
    Experiment(named).refuse_other(root)
    second = hub.repositories["org/a"].commit("main", {**FILES, "lingraft.json": b'{"more": 1}'})
    with pytest.raises(UsageError, match=rf"another recipe \(grafts\.0\.path org/a@.* -> org/a@.*{second[-6:]}"):
        Experiment(named).refuse_other(root)
    Experiment(fixed).refuse_other(root)
