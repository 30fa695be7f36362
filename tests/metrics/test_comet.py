"""COMET's protocol, cache and messages with a stand-in for the worker; the real package is in `test_comet_real.py`."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from lingraft.core.errors import EngineError, ModelError, UsageError
from lingraft.data.records import Pair
from lingraft.evaluation.translation import score_all
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.comet import Comet
from lingraft.metrics.score_cache import ScoreCache, score_key

FAKE = Path(__file__).parents[1] / "support" / "comet_fake.py"
PAIRS = [Pair(f"p{n}", "Quelle " * n, "source " * n, "de", "en") for n in range(1, 6)]
SYSTEMS = {
    "base": {pair.id: "same for all" for pair in PAIRS},
    "radis": {pair.id: f"system {pair.id} ü\u2028" * 2 for pair in PAIRS},
}


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "model.ckpt").write_bytes(b"weights")
    (folder / "hparams.yaml").write_text("class_identifier: regression_metric\n", "utf-8")
    return folder


def _metric(checkpoint: Path, log: Path, how: str = "works") -> Comet:
    params = Comet.Params(path=str(checkpoint), batch_size=3, device="cpu")
    return Comet(params, lambda: [sys.executable, str(FAKE), how, str(log)])


def _points(pair: Pair, text: str) -> float:
    flat = " ".join(text.split())
    return len(flat) / 10 + len(pair.source) / 100 + len(pair.target) / 1000


def _noted(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def test_scores_are_the_workers_and_a_second_run_costs_nothing(tmp_path: Path, checkpoint: Path) -> None:
    log, steps = tmp_path / "log", []
    metric = _metric(checkpoint, log)
    metric.progress = lambda done, total: steps.append((done, total))
    rows = score_all(SYSTEMS, PAIRS, "demo", [OpenMetric("comet", metric)], n_bootstrap=20)
    metric.close()
    for row in rows:
        expected = [_points(pair, SYSTEMS[row.system][pair.id]) for pair in PAIRS]
        assert row.score == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert "model:model|sha256:" in rows[0].signature
    assert "unbabel-comet:2.2.7" in rows[0].signature
    settings, *scored = _noted(log)
    assert settings == {
        "checkpoint": str(checkpoint / "checkpoints" / "model.ckpt"), "device": "cpu", "batch_size": 3,
    }  # fmt: skip
    assert len(scored) == 10
    assert steps[0] == (0, 5)

    again = _metric(checkpoint, log)
    assert score_all(SYSTEMS, PAIRS, "demo", [OpenMetric("comet", again)], n_bootstrap=20) == rows
    assert len(_noted(log)) == 11  # the worker was not even started

    changed = {"radis": {**SYSTEMS["radis"], "p2": "another text"}}
    score_all(changed, PAIRS, "demo", [OpenMetric("comet", again)], n_bootstrap=20)
    again.close()
    assert [row["mt"] for row in _noted(log)[12:]] == ["another text"]

    (checkpoint / "checkpoints" / "model.ckpt").write_bytes(b"other weights")
    other = _metric(checkpoint, log)
    score_all({"base": SYSTEMS["base"]}, PAIRS, "demo", [OpenMetric("comet", other)], n_bootstrap=20)
    other.close()
    assert len(_noted(log)) == 13 + 1 + 5


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("error", r"COMET: KeyError: 'no such class' \(while loading .*model; the tokenizer of its encoder must be"),
        ("dies", r"COMET's process ended with exit code 137 \(Killed by the kernel\)"),
        ("short", r"did not return a score for each of 5 segments"),
    ],
)
def test_a_worker_that_fails_is_one_sentence(tmp_path: Path, checkpoint: Path, how: str, message: str) -> None:
    metric = _metric(checkpoint, tmp_path / "log", how)
    with pytest.raises(EngineError, match=message) as caught:
        score_all({"x": SYSTEMS["base"]}, PAIRS, "demo", [OpenMetric("comet", metric)], n_bootstrap=20)
    metric.close()
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_told_before_anything_starts(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="an environment of its own, which is not there; run `lingraft install"):
        open_metric("comet").metric.build("de", "en", ())
    command = lambda: [sys.executable]  # noqa: E731
    with pytest.raises(ModelError, match="there is no COMET checkpoint"):
        Comet(Comet.Params(path=str(checkpoint / "nowhere")), command).build("de", "en", ())
    (checkpoint / "hparams.yaml").unlink()
    with pytest.raises(ModelError, match=r"COMET needs hparams\.yaml"):
        Comet(Comet.Params(path=str(checkpoint)), command).build("de", "en", ())


def test_a_model_that_is_not_on_the_disk_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"'Unbabel/nothing-here' from the hub \(it is not on this machine, and HF_HUB_OFF"
    ):
        Comet(Comet.Params(model="Unbabel/nothing-here")).checkpoint()


def test_cache_survives_damage(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.sqlite"
    cache = ScoreCache(path)
    keys = [score_key("model", str(n)) for n in range(1200)]
    assert cache.get(keys) == {}
    cache.put({key: n / 7 for n, key in enumerate(keys)})
    assert cache.get(keys) == {key: n / 7 for n, key in enumerate(keys)}
    with sqlite3.connect(path) as database:
        database.execute("UPDATE scores SET score = 1.5 WHERE key = ?", (keys[3],))
    assert cache.get(keys[:5]).keys() == {*keys[:5]} - {keys[3]}
    path.write_bytes(b"not a database" * 100)
    assert cache.get(keys) == {}
    cache.put({keys[0]: 2.0})
    assert cache.get(keys) == {keys[0]: 2.0}
    assert score_key("a", "bc") != score_key("ab", "c")
