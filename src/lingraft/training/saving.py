"""What has learnt, as a PEFT adapter on the disk."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file

from lingraft.models.adapter import put_weights
from lingraft.models.adapter_files import WEIGHTS


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write what has learnt as a PEFT adapter."""
    # Named outright: PEFT would gather the parts of a sharded base from all processes, and only one writes.
    # By all their names: PEFT writes a weight that embeddings and head share under both.
    named = model.named_parameters(remove_duplicate=False)
    learnt: dict[str, torch.Tensor] = {name: weight for name, weight in named if weight.requires_grad}
    # PEFT keeps a whole layer with what is no weight of it, such as the biases by which DeepSeek-V3 chooses experts.
    kept = model.named_buffers(remove_duplicate=False)
    learnt |= {name: buffer for name, buffer in kept if ".modules_to_save." in name}
    # PEFT fills in a form of a card, which takes longer than small weights do, unless there is one that it can add to.
    card = folder / "README.md"
    folder.mkdir(parents=True, exist_ok=True)
    card.write_text("---\nlibrary_name: peft\n---\n", "utf-8")
    # Without the flag PEFT asks the hub whether the base's vocabulary was resized.
    model.save_pretrained(str(folder), state_dict=learnt, save_embedding_layers=False)
    card.unlink()  # the graft's own comes with the report


def restore_adapter(model: PeftModel, folder: Path) -> None:
    """Put back what `save_adapter` has written of the same model, of whatever kind of PEFT's.

    Raises:
        ModelError: names or shapes differ.
    """
    put_weights(model, load_file(folder / WEIGHTS), folder)
