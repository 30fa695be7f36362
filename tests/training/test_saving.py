"""What has learnt, as a PEFT adapter on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from builders import tiny_llama
from lingraft.training.saving import restore_adapter, save_adapter
from models_support import with_adapter


def test_weights_and_configuration_are_written_and_no_form_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint has them, and to fill in the form of PEFT takes longer than to write small weights."""
    forms: list[object] = []
    monkeypatch.setattr(ModelCard, "from_template", lambda *args, **kwargs: forms.append(args))
    model = with_adapter(tiny_llama(128))
    for _ in range(2):  # over what is there, too
        save_adapter(model, tmp_path / "new" / "adapter")
    assert forms == []
    found = sorted(path.name for path in (tmp_path / "new" / "adapter").iterdir())
    assert found == ["adapter_config.json", "adapter_model.safetensors"]
    expected = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in expected:
                value.zero_()
    restore_adapter(model, tmp_path / "new" / "adapter")
    assert expected
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in expected.items())
