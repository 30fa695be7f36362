"""Checkpoints of models that transformers rearranges on loading, files of bounded size, and the card of a merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import families
from builders import tiny_tokenizer
from lingraft.core.errors import UsageError
from lingraft.merging.base import MERGERS
from lingraft.merging.sources import Checkpoint
from lingraft.merging.stream import merged
from lingraft.merging.strength import write_at_strength
from lingraft.merging.weight_files import INDEX, shard_bytes
from lingraft.models.architectures import open_weights
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import grafted
from lingraft.models.merge_in_memory import merged as held
from merging_support import write_graft
from vocabulary_support import load_base, save_base

LONG = ["mixtral", "qwen3_moe", "granitemoe", "glm4_moe", "minimax", "lfm2_moe", "jamba", "llama4_text", "gpt_oss"]
FAMILIES = ["deepseek_v3", *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Return what the files of a model hold."""
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def models(family: str, root: Path) -> list[ModelFiles]:
    """Write a base and two models of it, all numbers of which were moved."""
    tokenizer = tiny_tokenizer("smollm2")
    model: Any = families.build(family, vocab_size=len(tokenizer))
    made = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(root / str(seed), max_shard_size="200KB")
        tokenizer.save_pretrained(root / str(seed))
        made.append(find_model(str(root / str(seed))))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_has_the_tensors_of_its_base(family: str, tmp_path: Path) -> None:
    base, one, other = models(family, tmp_path)
    merger = MERGERS.create({"kind": "task_arithmetic", "scale": 0.5})
    done = merged(merger, base, [one, other], tmp_path / "out", form="checkpoint")
    assert done.max_logit_difference < 1e-4
    found, of_base = stored(tmp_path / "out"), stored(base.folder)
    ones, others = stored(one.folder), stored(other.folder)
    assert found.keys() == of_base.keys()
    for name, value in of_base.items():
        expected = value + 0.5 * (ones[name] - value) + 0.5 * (others[name] - value)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=name)
    assert Checkpoint(base).rearranged == (family not in ("llama4_text", "gpt_oss"))


@pytest.mark.long
def test_a_graft_on_such_a_model_is_merged_too(tmp_path: Path) -> None:
    base, one, _ = models("deepseek_v3", tmp_path)
    graft = write_graft(base, tmp_path / "graft", 1, "full")
    done = merged(MERGERS.create({"kind": "linear"}), base, [graft, one], tmp_path / "out")
    assert (done.form, done.max_logit_difference < 1e-4) == ("graft", True)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model(input_ids=torch.arange(5, 60)[None]).logits)


@pytest.mark.long
def test_a_whole_layer_with_what_is_no_weight_is_used_as_any_other(tmp_path: Path) -> None:
    base, _, _ = models("deepseek_v3", tmp_path)
    graft = write_graft(base, tmp_path / "graft", 1, "full")
    write_at_strength(load_base(base), graft, 1.0, tmp_path / "same")
    with grafted(load_base(base), graft) as on:
        expected = logits(on.model)
    with grafted(load_base(base), tmp_path / "same") as on:
        torch.testing.assert_close(logits(on.model), expected)
    model = load_base(base).model
    with held(model, graft):
        torch.testing.assert_close(logits(model), expected)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("base"), tied=False)


def test_weights_are_in_files_of_bounded_size_and_a_killed_one_goes_on(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graft = write_graft(files, tmp_path / "graft", 1, "lora")
    merger = MERGERS.create({"kind": "linear"})
    merged(merger, files, [graft], tmp_path / "one", form="checkpoint")
    assert not (tmp_path / "one" / INDEX).exists()
    merged(merger, files, [graft], tmp_path / "several", form="checkpoint", shard=40_000)
    names = sorted(path.name for path in (tmp_path / "several").glob("*.safetensors"))
    assert len(names) > 2
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    whole, parted = stored(tmp_path / "one"), stored(tmp_path / "several")
    assert whole.keys() == parted.keys()
    assert all(torch.equal(parted[name], value) for name, value in whole.items())
    index = json.loads((tmp_path / "several" / INDEX).read_text("utf-8"))
    assert index["metadata"]["total_size"] == sum(value.numel() * value.element_size() for value in whole.values())
    assert set(index["weight_map"]) == set(whole)
    loaded = open_weights(tmp_path / "several")
    torch.testing.assert_close(loaded.get_parameter("lm_head.weight").data, whole["lm_head.weight"])

    class Killed(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == total - 2:
            raise Killed

    with pytest.raises(Killed):
        merged(merger, files, [graft], tmp_path / "again", form="checkpoint", shard=40_000, progress=stop)
    merged(merger, files, [graft], tmp_path / "again", form="checkpoint", shard=40_000)
    for name in [*names, INDEX, "README.md"]:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()


def test_the_card_says_what_it_was_made_of_and_how_it_is_asked(files: ModelFiles, tmp_path: Path) -> None:
    graft = write_graft(files, tmp_path / "graft", 1, "lora")
    merged(MERGERS.create({"kind": "ties", "density": 0.5}), files, [graft, "base"], tmp_path / "out", "checkpoint")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "base_model_relation: merge" in card or "base_model:" not in card
    assert "- `graft`\n- `base` (the base itself)" in card
    assert '"density": 0.5' in card
    assert "by `ties` (arXiv 2306.01708), in this order" in card
    assert str(tmp_path) not in card
    program = card.split("```python\n")[1].split("```")[0]
    compile(program, "card", "exec")
    assert '"content": "1 ..."' in program  # as the graft is asked


@pytest.mark.parametrize(("size", "found"), [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2**31), ("12", 12)])
def test_sizes_of_files_are_read(size: str, found: int) -> None:
    assert shard_bytes(size) == found


@pytest.mark.parametrize("size", ["", "0GB", "5XB", "big", "-1GB"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match="is no size of a file; write it as 5GB"):
        shard_bytes(size)
