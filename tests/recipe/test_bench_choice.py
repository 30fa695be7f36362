"""What a bench chooses for its rows: values, rows that choose and rows that take, and what is refused when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.bench import BenchPlan, load_bench
from lingraft.recipe.bench_choice import sets, value_folder
from tiny_runs import values

RATE = "stages.0.train.learning_rate"
CHOOSE = {"key": RATE, "values": [1e-05, 0.001]}
VANILLA = {"name": "vanilla", "set": {"stages.0.method": "vanilla", "stages.0.params": {}}}
RADIS: dict[str, Any] = {"name": "radis"}
HALF = {"name": "half", "set": {"stages": [], "merge": [{"kind": "linear", "name": "half", "of": ["row:radis"]}]}}


def read(folder: Path, rows: list[dict[str, Any]], dev: bool = True, **changes: Any) -> BenchPlan:
    recipe = values(folder / "model", compare=[])
    if dev:
        recipe["pairs"]["dev_share"] = 0.3
    path = folder / "bench.yaml"
    path.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": rows, **changes}), "utf-8")
    return load_bench(path, folder / "out")


def test_each_row_that_trains_has_a_recipe_for_each_value(tmp_path: Path) -> None:
    plan = read(tmp_path, [VANILLA, RADIS, HALF], choose=CHOOSE, seeds=2)
    vanilla, radis, half = plan.rows
    assert [one.chooses for one in plan.rows] == [True, True, False]
    assert [one.recipe.stages[0].train.learning_rate for one in vanilla.options] == [1e-05, 0.001]
    assert [one.folder for one in radis.options] == [tmp_path / f"out/choice/radis/{v}" for v in ("1e-05", "0.001")]
    assert {one.recipe.stages[0].method for one in vanilla.options} == {"vanilla"}
    assert (vanilla.options[0].recipe.seeds, vanilla.options[0].candidate.seeds) == (2, 1)
    assert radis.having(0.001).recipe == radis.options[1].recipe
    assert radis.having(0.001).folder == radis.folder
    assert half.options == ()


def test_other_rows_take_the_value_of_one_that_chooses_or_have_their_own(tmp_path: Path) -> None:
    choose = {**CHOOSE, "rows": ["vanilla"], "by": "chrf"}
    own = {"name": "own", "set": {RATE: 0.02}}
    dear = {"name": "dear", "run": False, "why": "ninety hours"}
    plan = read(tmp_path, [VANILLA, {**RADIS, "like": "vanilla"}, own, dear], choose=choose, equal_tokens="radis")
    assert [(one.chooses, len(one.options)) for one in plan.rows] == [(True, 2), (False, 2), (False, 0), (False, 0)]
    assert plan.rows[1].having(0.001).recipe.stages[0].train.learning_rate == 0.001
    assert plan.rows[2].recipe.stages[0].train.learning_rate == 0.02
    assert plan.choose is not None
    assert (plan.choose.by, plan.equal_tokens) == ("chrf", "radis")


LIKE = {**RADIS, "like": "vanilla"}
NAMED = {**CHOOSE, "rows": ["vanilla"]}
RULED = [{"epochs": 1, "dev_sample": 3}, {"epochs": 2, "dev_sample": 4}]


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ([VANILLA], {"choose": CHOOSE, "dev": False}, r"row 'vanilla': .*development set, and the recipe has none"),
        ([{**VANILLA, "set": {RATE: 0.1}}], {"choose": CHOOSE}, r"row 'vanilla': it sets stages.0.train.learning_rate"),
        ([{**VANILLA, "set": {"stages": [{"train": {"learning_rate": 1}}]}}], {"choose": CHOOSE}, "drop it there"),
        ([VANILLA, RADIS], {"choose": NAMED}, r"row 'radis': nothing says where .*`like: vanilla`"),
        ([VANILLA], {"choose": {**CHOOSE, "rows": ["vanila"]}}, r"choose.rows: there is no row 'vanila'"),
        ([VANILLA], {"choose": {**CHOOSE, "rows": ["vanilla"] * 2}}, "is named twice"),
        ([VANILLA], {"choose": {**CHOOSE, "values": [0.001]}}, "choose.values"),
        ([VANILLA], {"choose": {**CHOOSE, "values": [0.001, 1e-3]}}, "the value 0.001 is there twice"),
        ([VANILLA], {"choose": {**CHOOSE, "values": [0.001, -1]}}, r"row 'vanilla': .*learning_rate"),
        ([VANILLA], {"choose": {**CHOOSE, "key": "seed"}}, "is no key of a training"),
        ([VANILLA], {"choose": {**CHOOSE, "key": "stages.0.train.dev_sample"}}, "changes no training, or how it is"),
        ([VANILLA], {"choose": {"key": "stages.0.name", "values": ["a", "b"]}}, "are the same to it"),
        ([VANILLA], {"choose": {"key": "stages.0.train", "values": RULED}}, "differ in dev_sample, which changes no"),
        ([{**VANILLA, "set": {"stages": {"train": {"learning_rate": 1}}}}], {"choose": CHOOSE}, "drop it there"),
        ([VANILLA], {"choose": {**CHOOSE, "key": "stages.00.train.epochs"}}, r"stages.00 is not an entry"),
        ([VANILLA], {"choose": {**CHOOSE, "key": "stages.1.train.epochs"}}, r"row 'vanilla': .*is not an entry"),
        ([VANILLA], {"choose": {**CHOOSE, "by": "test"}}, "choose.by"),
        ([VANILLA, LIKE], {}, "none is chosen; add `choose:`"),
        ([LIKE, VANILLA], {"choose": NAMED}, "which is no row before it"),
        ([VANILLA, LIKE, {"name": "b", "like": "radis"}], {"choose": NAMED}, "which does not choose"),
        ([VANILLA, LIKE], {"choose": {**CHOOSE, "rows": ["vanilla", "radis"]}}, "do one of them"),
        ([RADIS, {**HALF, "like": "radis"}], {"choose": CHOOSE}, "row 'half': it trains nothing"),
        ([{**VANILLA, "run": False, "why": "dear"}], {"choose": CHOOSE}, "no row trains and is run"),
        ([VANILLA], {"equal_tokens": "radis"}, "equal_tokens: there is no row 'radis'"),
        ([RADIS, HALF], {"equal_tokens": "half"}, "equal_tokens: the row 'half' trains nothing"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, rows, **changes)


def test_a_value_has_a_folder_of_its_own() -> None:
    assert [value_folder(one) for one in (3e-05, 1e15, 4, "lora")] == ["3e-05", "1e+15", "4", "lora"]
    odd = [value_folder(one) for one in ("Lora", "lo/ra", "..", [1, 2], {"a": 1}, -4, "")]
    assert len(set(odd)) == len(odd)
    assert all("/" not in one and not one.startswith(".") for one in odd)


def test_a_key_is_set_by_itself_or_by_what_holds_it() -> None:
    assert sets({RATE: 1}, RATE)
    assert sets({"stages": [{"train": {"learning_rate": 1}}]}, RATE)
    assert not sets({"stages": [{"train": {"epochs": 1}}], "stages.0.train.epochs": 2}, RATE)
    assert not sets({"stages.0.train.learning_rate_": 1, "stages": []}, RATE)
