"""The real COMET package on tiny random checkpoints, against its own interface and its own command line.

`make test-comet` makes the environment and runs this; it is left out of the default tests.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lingraft.core.errors import EngineError
from lingraft.core.own_environments import COMET
from lingraft.data.records import Pair
from lingraft.evaluation.translation import score_all
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.comet import worker_command

pytestmark = pytest.mark.comet

PAIRS = [
    Pair("a", "Das Wetter ist heute schön.", "The weather is fine today.", "de", "en"),
    Pair("b", "Wir gehen morgen früh zum alten Hafen.", "We walk to the old harbour tomorrow morning.", "de", "en"),
    Pair("c", "Nein.", "No.", "de", "en"),
    Pair("d", "Er las das Buch zweimal und verstand es nicht.", "He read the book twice.", "de", "en"),
]
TEXTS = {"a": "The weather is nice today.", "b": "Tomorrow we go there.", "c": "No.", "d": ""}


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """COMET's Python, in a cache folder of its own: scores that earlier tests left must not stand in for COMET."""
    assert COMET.installed(), "the environment of COMET is not there: run `make test-comet`"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "environments").symlink_to(COMET.folder.parent)
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    return worker_command()[0]


def _offline() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


def _made(python: str, folder: Path, kind: str) -> list[float]:
    rows = [{"src": pair.source, "mt": TEXTS[pair.id], "ref": pair.target} for pair in PAIRS]
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    script = Path(__file__).parents[1] / "support" / "comet_checkpoint.py"
    arguments = [python, str(script), str(folder / "model"), kind, str(folder / "rows.json"), str(folder / "out.json")]
    done = subprocess.run(arguments, env=_offline(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads((folder / "out.json").read_text("utf-8")))


@pytest.mark.parametrize("kind", ["regression", "kiwi", "xcomet"])
def test_scores_are_comets_own(python: str, kind: str, tmp_path: Path) -> None:
    expected = _made(python, tmp_path, kind)
    assert len(set(expected)) == len(PAIRS)
    opened = open_metric({"kind": "comet", "path": str(tmp_path / "model"), "batch_size": 2, "device": "cpu"})
    rows = score_all({"x": TEXTS}, PAIRS, "demo", [opened], n_bootstrap=50)
    metric = opened.metric
    assert metric.score([TEXTS[pair.id] for pair in PAIRS], PAIRS) == pytest.approx(expected, abs=1e-5)  # type: ignore[attr-defined]
    metric.close()
    assert rows[0].score == pytest.approx(sum(expected) / 4, abs=1e-5)
    if kind == "regression":
        for name, lines in (("s", [pair.source for pair in PAIRS]), ("r", [pair.target for pair in PAIRS])):
            (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
        (tmp_path / "t").write_text("\n".join(TEXTS[pair.id] or "." for pair in PAIRS) + "\n", "utf-8")
        files = [part for name in ("s", "t", "r") for part in (f"-{name}", str(tmp_path / name))]
        command = [python, "-m", "comet.cli.score", *files, "--gpus", "0", "--quiet", "--model"]
        checkpoint = str(tmp_path / "model" / "checkpoints" / "model.ckpt")
        done = subprocess.run([*command, checkpoint], env=_offline(), capture_output=True, text=True, check=True)
        shown = [float(line.rsplit("score:", 1)[1]) for line in done.stdout.splitlines() if "Segment" in line]
        assert shown[:3] == pytest.approx(expected[:3], abs=2e-3)  # the command line scores in half precision


def test_a_checkpoint_that_is_none_is_one_sentence(python: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").write_bytes(b"nothing")
    (tmp_path / "hparams.yaml").write_text("class_identifier: regression_metric\n", "utf-8")
    opened = open_metric({"kind": "comet", "path": str(tmp_path)})
    with pytest.raises(EngineError, match=r"^COMET: \w+: ") as caught:
        score_all({"x": TEXTS}, PAIRS, "demo", [OpenMetric("comet", opened.metric)], n_bootstrap=50)
    opened.metric.close()
    assert "\n" not in str(caught.value)
