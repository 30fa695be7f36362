"""A whole run by two processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.pipeline.run import run
from lingraft.recipe.load import load_recipe
from nursery import ran


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    pairs = {"source": "de", "target": "en"}
    values = {
        "name": "tiny",
        "model": str(folder / "model"),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 24, **pairs},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 6, **pairs},
        },
        "prompts": {"path": "starter:prompts.jsonl", "limit": 12},
        "stages": [
            {
                "method": "radis",
                "params": {"max_rationale_tokens": 8, "filters": []},
                # One type and no dropout: sums over processes then differ in rounding alone.
                "train": {"precision": "fp32", "tokens_per_step": 800, "micro_tokens": 400, "learning_rate": 1e-2},
                "tuner": {"kind": "lora", "rank": 4, "dropout": 0},
            }
        ],
        "evaluate": {
            "translation": {"max_new_tokens": 8},
            "retention": {"suites": [{"kind": "self", "max_new_tokens": 8, "kl_max_new_tokens": 8}]},
            "bootstrap": 100,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder / "recipe.yaml"


LAUNCHED = """
import runpy, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def command():
    try:
        runpy.run_module("lingraft", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise

config = LaunchConfig(
    min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    max_restarts=0, start_method="fork",
)
elastic_launch(config, command)()
"""


def launched(recipe: Path, out: Path) -> None:
    """Run the recipe in two processes, by the launcher that `torchrun --standalone` is, but as forks of this one."""
    done = ran(LAUNCHED, "run", recipe, "--out", out)
    assert done.returncode == 0, done.stderr[-2000:]


def found(out: Path) -> tuple[list[float], dict[str, float]]:
    """Return the losses of a finished run and what it measured."""
    (losses,) = out.glob("train-radis-*/losses.jsonl")
    card = json.loads((out / "scorecard.json").read_text("utf-8"))
    scores = {f"{row['system']} {row['metric']}": row["score"] for row in card["translation"] + card["general"]}
    assert not list(out.glob("*.partial"))
    return [json.loads(line)["loss"] for line in losses.read_text("utf-8").splitlines()], scores


def test_two_processes_end_as_one_does(recipe: Path) -> None:
    alone, both = recipe.parent / "one", recipe.parent / "two"
    run(load_recipe(str(recipe)), alone, Reporter(quiet=True))
    launched(recipe, both)
    losses, scores = found(alone)
    of_both, measured = found(both)
    assert len(losses) > 3
    assert of_both == pytest.approx(losses, rel=1e-4)
    assert measured == pytest.approx(scores, rel=1e-2)
