"""A bench: hours by row, rows that are run once, the base's answers written once, and one table."""

from __future__ import annotations

import copy
import importlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lingraft as lg
from benches import publish, row, write_table
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.core.errors import DataError, ModelError, StoreError, UsageError
from lingraft.evaluation.scorecard import Cost
from lingraft.pipeline import questions
from lingraft.pipeline.bench_checks import check_row
from lingraft.pipeline.bench_result import _cost, _trained, with_known
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.recipe.bench import load_bench
from lingraft.reporting.bench_tables import training_cost
from lingraft.store.artefacts import facts
from models_support import save_tiny_model
from tiny_runs import values

ROWS: list[dict[str, Any]] = [
    {"name": "vanilla"},
    {"name": "eaft", "set": {"stages.0.objective": [{"kind": "eaft"}]}},
    {
        "name": "half",
        "set": {
            "stages": [],
            "merge": [{"kind": "linear", "name": "half", "of": ["row:vanilla"], "strength": 0.5}],
        },
    },
    {"name": "cpo", "set": {"stages.0.objective": [{"kind": "eaft"}]}, "run": False, "why": "ninety hours"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "model"
    save_tiny_model(folder, seed=3)
    return folder


def written(folder: Path, model: Path, rows: list[dict[str, Any]]) -> Path:
    recipe = copy.deepcopy(values(model, compare=[]))
    recipe["stages"][0] |= {"method": "vanilla", "params": {}}
    path = folder / "bench.yaml"
    path.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": rows}), "utf-8")
    return path


def test_a_dry_run_has_the_hours_of_each_row_and_starts_nothing(tmp_path: Path, model: Path, lingraft: Any) -> None:
    file = written(tmp_path, model, [ROWS[0], ROWS[2], ROWS[3]])
    found = lg.estimate_bench(file, out=tmp_path / "out")
    vanilla, half, dear = found.rows
    assert vanilla.hours
    assert dear.hours
    assert half.hours
    assert half.announcement.text.count("merged without training: half")
    assert found.hours == vanilla.hours + half.hours  # what is not run is reckoned, and not in the sum
    assert half.note == ""
    assert dear.note == "not run: ninety hours"
    shown = lingraft("bench", file, "--out", tmp_path / "out", "--dry-run")
    assert (shown.code, shown.out.strip()) == (0, str(found))
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_a_row_is_said_before_any_is_run(tmp_path: Path, model: Path, lingraft: Any) -> None:
    bad = {
        "name": "bad",
        "set": {"stages.0.beside": [{"method": "mix", "share": 0.3, "params": {"prompts": ["none.jsonl"]}}]},
    }
    file = written(tmp_path, model, [ROWS[0], bad])
    with pytest.raises(DataError, match=r"^row 'bad': .*none\.jsonl"):
        lg.bench(file, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "rows").exists()
    one_sentence(lingraft("bench", file, "--gpu", "h100"), 2, "--gpu is about estimates")


def test_a_dry_run_loads_and_tries_once_what_rows_have_in_common(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(place: str) -> None:
        owner, _, name = place.rpartition(".")
        found = getattr(importlib.import_module(owner), name)
        monkeypatch.setattr(place, lambda *given, **named: (calls.append(name), found(*given, **named))[1])

    for place in ("dry_run_shared.load_renderer", "dry_run_shared.load_model", "trial.try_training", "dry_run._pairs"):
        counting(f"lingraft.pipeline.{place}")
    fast = {"name": "fast", "set": {"stages.0.train.learning_rate": 0.02}}
    found = lg.estimate_bench(written(tmp_path, model, [ROWS[0], fast, ROWS[1], ROWS[2]]), out=tmp_path / "out")
    assert Counter(calls) == {"load_renderer": 1, "load_model": 1, "try_training": 2, "_pairs": 2}
    alone = lg.estimate_bench(written(tmp_path, model, [ROWS[0], fast]), out=tmp_path / "out").rows[1]
    assert str(found.rows[1].announcement) == str(alone.announcement)
    assert "tuner lora:" in str(alone.announcement)  # of the trial that another row has had


DORA: dict[str, Any] = {"stages.0.tuner": {"kind": "lora", "rank": 4, "dora": True}}
GIVEN = ["row:vanilla"]


@pytest.mark.parametrize(
    ("own", "taken", "said"),
    [
        (DORA, {"grafts": [["row:vanilla", "row:other"]]}, "cannot be added up: one will set the lengths of rows"),
        (
            {"stages.0.tuner": {"kind": "sparse", "density": 0.1}},
            {"grafts": [["row:vanilla", "row:other"]]},
            "cannot be added up: sparse changes and others cannot be in one adapter",
        ),
        (
            {},
            {"grafts": [{"path": "row:vanilla", "name": "plain"}], "evaluate.route": [{"of": "plain"}]},
            "'plain' will hold no decider 'classifier'",
        ),
        ({"evaluate.route": [{}]}, {"grafts": GIVEN, "evaluate.route": [{"of": "vanilla"}]}, ""),
        ({}, {"grafts": [["row:vanilla", "row:other"]], "evaluate.scales": [0.5]}, ""),
        (DORA, {"grafts": GIVEN, "evaluate.decoders": [{"kind": "rerank", "systems": ["vanilla"]}]}, ""),
    ],
)
def test_what_a_row_takes_is_checked_by_how_it_will_be_made(
    tmp_path: Path, model: Path, own: dict[str, Any], taken: dict[str, Any], said: str
) -> None:
    rows = [{"name": "vanilla", "set": own}, {"name": "other"}, {"name": "late", "set": {"stages": [], **taken}}]
    file = written(tmp_path, model, rows)
    if not said:
        assert all(row.hours for row in lg.estimate_bench(file, out=tmp_path / "out").rows)
        return
    for start in (lg.estimate_bench, lg.bench):
        with pytest.raises(UsageError, match=rf"^row 'late': .*{said}"):
            start(file, out=tmp_path / "out")
    assert not (tmp_path / "out" / "rows").exists()


def test_a_given_graft_of_another_base_is_refused_before_the_first_row(tmp_path: Path, model: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}', "utf-8")
    info = {"schema": "lingraft.graft/1", "method": "vanilla", "instruction": "{source}", "directions": []}
    (tmp_path / "old" / "lingraft.json").write_text(json.dumps({**info, "base_sha256": "0" * 64}), "utf-8")
    late = {"name": "late", "set": {"stages": [], "grafts": [str(tmp_path / "old")]}}
    with pytest.raises(ModelError, match=r"^row 'late': the graft .*old was trained on a base with hash 000000000000"):
        lg.bench(written(tmp_path, model, [ROWS[0], late]), out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "rows").exists()


def test_lengths_are_looked_at_once_for_rows_that_ask_the_same(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    checked = questions._checked

    def noted(recipe: Any, *others: Any) -> list[str]:
        names.append(recipe.name)
        return checked(recipe, *others)

    monkeypatch.setattr("lingraft.pipeline.questions._checked", noted)
    fast = {"name": "fast", "set": {"stages.0.train.learning_rate": 0.02}}
    decoded = {"name": "decoded", "set": {"evaluate.decoders": ["direct"]}}
    plan = load_bench(written(tmp_path, model, [ROWS[0], fast, decoded]), tmp_path / "out")
    shared = Shared()
    for one in plan.rows:
        check_row(plan, one, shared)
    assert names == ["vanilla", "decoded"]


def test_a_row_takes_no_graft_of_one_that_trains_nothing(tmp_path: Path, model: Path) -> None:
    late = {"name": "late", "set": {"stages": [], "grafts": ["row:half"]}}
    with pytest.raises(UsageError, match="row 'late' takes the graft of 'half', which trains nothing and so has none"):
        lg.estimate_bench(written(tmp_path, model, [ROWS[0], ROWS[2], late]), out=tmp_path / "out")


def test_layers_and_lengths_of_all_rows_are_looked_at_before_the_first_is_run(tmp_path: Path, model: Path) -> None:
    bad = {"name": "bad", "set": {"stages.0.tuner": {"kind": "lora", "targets": ["nowhere"]}}}
    with pytest.raises(UsageError, match=r"^row 'bad': .*nowhere"):
        lg.bench(written(tmp_path, model, [ROWS[0], bad]), out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "rows").exists()


def test_a_first_pass_that_selects_is_part_of_what_a_row_has_cost() -> None:
    costs = [
        Cost(system=system, stage=stage, seconds=seconds, tokens=tokens)
        for system, stage, seconds, tokens in (
            ("a", "synthesis-radis", 3.0, 7),
            ("a", "selection", 20.0, 500),
            ("a", "training", 40.0, 900),
            ("b", "training", 5.0, 100),
        )
    ]
    card: Any = SimpleNamespace(cost=costs)
    assert [(kind, _cost(card, "a", kind)["seconds"]) for kind in _trained(card, "a")] == [
        ("selection", 20.0),
        ("training", 40.0),
    ]
    assert _trained(card, "b") == ["training"]
    line: Any = SimpleNamespace(run=SimpleNamespace(scorecard=card))
    row: Any = SimpleNamespace(trainings=["a"])
    took = training_cost(line, row)
    assert (took.training, took.tokens) == (60.0, 900)


def test_a_folder_without_a_bench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no bench"):
        lg.BenchResult.read(tmp_path)
    (tmp_path / "bench.json").write_text("{", "utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        lg.BenchResult.read(tmp_path)


def test_rows_that_were_done_stay_in_the_table_until_a_bench_that_continues_comes_to_them(tmp_path: Path) -> None:
    for name in ("rows/a", "rows/b", "tokens/b"):
        publish(tmp_path / name, {"vanilla": (12.0, 0.5)})
    equal = {"reference": "a", "tokens": 9, "rows": [{"name": "b", "status": "done", "run": "tokens/b"}]}
    done = [row("a"), row("b"), row("c")]
    known = lg.BenchResult.read(write_table(tmp_path, done, equal_tokens=equal))
    new = {"rows": [row("a", extra=1), *(row(name, "to do") for name in ("b", "c", "d"))]}
    found = with_known(new, known, "a")
    # c's run is gone, and d is new.
    assert [(one["name"], one["status"]) for one in found["rows"]] == [
        *(("a", "done"), ("b", "done"), ("c", "to do"), ("d", "to do")),
    ]
    assert found["rows"][0]["extra"] == 1
    assert "equal_tokens" not in found  # it waits for c and d
    assert with_known({"rows": new["rows"][:2]}, known, "a")["equal_tokens"] == equal
    assert "equal_tokens" not in with_known({"rows": new["rows"][:2]}, known, None)
    begun = {"reference": "a", "tokens": 9, "rows": [{"name": "b", "status": "to do"}]}
    continued = with_known({"rows": new["rows"][:2], "equal_tokens": begun}, known, "a")
    assert continued["equal_tokens"]["rows"] == equal["rows"]
    changed = {"rows": [row("a"), row("b", "to do", set={"seed": 3})]}
    assert with_known(changed, known, "a")["rows"][1]["status"] == "to do"
    assert with_known(new, None, "a") == new


def test_a_table_of_an_earlier_version_is_printed(tmp_path: Path) -> None:
    took = {"synthesis": {"seconds": 0.0, "tokens": 0}, "training": {"seconds": 61.0, "tokens": 5000}}
    system = {"name": "vanilla", "gain": {"value": 2.0, "ci95": [1.0, 3.0]}, "retention_mean": 71.0, "cost": took}
    found = lg.BenchResult.read(write_table(tmp_path, [row("vanilla", systems=[system])]))
    assert str(found).splitlines()[1].split() == [
        "vanilla",
        "vanilla",
        "+2.0",
        "[1.0,",
        "3.0]",
        "71.0",
        "5,000",
        "-",
        "61",
    ]
    write_table(tmp_path, [row("vanilla", systems=[{**system, "cost": 3}])])
    with pytest.raises(StoreError, match=r"damaged \(rows\.0\.systems\.0\.cost"):
        lg.BenchResult.read(tmp_path)


@pytest.mark.long
def test_a_bench_runs_each_row_once_and_the_base_answers_once(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    found = lg.bench(written(tmp_path, model, ROWS[:1]), out=out, quiet=True)
    first = (out / "rows" / "vanilla" / "run.json").read_bytes()
    assert [row["status"] for row in found.rows] == ["done"]

    found = lg.bench(written(tmp_path, model, ROWS), out=out, quiet=True)  # further rows at their own cost
    assert [row["status"] for row in found.rows] == ["done", "done", "done", "not run"]
    assert (out / "rows" / "vanilla" / "run.json").read_bytes() == first
    for name in ("eaft", "half"):
        (answers,) = (path for path in (out / "rows" / name).glob("decode-base-*") if path.is_dir())
        assert (facts(answers)["tokens"], facts(answers)["taken_over"] > 0) == (0, True)
    base = [
        [row.score for row in lg.Run.read(out / "rows" / name).scorecard.translation if row.system == "base"]
        for name in ("vanilla", "eaft", "half")
    ]
    assert base[0] == base[1] == base[2]
    shown = str(found).splitlines()
    assert [line.split()[0] for line in shown] == ["row", "vanilla", "eaft", "half", "cpo"]
    assert shown[-1].endswith("not run: ninety hours")

    made = {name: (out / name).read_bytes() for name in ("bench.json", "report.html", "README.md")}
    page = made["report.html"].decode()
    assert all(f">{name}</bdi>" in page for name in ("base", "vanilla", "eaft", "half", "cpo"))
    assert "not run: ninety hours" in page
    assert lg.bench(written(tmp_path, model, ROWS), out=out, quiet=True).rows == found.rows
    assert {name: (out / name).read_bytes() for name in made} == made
    other = [{**ROWS[0], "set": {"stages.0.train.learning_rate": 0.02}}, *ROWS[1:]]
    with pytest.raises(UsageError, match=r"^row 'vanilla': .*learning_rate 0.01 -> 0.02"):
        lg.bench(written(tmp_path, model, other), out=out, quiet=True)
