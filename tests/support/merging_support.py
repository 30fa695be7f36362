"""Grafts of every kind on a tiny base, and what merging them has to give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lingraft.merging.base import Merger, Weight
from lingraft.models.adapter import take_off
from lingraft.models.files import ModelFiles
from lingraft.models.graft import GraftInfo, write_info
from lingraft.models.growth import extended
from lingraft.models.merge_in_memory import merged as held
from lingraft.models.vocabulary import Vocabulary
from lingraft.training.tuners import TUNERS, Tuner, TunerInputs
from vocabulary_support import load_base

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 3, "dropout": 0},
    "rslora": {"kind": "lora", "rank": 4, "dropout": 0, "rslora": True},
    "dora": {"kind": "lora", "rank": 3, "dropout": 0, "dora": True},
    "rows": {"kind": "lora", "rank": 3, "dropout": 0, "embeddings": "new"},
    "embeddings": {"kind": "lora", "rank": 3, "dropout": 0, "embeddings": "all"},
    "sparse": {"kind": "sparse", "mask": "random", "density": 0.1},
    "full": {"kind": "full"},
    "layers": {"kind": "full", "layers": "first 1"},
}
NEW = range(100, 110)


def write_graft(
    files: ModelFiles, folder: Path, seed: int, kind: str, vocabulary: Path | None = None, **about: Any
) -> Path:
    """Write a graft whose numbers were all moved at random.

    Args:
        files: the base.
        folder: of the graft.
        seed: of the numbers.
        kind: one of `KINDS`.
        vocabulary: folder of that of the graft, if it has one of its own.
        about: what `lingraft.json` says instead of the usual.
    """
    made: Tuner = TUNERS.create(KINDS[kind])
    with extended(load_base(files), Vocabulary.of(vocabulary) if vocabulary else None) as grown:
        inputs = TunerInputs(seed=seed, new_ids=grown.new_ids or NEW)
        adapted = made.apply(grown.model, inputs, made.select(grown.model, inputs))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        made.save(adapted, folder)
        take_off(adapted)
    if vocabulary:
        Vocabulary.of(vocabulary).copy_to(folder)
    values = {
        "method": f"m{seed}",
        "instruction": f"{seed} {{source}}",
        "base_id": str(files.folder),
        "base_sha256": files.sha256,
        "directions": [{"source": "en", "target": f"x{seed}"}],
    }
    write_info(folder, GraftInfo.model_validate({**values, **about}))
    return folder


def by_hand(
    merger: Merger, files: ModelFiles, grafts: Sequence[Path], vocabulary: Path | None = None
) -> dict[str, torch.Tensor]:
    """Return the merged weights, from whole models in memory."""
    with extended(load_base(files), Vocabulary.of(vocabulary) if vocabulary else None) as grown:
        model: Any = grown.model

        def weights() -> dict[str, torch.Tensor]:
            return {name: parameter.detach().float().clone() for name, parameter in model.named_parameters()}

        base, models = weights(), []
        for graft in grafts:
            with held(model, graft):
                models.append(weights())
        embedding = next(name for name, one in model.named_parameters() if one is model.get_input_embeddings().weight)
    about = {name: Weight(name=name, embedding=name == embedding, head=name == "lm_head.weight") for name in base}
    return {name: merger.merge(about[name], base[name], [model[name] for model in models]) for name in base}
