"""Sums of grafts against the sum of their changes; and what cannot be added, or read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lingraft as lg
from lingraft.core.errors import ModelError
from lingraft.models.adapter import read_parts, take_off
from lingraft.models.compose import compose_grafts
from lingraft.models.files import ModelFiles
from lingraft.models.graft import GraftInfo, grafted, read_info, write_info
from lingraft.models.merge_in_memory import merged
from lingraft.training.tuners import TUNERS, Tuner, TunerInputs
from vocabulary_support import load_base, save_base

IDS = torch.arange(5, 90)[None]
NEW = range(100, 110)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("base"), tied=False)


def graft(files: ModelFiles, folder: Path, seed: int, base: str = "", **tuner: Any) -> Path:
    """Write a graft whose numbers were all moved at random."""
    made: Tuner = TUNERS.create(tuner)
    model, inputs = load_base(files).model, TunerInputs(seed=seed, new_ids=NEW)
    adapted = made.apply(model, inputs, made.select(model, inputs))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    made.save(adapted, folder)
    take_off(adapted)
    info = {"method": f"m{seed}", "instruction": f"{seed} {{source}}", "base_id": str(files.folder)}
    directions = [{"source": "en", "target": "th"}, {"source": "en", "target": f"x{seed}"}]
    write_info(
        folder,
        GraftInfo.model_validate({**info, "base_sha256": base or files.sha256, "directions": directions}),
    )
    return folder


SPARSE = {"kind": "sparse", "mask": "random", "density": 0.1}
LORA = {"kind": "lora", "rank": 3, "dropout": 0}
ROWS = {**LORA, "embeddings": "new"}
SOME = {"kind": "full", "layers": "first 1"}
OTHERS = {"kind": "full", "layers": "last 1"}


@pytest.mark.parametrize(
    ("one", "other"),
    [(SPARSE, SPARSE), (LORA, {**LORA, "rank": 5}), (ROWS, LORA), (SOME, OTHERS), (SOME, LORA), (LORA, SOME)],
)
def test_the_changes_of_both_are_added(
    files: ModelFiles, tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    folders = [graft(files, tmp_path / "a", 1, **one), graft(files, tmp_path / "b", 2, **other)]
    model = load_base(files).model
    start = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    changes = {name: torch.zeros_like(p) for name, p in start.items()}
    for folder in folders:
        with merged(model, folder):
            for name, parameter in model.named_parameters():
                changes[name] += parameter.detach().double() - start[name]
    compose_grafts(folders, tmp_path / "sum")
    with merged(model, tmp_path / "sum"):
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.double(), start[name] + changes[name], rtol=0, atol=1e-6)
        expected = logits(model)
    info = read_info(tmp_path / "sum")
    assert info.instruction == "2 {source}"
    assert [(one.source, one.target) for one in info.directions] == [("en", "th"), ("en", "x1"), ("en", "x2")]
    with grafted(load_base(files), tmp_path / "sum") as on:
        torch.testing.assert_close(logits(on.model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (SOME, SOME, r"overlap: both replace .*model\.layers\.0"),
        (ROWS, ROWS, r"overlap: both replace .*(embed_tokens|lm_head)"),
        (ROWS, {**LORA, "embeddings": "all"}, r"overlap: both replace .*(embed_tokens|lm_head)"),
        (SPARSE, LORA, "sparse changes and other ones cannot be in one adapter"),
        ({**LORA, "dora": True}, LORA, "DoRA"),
    ],
)
def test_what_is_no_sum_is_refused(
    files: ModelFiles, tmp_path: Path, one: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    folders = [graft(files, tmp_path / "a", 1, **one), graft(files, tmp_path / "b", 2, **other)]
    with pytest.raises(ModelError, match=message):
        compose_grafts(folders, tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


def test_grafts_of_different_bases_are_refused(files: ModelFiles, tmp_path: Path) -> None:
    folders = [graft(files, tmp_path / "a", 1, **SPARSE), graft(files, tmp_path / "b", 2, "0" * 64, **SPARSE)]
    with pytest.raises(ModelError, match="were trained on different bases"):
        compose_grafts(folders, tmp_path / "sum")


@pytest.mark.long
def test_a_sum_opens_from_python_and_exports(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    folders = [graft(files, tmp_path / "a", 1, **SPARSE), graft(files, tmp_path / "b", 2, **SPARSE)]
    with lg.open_graft(folders, model=files.folder, quiet=True) as opened:
        assert opened.info is not None
        assert opened.info.method == "m1 & m2"
        assert opened.graft is not None
        assert len(opened.translate(["Guten Tag."], source="en", target="th")) == 1
        again = lg.open_graft(folders, model=files.folder, quiet=True).graft
        assert again == opened.graft  # made once
    found = lg.export(folders, tmp_path / "whole", model=str(files.folder), dtype="fp32")
    assert found["max_logit_difference"] < 1e-4


def test_places_of_strangers_are_looked_at(files: ModelFiles, tmp_path: Path) -> None:
    folder = graft(files, tmp_path / "a", 1, **SPARSE)
    path, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    original, weights, info = json.loads(config.read_text("utf-8")), load_file(path), read_info(folder)
    layer = sorted(name.removesuffix(".shira_indices") for name in weights if name.endswith(".shira_indices"))[0]
    places, values = weights[f"{layer}.shira_indices"], weights[f"{layer}.shira_weight"]

    def changed(**tensors: torch.Tensor) -> None:
        save_file({**weights, **{f"{layer}.{name}": tensor.contiguous() for name, tensor in tensors.items()}}, path)
        write_info(folder, info)

    for tensors, message in (
        ({"shira_indices": places - 1000}, "a place below 0"),
        ({"shira_indices": places + 1000}, "has another shape than the changes"),
        ({"shira_indices": places[:, :-1]}, "places for"),
        ({"shira_indices": places.float()}, "is of type F32"),
        ({"shira_weight": values.clone().fill_(torch.inf)}, "not finite"),
    ):
        changed(**tensors)
        with pytest.raises(ModelError, match=message), grafted(load_base(files), folder):
            pass
    changed(shira_indices=places.flip(1), shira_weight=values.flip(0))  # in another order: the same
    found = read_parts(folder).sparse[layer.removeprefix("base_model.model.")]
    rows, columns = found.places.long()
    dense = torch.zeros(200, 200).index_put((rows, columns), found.values)
    expected = torch.zeros(200, 200).index_put(tuple(places.long()), values, accumulate=True)
    assert torch.equal(dense, expected)
    config.write_text(json.dumps({**original, "modules_to_save": ["lm_head"]}), "utf-8")
    write_info(folder, info)
    with pytest.raises(ModelError, match="modules_to_save"):
        read_parts(folder)
