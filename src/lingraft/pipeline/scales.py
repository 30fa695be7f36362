"""Stage `scale-<system>`: a graft whose update of the base is smaller or larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.strangers import copy_folder, read_object
from lingraft.merging.strength import VERSION, write_at_strength
from lingraft.models.adapter import read_parts
from lingraft.models.adapter_config import CONFIG
from lingraft.models.graft import name_base, read_info, write_info
from lingraft.models.graft_seal import check_seal
from lingraft.models.sparse_files import write_entries
from lingraft.pipeline.context import Context
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.store.files import write_json


def at_scale(context: Context, one: MeasuredSystem, scale: float) -> MeasuredSystem:
    """Return a copy of a graft whose update of the base is `scale` times as large.

    Raises:
        ModelError: its adapter is damaged, or of a kind whose effect cannot be told apart from the base.
    """
    original = one.graft
    assert original is not None, "the base has no other scales"
    config = read_object(original / CONFIG)
    inputs: dict[str, Any] = {"graft": one.graft_hash, "scale": scale}
    if not is_sum(config):
        inputs |= {"strength": VERSION, "model": context.files.sha256, "precision": context.precision}

    def build(folder: Path) -> dict[str, Any]:
        graft = folder / "graft"
        copy_folder(original, graft)
        check_seal(graft)
        if config.get("peft_type") == "SHIRA":
            parts = read_parts(original)
            write_entries(parts.config, {name: one.times(scale) for name, one in parts.sparse.items()}, graft)
        elif is_sum(config):
            # The update is alpha / rank (or alpha / sqrt(rank)) times the product of the factors.
            alphas = {name: _times(alpha, scale) for name, alpha in (config.get("alpha_pattern") or {}).items()}
            alpha = {"lora_alpha": _times(config["lora_alpha"], scale), "alpha_pattern": alphas}
            write_json(graft / CONFIG, {**config, **alpha})
        else:
            write_at_strength(context.loaded, original, scale, graft)
            name_base(graft, config.get("base_model_name_or_path") or "")
        write_info(graft, read_info(graft))
        return {}

    name = f"{one.name}*{scale:g}"
    folder = context.artefact(f"scale-{name}", inputs, build)
    shown = f"{folder.name}/graft"
    copy = replace(one, name=name, graft=folder / "graft", graft_hash=folder.name, shown=shown, trained=None)
    return replace(copy, group=one.name, scale=scale)


def is_sum(config: dict[str, Any]) -> bool:
    """Whether an adapter is nothing but a sum with the base, by its configuration."""
    if config.get("peft_type") == "SHIRA":
        return True
    odd = ("use_dora", "modules_to_save", "trainable_token_indices")
    return config.get("peft_type") == "LORA" and not any(config.get(key) for key in odd)


def _times(alpha: float, scale: float) -> float:
    """Return the product, whole where it is: some engines want it so."""
    value = alpha * scale
    return int(value) if value == int(value) else value
