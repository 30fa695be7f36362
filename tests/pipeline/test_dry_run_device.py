"""Memory and rate of devices in a dry run, against data sheets, counts by hand and a real model's parameters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, StoreError, UsageError
from lingraft.engines.vllm import VllmEngine
from lingraft.pipeline.dry_run import describe, estimate
from lingraft.pipeline.dry_run_device import (
    GPUS,
    check_room,
    device_of,
    disk_bytes,
    find_gpu,
    memory_gib,
    size_of,
    verdict,
    weights_gib,
)
from lingraft.recipe.files import check_parts, doubts, missing_parts
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.recipe.schema import Recipe

QWEN = {"parameters": 7.616e9, "hidden_size": 3584, "layers": 28, "vocabulary": 152064}
"""Qwen2.5-7B-Instruct, by its config.json and the sizes of its files."""


def recipe(train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    pair = {"source": "de", "target": "en"}
    values: dict[str, Any] = {
        "name": "x",
        "model": "org/qwen",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", **pair},
            "test": {"path": "starter:test.de-en.jsonl", **pair},
        },
        "stages": [{"method": "vanilla", "train": train or {}}],
        "evaluate": {"retention": {"suites": []}},
        "expected": QWEN,
    }
    return parse_recipe({**values, **changes}, "x", Path("/"))


def memory(**train: Any) -> float:
    made = recipe(train)
    size = size_of(made)
    assert size is not None
    return memory_gib(made, size)


def test_a_base_in_4_bits_takes_a_quarter_but_for_its_embeddings() -> None:
    size = size_of(recipe())
    assert size is not None
    assert weights_gib(size, "auto") == pytest.approx(7.616e9 * 2 / 2**30)
    assert weights_gib(size, "fp32") == pytest.approx(7.616e9 * 4 / 2**30)
    embeddings = 2 * 152064 * 3584
    # 4.127 bits a weight: QLoRA, arXiv 2305.14314, section 3.
    expected = (embeddings * 2 + (7.616e9 - embeddings) * 4.127 / 8) / 2**30
    assert weights_gib(size, "nf4") == pytest.approx(expected, rel=1e-3)
    saved = memory() - memory(precision="nf4")
    assert saved == pytest.approx(1.05 * (weights_gib(size, "auto") - expected), rel=1e-3)
    assert memory(precision="nf4", gradient_checkpointing=True) < 9 < memory(gradient_checkpointing=True) < 18


@pytest.mark.parametrize(
    ("train", "gpu", "said"),
    [
        ({}, "rtx4090", r"^does not fit 24 GB; fits with gradient_checkpointing: true \(17 GiB\)$"),
        ({"gradient_checkpointing": True}, "RTX 4090", "^fits 24 GB$"),
        ({}, "h100", "^fits 80 GB$"),
        ({}, "rtx4080", r"^does not fit 16 GB; fits with precision: nf4 and gradient_checkpointing: true \(8 GiB\)$"),
        ({"precision": "nf4", "gradient_checkpointing": True}, "rtx4080", "^fits 16 GB$"),
    ],
)
def test_the_dry_run_ends_with_what_fits(train: dict[str, Any], gpu: str, said: str) -> None:
    made = recipe(train)
    size = size_of(made)
    assert size is not None
    found = verdict(made, size, device_of(None, gpu))
    assert re.search(said, found), found
    assert found in describe(made, Path("runs/x"), gpu=gpu)


def test_what_fits_nowhere_is_said() -> None:
    large = recipe(expected={**QWEN, "parameters": 7e10, "hidden_size": 8192, "layers": 80})
    size = size_of(large)
    assert size is not None
    found = verdict(large, size, device_of(None, "rtx4090"))
    assert found.startswith("does not fit 24 GB, nor with less at a time and the base in 4 bits (")


@pytest.mark.parametrize(
    ("name", "memory", "tflops"),
    [("rtx4090", 24, 165.2), ("NVIDIA GeForce RTX 4090", 24, 165.2), ("A100-80GB", 80, 312), ("h200", 141, 989)],
)
def test_cards_are_found_by_their_names_and_have_the_figures_of_their_data_sheets(
    name: str, memory: float, tflops: float
) -> None:
    card = find_gpu(name)
    assert (card.memory, card.tflops) == (memory, tflops)


def test_the_time_is_that_of_the_card() -> None:
    slow, fast = (estimate(recipe(), gpu).hours for gpu in ("rtx4090", "h100"))
    assert slow / fast == pytest.approx(GPUS["h100"].tflops / GPUS["rtx4090"].tflops)
    with pytest.raises(UsageError, match=r"there is no GPU 'rtx4099' in the table; did you mean 'rtx4090'"):
        estimate(recipe(), "rtx4099")


def test_the_embeddings_of_a_model_at_hand_are_counted(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    model = tiny_llama(tokenizer, seed=3)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    size = size_of(recipe(model=str(tmp_path / "m")))
    assert size is not None
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert size.embeddings == model.get_input_embeddings().weight.numel()  # tied


def test_another_model_has_not_the_size_of_the_recipes_own() -> None:
    other = load_recipe("radis-wmt22", ["model=org/unknown"])
    assert other.expected is not None
    assert other.expected.pairs == 113386  # of the data, which are the same
    assert size_of(other) is None
    with pytest.raises(DataError, match=r"the size of org/unknown is not known; add an `expected:` section"):
        describe(other, Path("runs/x"))
    given = load_recipe("radis-wmt22", ["model=org/unknown", "expected.parameters=1e9", "expected.layers=9"])
    size = size_of(given)
    assert size is not None
    assert (size.parameters, size.layers) == (1e9, 9)


def test_nothing_is_done_in_one_minute_by_default() -> None:
    result = estimate(recipe(model="smollm2-135m-instruct", expected=None))
    assert result.hours_beside * 3600 > 60  # imports, hashes, loading, scoring
    assert "load, check, score" in describe(recipe(), Path("runs/x"))


@pytest.mark.parametrize(("kind", "rate", "words"), [("lora", 2.0, "destroy"), ("lora", 1e-9, "next to nothing")])
def test_learning_rates_that_are_slips_are_told(kind: str, rate: float, words: str) -> None:
    stages = [{"method": "vanilla", "tuner": kind, "train": {"learning_rate": rate}}]
    made = recipe(stages=stages)
    (doubt,) = doubts(made)
    assert words in doubt
    assert f"Warning: {doubt}" in describe(made, Path("runs/x"))
    assert doubts(recipe()) == []


def test_an_engine_that_is_not_installed_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VllmEngine, "missing", classmethod(lambda cls: "vllm is not installed; run pip"))
    made = recipe(engine="vllm", evaluate={"retention": {"suites": []}, "engine": "transformers"})
    assert missing_parts(made) == ["engine: engine 'vllm': vllm is not installed; run pip"]
    with pytest.raises(UsageError, match="engine 'vllm': vllm is not installed"):
        check_parts(made)
    assert "Missing on this machine: engine: engine 'vllm'" in describe(made, Path("runs/x"))
    assert missing_parts(recipe()) == []


@pytest.mark.parametrize("tuner", ["full", {"kind": "lora", "rank": 16}])
def test_too_little_disk_is_told_with_what_is_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: Any
) -> None:
    made = recipe(stages=[{"method": "vanilla", "tuner": tuner}])
    size = size_of(made)
    assert size is not None
    if tuner == "full":
        learnt = 4 * 7.616e9
    else:  # Qwen2.5-7B's layers: q and o, k and v with 512 outputs, three products with an inner width of 18944
        widths = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
        learnt = 4 * 16 * 28 * widths
    assert disk_bytes(made, size) == pytest.approx(8 * learnt, rel=0.25)  # graft, published one, two checkpoints of 3
    scaled = made.model_copy(update={"evaluate": made.evaluate.model_copy(update={"scales": [0.5, 0.75]})})
    assert disk_bytes(scaled, size) == pytest.approx(10 / 8 * disk_bytes(made, size))  # a copy at each scale
    needed = disk_bytes(made, size)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(needed) + 1))
    check_room(made, tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(needed / 2)))
    free = f"{needed / 2 / 2**30:,.1f} GiB" if tuner == "full" else f"{needed / 2 / 2**20:,.1f} MiB"
    said = rf"needs about {needed / 2**30:,.1f} GiB more .*, and {free} are free on its disk"
    with pytest.raises(StoreError, match=said):
        check_room(made, tmp_path / "run")
    assert re.search(f"Disk: {re.escape(str(tmp_path / 'run'))} needs about", describe(made, tmp_path / "run"))
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "there").open("wb") as handle:
        handle.truncate(int(needed / 2) + 2)  # what is there already is not needed again
    check_room(made, tmp_path / "run")
