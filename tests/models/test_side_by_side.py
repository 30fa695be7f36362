"""Several grafts on one base in memory: each computes as it does alone, in any order, and the base as it did before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.core.errors import ModelError
from lingraft.models.adapter import take_off
from lingraft.models.files import ModelFiles
from lingraft.models.graft import GraftInfo, grafted, write_info
from lingraft.models.side_by_side import SideBySide
from lingraft.training.tuners import TUNERS, Tuner, TunerInputs
from vocabulary_support import load_base, make_graft

IDS = torch.arange(5, 90)[None]
TUNED: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 3, "dropout": 0},
    "dora": {"kind": "lora", "rank": 3, "dropout": 0, "dora": True},
    "rows": {"kind": "lora", "rank": 3, "dropout": 0, "embeddings": "new"},
    "sparse": {"kind": "sparse", "mask": "random", "density": 0.1},
}


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def tuned(files: ModelFiles, folder: Path, seed: int, tuner: dict[str, Any]) -> Path:
    """Write a graft whose numbers were all moved at random."""
    made: Tuner = TUNERS.create(tuner)
    model, inputs = load_base(files).model, TunerInputs(seed=seed, new_ids=range(100, 110))
    adapted = made.apply(model, inputs, made.select(model, inputs))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    made.save(adapted, folder)
    take_off(adapted)
    info = {"method": "m", "instruction": "{source}", "directions": [], "base_sha256": files.sha256}
    write_info(folder, GraftInfo.model_validate(info))
    return folder


def test_each_computes_as_it_does_alone_whatever_was_on_before(tmp_path: Path) -> None:
    files, grown = make_graft(tmp_path)  # a vocabulary of its own, and whole layers
    folders: dict[str, Path | None] = {"base": None, "grown": grown}
    for seed, (name, tuner) in enumerate(TUNED.items()):
        folders[name] = tuned(files, tmp_path / name, seed, tuner)
    alone = {}
    for name, folder in folders.items():
        with grafted(load_base(files), folder) as on:
            alone[name] = logits(on.model), on.renderer.count("ประเทศไทย"), on.new_ids, on.model.config.vocab_size
    base = load_base(files)
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    with SideBySide.of(base, folders) as several:
        for name in (*folders, *reversed(folders), "sparse", "base", "sparse", "grown", "lora", "grown"):
            several.put_on(name)
            on = several.systems[name]
            expected, tokens, new_ids, size = alone[name]
            assert torch.equal(logits(on.model), expected), name
            assert (on.renderer.count("ประเทศไทย"), on.new_ids, on.model.config.vocab_size) == (tokens, new_ids, size)
        several.put_on("sparse")  # what stands in the base's weights then is taken out at the end
        logits(several.systems["sparse"].model)
    after = base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert torch.equal(logits(base.model), alone["base"][0])
    assert {name: len(found[0][0, 0]) for name, found in alone.items()}["grown"] > len(alone["base"][0][0, 0])


def test_the_base_is_as_it_was_where_one_cannot_be_put_on(tmp_path: Path) -> None:
    files, grown = make_graft(tmp_path)
    (tmp_path / "none").mkdir()
    base = load_base(files)
    expected = logits(base.model)
    with pytest.raises(ModelError), SideBySide.of(base, {"grown": grown, "none": tmp_path / "none"}):
        pass
    assert torch.equal(logits(base.model), expected)
    with grafted(base, grown):  # nothing of the first is left on it
        pass
