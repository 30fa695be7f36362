"""Merged copies against base + adapter, and the check that a graft fits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lingraft.core.environment import BESIDE, cache_folder
from lingraft.core.errors import ModelError
from lingraft.models.files import find_model
from lingraft.models.graft import check_fit
from lingraft.models.loading import LoadedModel, load_model
from lingraft.models.merged_copy import KEPT, merged_copy
from models_support import tiny_on_disk, with_adapter


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    return tiny_on_disk(tmp_path / "base")


def saved(base: LoadedModel, folder: Path, seed: int) -> Path:
    with_adapter(load_model(base.files, "fp32").model, seed=seed).save_pretrained(str(folder))
    return folder


def test_the_copy_is_base_plus_scaled_product_in_the_type_asked_for(base: LoadedModel, tmp_path: Path) -> None:
    graft = saved(base, tmp_path / "graft", 1)
    folder = merged_copy(base.files, graft, torch.bfloat16, "it is a test")
    merged = load_file(folder / "model.safetensors")
    adapter = load_file(graft / "adapter_model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{x}.weight"].double() for x in "AB")
    weight = base.model.get_submodule(name).weight.double() + (8 / 4) * b @ a  # PEFT's default alpha is 8, the rank 4
    assert merged[f"{name}.weight"].dtype == torch.bfloat16
    torch.testing.assert_close(merged[f"{name}.weight"].double(), weight, rtol=2**-8, atol=1e-6)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.bfloat16
    assert (folder / "tokenizer.json").exists()


def test_a_copy_is_made_once_and_old_ones_are_removed(
    base: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        grafts = [saved(base, tmp_path / f"graft{i}", i) for i in range(KEPT + 1)]
        copies = [merged_copy(base.files, graft, torch.float32, "it is a test") for graft in grafts]
        assert len(set(copies)) == len(grafts) == len(caplog.messages)
        assert "because it is a test" in caplog.messages[0]
        assert not copies[0].exists()
        assert set((cache_folder() / "merged").iterdir()) == set(copies[1:])
        written = copies[-1].joinpath("model.safetensors").stat().st_mtime_ns
        assert merged_copy(base.files, grafts[-1], torch.float32, "it is a test") == copies[-1]
        assert copies[-1].joinpath("model.safetensors").stat().st_mtime_ns == written
    assert len(caplog.messages) == len(grafts)


def test_workers_of_a_bench_leave_each_other_their_copies(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BESIDE, "2")
    grafts = [saved(base, tmp_path / f"graft{i}", 10 + i) for i in range(KEPT + 1)]
    copies = [merged_copy(base.files, graft, torch.float32, "it is a test") for graft in grafts]
    assert all(copy.exists() for copy in copies)


def test_a_graft_of_another_shape_or_damaged_does_not_fit(base: LoadedModel, tmp_path: Path) -> None:
    fitting = saved(base, tmp_path / "fits", 1)
    check_fit(base.files, base.renderer, fitting)
    other = tiny_on_disk(tmp_path / "other", seed=1)
    wider = with_adapter(other.model)
    for parameter in wider.parameters():
        if parameter.shape[0] == 4:  # the first factors, of rank 4
            parameter.data = torch.cat([parameter.data, parameter.data], dim=1)
    wider.save_pretrained(str(tmp_path / "wider"))
    with pytest.raises(ModelError, match="does not fit the base"):
        check_fit(base.files, base.renderer, tmp_path / "wider")
    (fitting / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="damaged"):
        check_fit(base.files, base.renderer, fitting)


def test_a_copy_that_computes_something_else_is_not_kept(base: LoadedModel, tmp_path: Path) -> None:
    with torch.no_grad():
        base.model.model.layers[0].mlp.down_proj.weight *= 1e8  # above the largest float16
    base.model.save_pretrained(base.files.folder)
    files = find_model(str(base.files.folder))
    graft = saved(base, tmp_path / "graft", 1)
    with pytest.raises(ModelError, match=r"in float16 .* predicts something else .* set `engine: transformers`"):
        merged_copy(files, graft, torch.float16, "it is a test")
    assert merged_copy(files, graft, torch.bfloat16, "it is a test").exists()
