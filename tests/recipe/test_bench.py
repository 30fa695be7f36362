"""Bench files: rows of one recipe, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.bench import load_bench
from tiny_runs import values


def written(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    recipe = values(folder / "model", compare=[])
    path = folder / "bench.yaml"
    path.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": rows, **changes}), "utf-8")
    return path


VANILLA = {"name": "vanilla", "set": {"stages.0.method": "vanilla", "stages.0.params": {}}}


def test_each_row_is_the_recipe_with_its_changes(tmp_path: Path) -> None:
    low = {"name": "low", "set": {"stages.0.train.learning_rate": 1e-05, "stages.0.objective": [{"kind": "eaft"}]}}
    plan = load_bench(written(tmp_path, [VANILLA, low], seeds=[3, 4]), tmp_path / "out")
    vanilla, other = (one.recipe for one in plan.rows)
    assert (vanilla.stages[0].method, other.stages[0].method) == ("vanilla", "radis")
    assert (vanilla.stages[0].train.learning_rate, other.stages[0].train.learning_rate) == (0.01, 1e-05)
    assert [one.kind for one in other.stages[0].objective or ()] == ["eaft"]
    assert (vanilla.name, other.name, vanilla.seeds) == ("vanilla", "low", [3, 4])
    assert [one.folder for one in plan.rows] == [tmp_path / "out" / "rows" / name for name in ("vanilla", "low")]


def test_seeds_are_those_of_the_recipe_unless_the_bench_has_its_own(tmp_path: Path) -> None:
    recipe = values(tmp_path / "model", compare=[], seeds=3)
    assert load_bench(written(tmp_path, [VANILLA], recipe=recipe)).rows[0].recipe.seeds == 3
    assert load_bench(written(tmp_path, [VANILLA], recipe=recipe, seeds=1)).rows[0].recipe.seeds == 1


def test_a_recipe_may_be_a_file_beside_the_bench_or_a_shipped_one(tmp_path: Path) -> None:
    recipe = {**values(tmp_path / "model", compare=[]), "name": "mine"}
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe), "utf-8")
    path = written(tmp_path, [VANILLA], recipe="mine.yaml")
    assert load_bench(path).rows[0].recipe.model == str(tmp_path / "model")
    with pytest.raises(UsageError, match="row 'vanilla': there is no recipe 'radis-de'"):
        load_bench(written(tmp_path, [VANILLA], recipe="radis-de"))


def test_the_reference_is_named_or_the_first_row_that_is_run(tmp_path: Path) -> None:
    dear, low = {"name": "dear", "run": False, "why": "days"}, {"name": "low"}
    assert load_bench(written(tmp_path, [dear, low, VANILLA])).reference == "low"
    assert load_bench(written(tmp_path, [dear, low, VANILLA], equal_tokens="vanilla")).reference == "vanilla"
    named = written(tmp_path, [dear, low, VANILLA], equal_tokens="vanilla", reference="low")
    assert load_bench(named).reference == "low"
    with pytest.raises(UsageError, match="reference: there is no row 'vanila'; did you mean 'vanilla'"):
        load_bench(written(tmp_path, [VANILLA], reference="vanila"))
    with pytest.raises(UsageError, match="reference: the row 'dear' is not run; name one that is"):
        load_bench(written(tmp_path, [dear, VANILLA], reference="dear"))


def test_half_a_character_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, [VANILLA, {"name": "dear", "run": False, "why": "x\ud800"}])
    with pytest.raises(UsageError, match=r"line 1: not valid YAML: half of a character"):
        load_bench(path)


def test_a_row_takes_the_graft_of_one_before_it(tmp_path: Path) -> None:
    half = {"name": "half", "set": {"stages": [], "merge": [{"kind": "linear", "name": "half", "of": ["row:vanilla"]}]}}
    plan = load_bench(written(tmp_path, [VANILLA, half]), tmp_path / "out")
    assert plan.rows[1].takes == ("vanilla",)
    assert plan.rows[1].recipe.merge[0].of == [str(tmp_path / "out" / "rows" / "vanilla" / "graft")]
    assert plan.rows[1].recipe.precision == plan.rows[0].recipe.precision == "fp32"  # one base
    with pytest.raises(UsageError, match=r"'half' takes the graft of 'vanilla', which is no row before it"):
        load_bench(written(tmp_path, [half, VANILLA]))
    dear = {**VANILLA, "run": False, "why": "ninety hours"}
    with pytest.raises(UsageError, match="which is not run; run neither"):
        load_bench(written(tmp_path, [dear, half]))


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ([VANILLA, {"name": "Vanilla"}], {}, "two rows are called"),
        ([{"name": "dear", "run": False}], {}, "says why"),
        ([{"name": "dear", "why": "dear"}], {}, "add `run: false`"),
        ([{"name": "a", "set": {"pairs.train.limit": 3}}], {}, "row 'a' sets 'pairs.train.limit', and all rows have"),
        ([{"name": "a", "set": {"prompts.0.limit": 3}}], {}, "all rows have the same 'prompts'"),
        ([{"name": "a", "set": {"evaluate": {}}}], {}, "all rows have the same 'evaluate.translation'"),
        ([{"name": "a", "set": {"seed": 2}}], {}, "all rows have the same 'seed'"),
        ([{"name": "a", "set": {"stages.0.methd": "radis"}}], {}, r"row 'a': .*unknown key 'stages.0.methd'.*method"),
        ([{"name": "a"}, {"name": "b", "set": {"stages.0.train.precision": "bf16"}}], {}, "give both one `precision`"),
        ([VANILLA], {"grid": [1e-4]}, "unknown key 'grid'"),
        ([VANILLA], {"budget": "tokens"}, "unknown key 'budget'"),
        ([], {}, "rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        load_bench(written(tmp_path, rows, **changes))


@pytest.mark.parametrize("key", ["compare", "gate"])
def test_a_bench_has_neither_compared_systems_nor_gates(tmp_path: Path, key: str) -> None:
    recipe = values(tmp_path / "model", compare=["seqkd"] if key == "compare" else [])
    if key == "gate":
        recipe["evaluate"]["gate"] = ["gain>=0"]
    with pytest.raises(UsageError, match=f"row 'vanilla': the recipe has `.*{key}`"):
        load_bench(written(tmp_path, [VANILLA], recipe=recipe))


def test_what_is_no_bench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no bench file"):
        load_bench(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1]", "utf-8")
    with pytest.raises(UsageError, match="a bench is a YAML mapping"):
        load_bench(tmp_path / "list.yaml")
