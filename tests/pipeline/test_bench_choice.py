"""Values that a bench chooses by the development set: trained once, never asked of the test, and taken over."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from lingraft.core.errors import TrainingError, UsageError
from lingraft.pipeline.bench_choice import Candidate, Choice, best_of
from lingraft.pipeline.bench_tables import result_text
from lingraft.pipeline.context import Context
from lingraft.recipe.bench_choice import Choose, Option
from lingraft.recipe.load import parse_recipe
from lingraft.store.artefacts import MANIFEST, facts
from models_support import save_tiny_model
from nursery import born, ran
from processes import flip, killed, tree
from tiny_runs import QUIET, values

RATE = "stages.0.train.learning_rate"


def tried(*losses: float | None, of: tuple[Any, ...] = (1e-05, 0.001, 0.1)) -> Choice:
    recipe = parse_recipe(values(Path("/model")), "test", Path("/"))
    options = [Option(value, recipe, Path("/bench/choice/vanilla") / str(value)) for value in of]
    found = [
        Candidate(option=option, dev={"loss": loss}, step=4) if loss else Candidate(option=option, dev={}, why="NaN")
        for option, loss in zip(options, losses, strict=True)
    ]
    choose = Choose(key=RATE, values=list(of))
    return Choice(choose, found, best_of(choose, found))


def test_the_least_loss_or_the_highest_chrf_is_best() -> None:
    values_of = [one.option for one in tried(1, 1, 1, 1, of=(1e-05, 0.001, 0.1, 1.0)).candidates]
    devs = [{"loss": 2.0, "chrf": 40.0}, {"loss": 1.0, "chrf": 30.0}, {"loss": 1.0, "chrf": 40.0}]
    found = [Candidate(option=option, dev=dev) for option, dev in zip(values_of, devs, strict=False)]
    spoilt = Candidate(option=values_of[3], dev={}, why="NaN")
    rate = {"key": RATE, "values": [1, 2]}
    assert best_of(Choose(**rate, by="loss"), [spoilt, *found]) is found[1]
    assert best_of(Choose(**rate, by="chrf"), [*found, spoilt]) is found[0]
    with pytest.raises(TrainingError, match=r"spoilt at each value of stages\.0\.train\.learning_rate; the first: NaN"):
        best_of(Choose(**rate), [spoilt])


def test_the_best_value_at_an_end_of_what_was_tried_is_said_to_be_there() -> None:
    assert [tried(*losses).edge for losses in ((3, 2, 1), (1, 2, 3), (2, 1, 3))] == ["highest", "lowest", ""]
    assert tried(3, 2, None).edge == ""  # the rate above it was tried, and spoils the training
    assert tried(3, 2, 1, of=("a", "b", "c")).edge == ""
    assert tried(3, 2, 1).words == f"{RATE} 0.1, best at the highest tried"


def test_the_table_has_every_value_with_its_figure() -> None:
    systems = [{"name": "v", "gain": None, "retention_mean": None, "cost": {"training": {}}}]
    systems[0]["cost"] = {"training": {"seconds": 1.0, "tokens": 1200, "supervised_tokens": 300}}
    choice = tried(1.5, 1.25, None).to_dict(Path("/bench"))
    assert [one["run"] for one in choice["candidates"]][:1] == ["choice/vanilla/1e-05"]
    rows = [
        {"name": "vanilla", "status": "done", "why": "", "systems": systems, "choice": choice},
        {"name": "b", "status": "to do", "why": "", "choice": {**choice, "candidates": [], "like": "vanilla"}},
    ]
    equal = {"reference": "vanilla", "tokens": 1200, "tolerance": 0.1}
    equal["rows"] = [{"name": "b", "status": "to do"}, {**rows[0], "status": "as configured"}]
    lines = [line.split() for line in result_text({"rows": rows, "equal_tokens": equal}).splitlines()]
    assert lines[1] == ["vanilla", "v", "-", "-", "1,200", "300", "1"]
    assert lines[5:9] == [
        ["row", "1e-05", "0.001", "0.1", "chosen"],
        ["vanilla", "1.5000", "1.2500", "spoilt", "0.001"],
        ["b", "0.001,", "as", "vanilla"],
        ["vanilla", "at", "0.1:", "NaN"],
    ]
    assert lines[-2][-2:] == ["to", "do"]
    assert lines[-1][-2:] == ["as", "configured"]


def test_a_training_is_taken_over_where_all_it_depends_on_is_the_same(tmp_path: Path) -> None:
    recipe = parse_recipe(values(tmp_path), "test", Path("/"))
    built: list[str] = []

    def made(name: str, inputs: Any, *others: str, training: bool = True) -> Path:
        def build(folder: Path) -> dict[str, Any]:
            built.append(name)
            (folder / "inner").mkdir(exist_ok=True)
            (folder / "inner" / "weights").write_bytes(b"of %d" % len(built))
            return {"seconds": 77.0, "tokens": 5}

        trained = tuple(tmp_path / other for other in others)
        with Context(recipe, tmp_path / name, QUIET, trained=trained) as context:
            return context.artefact("train-x", inputs, build, training=training)

    first = made("a", {"rows": [1]})
    (tmp_path / "b" / f"{first.name}.partial").mkdir(parents=True)
    (tmp_path / "b" / f"{first.name}.partial" / "left").write_text("by an interrupted training")
    assert tree(made("b", {"rows": [1]}, "none", "a")) == tree(first)
    assert facts(tmp_path / "b" / first.name) == facts(first)  # what it cost when it was trained
    assert built == ["a"]
    made("c", {"rows": [2]}, "a")
    made("d", {"rows": [1]}, "a", training=False)
    flip(first / "inner" / "weights")
    made("e", {"rows": [1]}, "a")
    assert built == ["a", "c", "d", "e"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice") / "model"
    save_tiny_model(folder, seed=3)
    return folder


def written(folder: Path, model: Path, **changes: Any) -> Path:
    recipe = copy.deepcopy(values(model, compare=[]))
    recipe["stages"][0] |= {"method": "vanilla", "params": {}}
    recipe["stages"][0]["train"]["weight_decay"] = 1.0  # with a rate of 1e15 weights are infinite after three steps
    recipe["pairs"]["dev_share"] = 0.3
    bench = {
        "name": "small",
        "recipe": recipe,
        "choose": {"key": RATE, "values": [0.001, 0.01, 1e15], "rows": ["vanilla"]},
        "equal_tokens": "vanilla",
        "rows": [{"name": "vanilla"}, {"name": "twice", "like": "vanilla", "set": {"stages.0.train.epochs": 2}}],
        **changes,
    }
    path = folder / "bench.yaml"
    path.write_text(json.dumps(bench), "utf-8")
    return path


def test_a_dry_run_counts_what_chooses_and_what_is_trained_again(tmp_path: Path, model: Path) -> None:
    found = lg.estimate_bench(written(tmp_path, model), out=tmp_path / "out")
    vanilla, twice = found.rows
    training = sum(
        line.hours for line in vanilla.announcement.estimate.lines if line.stage.startswith(("train-", "dev-"))
    )
    assert vanilla.choosing == pytest.approx(2 * training)  # of three, one is taken over
    assert (vanilla.equal, twice.choosing) == (0.0, 0.0)
    assert 0 < twice.equal < twice.hours
    assert twice.note == "reads 2.00 times as many tokens as vanilla"
    assert found.hours == pytest.approx(vanilla.hours + vanilla.choosing + twice.hours + twice.equal)
    assert str(found).splitlines()[2].split() == ["row", "hours", "choosing", "equal", "tokens"]
    assert not (tmp_path / "out").exists()


def test_each_value_is_checked_before_any_is_trained(tmp_path: Path, model: Path) -> None:
    choose = {"key": "stages.0.tuner.targets", "values": ["all-linear", ["q_proj", "no_such_proj"]]}
    file = written(tmp_path, model, choose=choose, rows=[{"name": "vanilla"}])
    for begin in (lg.estimate_bench, lg.bench):
        with pytest.raises(UsageError, match=r"^row .vanilla.: .*no_such_proj"):
            begin(file, out=tmp_path / "out")
    assert not (tmp_path / "out" / "choice").exists()


KILLED_AT = ("Trying stages.0.train.learning_rate 0.01", "Taking train-vanilla", "Row twice (2", "Row twice at equal")


@pytest.mark.long
def test_a_bench_that_chooses_is_killed_and_ends_like_an_undisturbed_one(tmp_path: Path, model: Path) -> None:
    file, environment = written(tmp_path, model), {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = ran("", "bench", file, "--out", tmp_path / "a", env=environment)
    assert ended.returncode == 0, ended.stderr
    choice, rows, again = (tmp_path / "a" / name for name in ("choice/vanilla", "rows", "tokens"))
    found = json.loads((tmp_path / "a" / "bench.json").read_text("utf-8"))

    # Each value is trained once, and no test item asked for it; the best one's training is the row's.
    assert {path.name for path in choice.iterdir()} == {"0.001", "0.01", "1e+15"}
    assert not [*choice.glob("*/decode-*"), *choice.glob("*/likelihood-*"), *choice.glob("*/scorecard.json")]
    chosen = found["rows"][0]["choice"]
    low, high, spoilt = chosen["candidates"]
    assert (spoilt["dev"], "no longer a finite number" in spoilt["why"]) == (None, True)
    assert high["dev"]["loss"] < low["dev"]["loss"]
    assert (chosen["value"], chosen["edge"]) == (0.01, "")  # a higher one was tried
    (its,) = choice.glob("0.01/train-*")
    assert tree(rows / "vanilla" / its.name) == tree(its)
    assert (found["rows"][1]["choice"]["value"], found["rows"][1]["choice"]["like"]) == (0.01, "vanilla")

    # The second row read twice as much, and is trained again on as much as the first.
    first, second = (row["systems"][0]["cost"]["training"]["tokens"] for row in found["rows"])
    equal = {row["name"]: row for row in found["equal_tokens"]["rows"]}
    assert second == 2 * first == 2 * found["equal_tokens"]["tokens"]
    assert [(row["status"], row["run"]) for row in equal.values()] == [
        ("as configured", "rows/vanilla"),
        ("done", "tokens/twice"),
    ]
    assert equal["twice"]["systems"][0]["cost"]["training"]["tokens"] == first
    (answers,) = again.glob("twice/decode-base-*")
    assert facts(answers)["tokens"] == 0

    for line in KILLED_AT:
        process = born("", "bench", file, "--out", tmp_path / "b", env=environment)
        assert process.stderr is not None
        assert any(text.startswith(line) for text in process.stderr), line
        killed(process)
    assert ran("", "bench", file, "--out", tmp_path / "b", env=environment).returncode == 0
    for name in ("rows/vanilla/graft", "rows/twice/graft", "tokens/twice/graft"):
        assert (tmp_path / "b" / name / WEIGHTS).read_bytes() == (tmp_path / "a" / name / WEIGHTS).read_bytes()
    assert _timeless(json.loads((tmp_path / "b" / "bench.json").read_text("utf-8"))) == _timeless(found)

    # Nothing is done again, what was spoilt included.
    before = {path: path.read_bytes() for path in (tmp_path / "b").rglob(MANIFEST)}
    ended = ran("", "bench", file, "--out", tmp_path / "b", env=environment)
    assert "Starting" not in ended.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "b").rglob(MANIFEST)} == before

    # A value that is no more among those tried is refused before anything starts.
    fewer = written(tmp_path, model, choose={"key": RATE, "values": [0.001, 0.002], "rows": ["vanilla"]})
    ended = ran("", "bench", fewer, "--out", tmp_path / "b", env=environment)
    assert (ended.returncode, "row 'vanilla': " in ended.stderr) == (2, True)
    assert not (tmp_path / "b" / "choice" / "vanilla" / "0.002").exists()


WEIGHTS = "adapter_model.safetensors"


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if "seconds" not in key}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
