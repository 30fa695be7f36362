"""A run whose systems mix methods, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.row_files import RenderedRows
from lingraft.store.artefacts import facts

SHARE = 0.3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of radis and of vanilla, each with recovery beside it."""
    folder = tmp_path_factory.mktemp("mixture")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    prompts = [{"id": f"p{i}", "prompt": f"Tell me {i} things about harbours."} for i in range(60)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    source = {"source": "de", "target": "en"}
    beside = [{"method": "recovery", "share": SHARE, "params": {"max_answer_tokens": 24, "temperature": 1.0}}]
    train = {"tokens_per_step": 512, "micro_tokens": 512, "precision": "fp32"}
    values: dict[str, Any] = {
        "name": "mixture",
        "model": str(folder / "model"),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 24, **source},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **source},
        },
        "prompts": {"path": str(folder / "prompts.jsonl")},
        "stages": [
            {
                "method": "radis",
                "params": {"max_rationale_tokens": 8, "filters": [], "temperature": 1.0},
                "beside": beside,
                "tuner": {"kind": "lora", "rank": 2},
                "train": train,
            }
        ],
        "compare": [
            {"method": "vanilla", "beside": beside},
            {
                "method": "radis",
                "name": "soft",
                "params": {"max_rationale_tokens": 8, "filters": [], "targets": "soft", "top_k": 4},
            },
        ],
        "evaluate": {
            "bootstrap": 100,
            "translation": {"max_new_tokens": 8},
            "retention": {"suites": [{"kind": "self", "max_prompts": 4, "max_new_tokens": 8, "kl_max_new_tokens": 8}]},
        },
    }
    run(parse_recipe(values, "test", Path("/")), folder / "run", Reporter(quiet=True))
    return folder / "run"


@pytest.mark.parametrize("system", ["radis+recovery", "vanilla+recovery"])
def test_each_method_has_its_share_of_the_tokens(finished: Path, system: str) -> None:
    (folder,) = finished.glob(f"train-{system}-*")
    told = facts(folder)
    replayed, own = told["recovery_tokens"], told[f"{system.partition('+')[0]}_tokens"]
    assert told["tokens"] == replayed + own
    # The last answer goes over the share by less than its own length (24 and its prompt).
    assert SHARE <= replayed / (replayed + own) < SHARE + 70 / own


def test_systems_that_ask_the_base_the_same_share_its_answers(finished: Path) -> None:
    assert sorted(path.name.rpartition("-")[0] for path in finished.glob("synthesis-*")) == [
        "synthesis-radis",
        "synthesis-radis",  # with distributions, for the soft targets
        "synthesis-recovery",
    ]


def test_soft_targets_reach_training_with_their_distributions(finished: Path) -> None:
    (folder,) = finished.glob("rows-soft-*")
    rows = RenderedRows(folder / "rows")
    soft = [row for row in rows if row.teacher is not None]
    assert len(soft) > len(rows) / 2
    for row in soft:
        assert row.teacher is not None
        assert row.teacher.ids.shape == row.teacher.logprobs.shape == (len(row.teacher.positions), 4)
        assert (np.diff(row.teacher.logprobs, axis=1) <= 0).all()
        assert np.exp(row.teacher.logprobs.astype(float)).sum(axis=1).max() < 1.001
        roles = {row.roles[row.span_of[position]] for position in row.teacher.positions}
        assert roles == {"rationale"}
    (trained,) = finished.glob("train-soft-*")
    losses = [json.loads(line)["loss"] for line in (trained / "losses.jsonl").open()]
    assert np.isfinite(losses).all()


def test_prompts_that_are_rehearsed_are_not_those_retention_is_measured_on(finished: Path) -> None:
    (data,) = finished.glob("data-*")
    halves = [{json.loads(line)["id"] for line in (data / name).open()} for name in ("replay.jsonl", "retention.jsonl")]
    assert halves[0]
    assert not halves[0] & halves[1]
    (answers,) = finished.glob("synthesis-recovery-*")
    asked = {json.loads(line)["id"] for part in (answers / "parts").iterdir() for line in part.open()}
    assert asked == {f"recovery:{id_}" for id_ in halves[0]}


def test_card_and_graft_name_all_methods(finished: Path) -> None:
    card = (finished / "README.md").read_text("utf-8")
    assert "radis+recovery" in card
    assert "2405.13923" in card
    assert "2410.13944" in card
    assert json.loads((finished / "graft" / "lingraft.json").read_text("utf-8"))["method"] == "radis+recovery"
