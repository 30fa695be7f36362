"""The seal of a graft: whatever reads a changed adapter refuses it; what is said beside it may be edited."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lingraft.core.errors import ModelError
from lingraft.models.adapter import continue_from, read_parts
from lingraft.models.adapter_files import read_adapter
from lingraft.models.concatenate import concatenate
from lingraft.models.export import export_graft
from lingraft.models.files import ModelFiles
from lingraft.models.graft import check_fit, name_base, read_info, write_info
from lingraft.models.graft_seal import INFO as FILE
from lingraft.models.graft_seal import adapter_hash, check_seal
from lingraft.models.loading import load_renderer
from lingraft.models.merge_in_memory import merged
from processes import flip
from vocabulary_support import load_base, make_graft


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFiles, Path]:
    """A base and a graft with a vocabulary of its own."""
    return make_graft(tmp_path_factory.mktemp("made"), "new")


@pytest.fixture
def graft(made: tuple[ModelFiles, Path], tmp_path: Path) -> Path:
    """A copy, as somebody else has it."""
    shutil.copytree(made[1], tmp_path / "graft")
    return tmp_path / "graft"


def test_every_flipped_bit_of_the_adapter_is_refused(graft: Path) -> None:
    chance = random.Random(1)
    read_adapter(graft)
    for name in ("adapter_model.safetensors", "adapter_config.json", "vocabulary.json", "tokenizer.json"):
        whole = (graft / name).read_bytes()
        for _ in range(6):
            data = bytearray(whole)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (graft / name).write_bytes(data)
            with pytest.raises(ModelError, match="its weights, configuration or vocabulary are not those") as caught:
                read_adapter(graft)
            assert "\n" not in str(caught.value)
            assert str(caught.value).endswith("copy it anew from where it was made, or make it again")
        (graft / name).write_bytes(whole)
    read_adapter(graft)


READERS: dict[str, Callable[[ModelFiles, Path, Path], object]] = {
    "put on a base": lambda files, graft, out: check_fit(files, load_renderer(files), graft),
    "taken apart": lambda files, graft, out: read_parts(graft),
    "put together": lambda files, graft, out: concatenate(graft, graft, out),
    "merged in memory": lambda files, graft, out: merged(load_base(files).model, graft).__enter__(),
    "continued": lambda files, graft, out: continue_from(load_base(files).model, graft),
    "exported": lambda files, graft, out: export_graft(graft, out, str(files.folder)),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_takes_a_changed_adapter(
    made: tuple[ModelFiles, Path], graft: Path, tmp_path: Path, reader: str
) -> None:
    flip(graft / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"is damaged: its weights.*\(other adapter_sha256\)"):
        READERS[reader](made[0], graft, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_that_is_missing_is_named(graft: Path) -> None:
    (graft / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"damaged \(adapter_model.safetensors is missing\); copy it anew from where"):
        read_adapter(graft)


def test_what_is_written_beside_the_adapter_may_be_edited(graft: Path) -> None:
    (graft / "README.md").write_text("# Mine\n")
    (graft / "notes.txt").write_text("mine")
    values = json.loads((graft / FILE).read_text("utf-8"))
    (graft / FILE).write_text(json.dumps({**values, "base_id": "org/base"}), "utf-8")
    read_adapter(graft)


def test_an_older_graft_has_no_seal_and_gets_one_when_it_is_written_anew(graft: Path) -> None:
    values = json.loads((graft / FILE).read_text("utf-8"))
    del values["adapter_sha256"]
    (graft / FILE).write_text(json.dumps(values), "utf-8")
    config = json.loads((graft / "adapter_config.json").read_text("utf-8"))
    (graft / "adapter_config.json").write_text(json.dumps({**config, "lora_dropout": 0.5}), "utf-8")
    assert read_adapter(graft)[0].lora_dropout == 0.5
    write_info(graft, read_info(graft))
    check_seal(graft)
    flip(graft / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="other adapter_sha256"):
        check_seal(graft)


def test_another_name_of_the_base_needs_another_seal(graft: Path) -> None:
    before = read_info(graft).adapter_sha256
    name_base(graft, "org/base")
    with pytest.raises(ModelError, match="other adapter_sha256"):
        check_seal(graft)
    write_info(graft, read_info(graft))
    assert read_info(graft).adapter_sha256 == adapter_hash(graft) != before
    check_seal(graft)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000], ids=["empty", "cut", "list", "deep"])
def test_a_damaged_seal_is_not_taken_for_none(graft: Path, content: bytes) -> None:
    (graft / FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"lingraft.json is damaged"):
        read_adapter(graft)


def test_a_plain_adapter_has_no_seal(graft: Path) -> None:
    (graft / FILE).unlink()
    flip(graft / "adapter_model.safetensors")
    assert all(torch.is_tensor(tensor) for tensor in read_adapter(graft)[1].values())
