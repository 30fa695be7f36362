"""Trackers: each that is installed is tried for real, without a network, and a killed run continues its curve."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from lingraft.core.errors import LingraftError
from lingraft.recipe.files import missing_parts
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.trust import acts
from lingraft.training.settings import TrainSettings
from tiny_runs import values
from trainings import run

KILLED = """
import os, signal, sys
from pathlib import Path
from trainings import run

def kill(progress):
    if progress.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)

work, kind, killed = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "killed"
run(work, save_every_steps=3, max_steps=9, report_to=[kind], progress=kill if killed else None)
"""


def train_in_process(work: Path, kind: str, killed: bool, **environment: str) -> str:
    script = f"import sys\nsys.path[:0] = {[path for path in sys.path if path]!r}\nimport conftest\n{KILLED}"
    import os

    done = subprocess.run(
        [sys.executable, "-c", script, str(work), kind, "killed" if killed else "whole"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == (-9 if killed else 0), done.stderr.decode()
    return done.stdout.decode()


def of_tensorboard(work: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(work / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return {key: [(one.step, one.value) for one in read.Scalars(key)] for key in read.Tags()["scalars"]}


def of_mlflow(work: Path) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{work}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "lingraft"]
    (run_,) = client.search_runs([experiment.experiment_id])
    assert run_.info.status == "FINISHED"
    return {
        f"train/{key}": [(one.step, one.value) for one in client.get_metric_history(run_.info.run_id, key)]
        for key in run_.data.metrics
    }


def of_trackio(work: Path) -> dict[str, list[tuple[int, float]]]:
    (store,) = (path for path in (work / "trackio").glob("*.db") if "lingraft" in path.name)
    with sqlite3.connect(store) as base:
        rows = [json.loads(one) for (one,) in base.execute("select metrics from metrics order by id")]
    keys = {key for row in rows for key in row if key != "train/global_step"}
    return {key: [(row["train/global_step"], row[key]) for row in rows if key in row] for key in keys}


READERS: dict[str, Callable[[Path], dict[str, list[tuple[int, float]]]]] = {
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "trackio": of_trackio,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_killed_run_continues_its_curve(tmp_path: Path, kind: str) -> None:
    pytest.importorskip(kind)
    places = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(tmp_path),
    }
    assert train_in_process(tmp_path, kind, killed=True, **places) == ""
    assert train_in_process(tmp_path, kind, killed=False, **places) == ""
    curves = READERS[kind](tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    wanted = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
    for key, field in wanted.items():
        found = curves[f"train/{key}"]
        assert [step for step, _ in found] == list(range(1, 10)), key
        assert [value for _, value in found] == pytest.approx([point[field] for point in logged], rel=1e-6)
    assert len(curves["train/loss_translation"]) == 9


def test_nothing_is_reported_unless_asked(tmp_path: Path) -> None:
    run(tmp_path, max_steps=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "losses.jsonl"]
    assert TrainSettings().report_to == []


def test_reporting_does_not_change_what_training_is_known_by() -> None:
    assert TrainSettings(report_to=["wandb"]).identity() == TrainSettings().identity()


def test_trackers_are_checked_when_the_recipe_is_read() -> None:
    with pytest.raises(ValidationError, match="'mlflow', 'tensorboard', 'trackio' or 'wandb'"):
        TrainSettings.model_validate({"report_to": ["comet"]})
    with pytest.raises(ValidationError, match="named twice"):
        TrainSettings.model_validate({"report_to": ["wandb", "wandb"]})


def test_a_missing_tracker_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingraft.recipe.files.is_installed", lambda module: module != "mlflow")
    changed = values(tmp_path)
    changed["stages"][0]["train"]["report_to"] = ["mlflow"]
    recipe = parse_recipe(changed, "", tmp_path)
    assert missing_parts(recipe) == ["train.report_to: mlflow is not installed; run `pip install mlflow`, or drop it"]


def test_a_tracker_that_does_not_work_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")  # the Trainer's callback refuses then
    with pytest.raises(LingraftError, match=r"tracker mlflow does not work .*take it out of train\.report_to"):
        run(tmp_path, report_to=["mlflow"])


def test_what_is_sent_away_needs_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = values(tmp_path)
    changed["stages"][0]["train"]["report_to"] = ["mlflow", "tensorboard", "trackio", "wandb"]
    recipe = parse_recipe(changed, "", tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert [act.what.partition(" to ")[2][:16] for act in acts(recipe)] == ["Weights & Biases"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert any("MLFLOW_TRACKING_URI" in act.what for act in acts(recipe))
