"""What is known of a model's files: by reading them, or by a note that holds while nobody has written to them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import ModelError
from lingraft.core.hashing import file_hash
from lingraft.models import files as models
from lingraft.models import hashes as module
from lingraft.models.files import Embedded, find_model
from lingraft.models.hashes import file_hashes, hashed_folders, model_hash, sealed_model
from lingraft.pipeline.machine import damaged_folders
from lingraft.store.artefacts import verify
from lingraft.store.files import read_sealed, write_sealed
from models_support import save_tiny_model
from processes import flip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    read: list[str] = []

    def counting(path: Path) -> str:
        read.append(path.name)
        return file_hash(path)

    monkeypatch.setattr(module, "file_hash", counting)
    return read


def another_process() -> None:
    module._READ.clear()


def note_of(cache: Path) -> Path:
    (note,) = (cache / "hashes").iterdir()
    return note


def test_files_are_read_once_in_a_process_and_not_at_all_where_the_note_will_do(
    folder: Path, counted: list[str]
) -> None:
    expected = model_hash(folder)
    first = len(counted)
    assert first == len(file_hashes(folder)) > 3
    assert model_hash(folder) == expected
    assert len(counted) == first
    another_process()
    assert model_hash(folder, remembered=True) == expected
    assert len(counted) == first
    assert model_hash(folder) == expected
    assert len(counted) == 2 * first


def overwrite(path: Path) -> None:
    """Write other bytes, and give the file its old times."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file of the same size and times in its place."""
    before = path.stat()
    shutil.copy2(path, path.with_suffix(".new"))
    flip(path.with_suffix(".new"))
    os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [overwrite, replace])
@pytest.mark.parametrize("remembered", [True, False])
def test_size_and_time_of_change_are_no_proof(folder: Path, change: Callable[[Path], None], remembered: bool) -> None:
    before = model_hash(folder)
    change(folder / "model.safetensors")
    assert model_hash(folder, remembered=remembered) != before
    another_process()
    assert model_hash(folder, remembered=remembered) != before


def test_what_changed_although_nobody_wrote_to_it_is_told(folder: Path, cache: Path) -> None:
    """As a disk does it: the note holds, and the file has other bytes."""
    before = model_hash(folder)
    note = read_sealed(note_of(cache))
    assert note is not None
    note["files"]["model.safetensors"] = "0" * 64  # what it was when it was noted
    write_sealed(note_of(cache), note)
    another_process()
    with pytest.raises(ModelError, match=r"model\.safetensors has changed since .*; copy the model anew") as caught:
        find_model(str(folder))
    assert "\n" not in str(caught.value)
    assert damaged_folders() == {str(folder): str(caught.value)}
    shutil.copytree(folder, folder.with_name("anew"))
    shutil.rmtree(folder)
    folder.with_name("anew").rename(folder)
    another_process()
    assert find_model(str(folder)).sha256 == before
    assert damaged_folders() == {str(folder): ""}


def test_a_note_that_is_damaged_or_lost_counts_for_nothing(folder: Path, cache: Path) -> None:
    before = model_hash(folder)
    note = note_of(cache)
    whole = note.read_text()
    old = {"stamp": [], "sha256": before, "folder": str(folder)}  # of an older version
    for damage in (
        "",
        "[]",
        "{}",
        "{",
        '{"stamp": 1}',
        "\udcff",
        json.dumps(old),
        whole.replace("model.safe", "m.safe"),
    ):
        note.write_bytes(damage.encode("utf-8", "surrogateescape"))
        another_process()
        assert model_hash(folder, remembered=True) == before
    assert hashed_folders(before) == [folder.resolve()]
    shutil.rmtree(cache)
    cache.write_text("a file, so that nothing can be remembered")
    another_process()
    assert model_hash(folder) == before


# The base that a package carries


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A package with a model that is converted in no time; where it has been converted to."""
    made: list[Path] = []

    def convert(package: Path, file: str, target: Path) -> None:
        assert not (target / "config.json").exists() or made
        for leftover in target.iterdir():
            leftover.unlink()
        made.append(target)
        save_tiny_model(target)

    (tmp_path / "tiny_package").mkdir()
    (tmp_path / "tiny_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(models, "convert", convert)
    monkeypatch.setattr(models, "ALIASES", {"tiny": Embedded("tiny_package", "tiny.gguf", "org/tiny", "mit")})
    return made


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda folder: flip(folder / "model.safetensors"),
    "weights empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights gone": lambda folder: (folder / "model.safetensors").unlink(),
    "configuration gone": lambda folder: (folder / "config.json").unlink(),
    "tokenizer changed": lambda folder: flip(folder / "tokenizer.json"),
    "never sealed, as older versions left it": lambda folder: (folder / "manifest.json").unlink(),
    "all gone but the folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_conversion_is_made_anew(embedded: list[Path], cache: Path, damage: str) -> None:
    files = find_model("tiny")
    assert files.folder == cache / "models" / "tiny"
    assert verify(files.folder)
    another_process()
    assert find_model("tiny") == files
    assert len(embedded) == 1
    DAMAGES[damage](files.folder)
    another_process()
    assert find_model("tiny") == files
    assert len(embedded) == 2
    assert verify(files.folder)


def test_what_killed_conversions_left_is_removed(embedded: list[Path], cache: Path) -> None:
    for name in ("tiny.123.tmp", "tiny.partial"):
        (cache / "models" / name).mkdir(parents=True)
        (cache / "models" / name / "model.safetensors").write_bytes(b"half")
    find_model("tiny")
    assert {path.name for path in (cache / "models").iterdir()} <= {"tiny", "tiny.lock"}


def test_a_conversion_with_a_damaged_bit_is_not_sealed_even_by_a_note(embedded: list[Path]) -> None:
    folder = find_model("tiny").folder
    assert sealed_model(folder, remembered=True)
    overwrite(folder / "model.safetensors")
    another_process()
    assert not sealed_model(folder, remembered=True)
    assert not sealed_model(folder)
