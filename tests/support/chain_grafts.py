"""Random grafts that answer through the chain, as fixtures that are imported by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders import tiny_llama
from chains import marked_renderer
from lingraft.models.files import find_model
from lingraft.models.graft import Direction, GraftInfo, write_info
from lingraft.models.loading import load_model
from models_support import with_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose tokenizer has markers."""
    folder = tmp_path_factory.mktemp("marked")
    tokenizer = marked_renderer().tokenizer
    model = tiny_llama(tokenizer, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # surer of its choice, so that it writes text and not one token over and over
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_graft(base: Path, folder: Path, chat: str, seed: int = 1) -> Path:
    """Write a random graft that holds conversations in one of the two ways."""
    files = find_model(str(base))
    with_adapter(load_model(files, "fp32").model, seed=seed).save_pretrained(folder)
    directions = [Direction(source="en", target="th")]
    info = {"method": "tcot", "instruction": "{source}", "directions": directions, "chat": chat}
    write_info(folder, GraftInfo(schema="lingraft.graft/1", base_id=str(base), base_sha256=files.sha256, **info))
    return folder


@pytest.fixture(scope="module")
def chained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("tcot"), "tcot")
