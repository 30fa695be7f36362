"""What has learnt, as a PEFT adapter on the disk."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from safetensors.torch import load_file

from lingraft.models.adapter import put_weights
from lingraft.models.adapter_files import WEIGHTS


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write what has learnt as a PEFT adapter."""
    # Named outright: PEFT would gather the parts of a sharded base from all processes, and only one writes.
    # By all their names: PEFT writes a weight that embeddings and head share under both.
    named = model.named_parameters(remove_duplicate=False)
    learnt = {name: parameter for name, parameter in named if parameter.requires_grad}
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
