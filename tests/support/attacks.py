"""What every attack has to leave as it was, and what every refusal looks like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingraft.core.errors import LingraftError
from lingraft.models.loading import LoadedModel

IDS = torch.arange(5, 40)[None]


def fingerprint(model: torch.nn.Module) -> str:
    """Return a hash of every parameter and buffer of a model by its name, and of its layers."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        digest.update(f"{name}\0{type(module).__name__}\0".encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=IDS).logits)


def refused_or_harmless(loaded: LoadedModel, block: AbstractContextManager[LoadedModel]) -> str:
    """Put something of a stranger on a base; return the refusal, "" where it was taken and gives finite numbers.

    Either way the base has the very weights, layers and outputs that it had.
    """
    before, expected = fingerprint(loaded.model), logits(loaded.model)
    said = ""
    try:
        with block as on:
            assert torch.isfinite(logits(on.model)).all()
    except LingraftError as error:
        said = sentence(error)
    assert fingerprint(loaded.model) == before
    assert torch.equal(logits(loaded.model), expected)
    assert not hasattr(loaded.model, "peft_config")
    return said


def sentence(error: LingraftError) -> str:
    """Return what an error says, which is one printable line with a remedy."""
    said = str(error)
    assert said.isprintable(), said
    assert len(said) < 1500, len(said)
    assert ";" in said or ":" in said, said
    return said


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def change_tensors(path: Path, add: Mapping[str, torch.Tensor]) -> None:
    """Set tensors of a safetensors file."""
    save_file({**load_file(path), **{name: tensor.contiguous() for name, tensor in add.items()}}, path)


def default_and_long(cases: Mapping[str, Any], worst: set[str] | None = None) -> list[Any]:
    """Return the parameters of a suite: all but the worst are marked long."""
    return [
        pytest.param(value, id=name, marks=() if worst is None or name in worst else pytest.mark.long)
        for name, value in cases.items()
    ]
