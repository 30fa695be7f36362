"""Hostile vocabularies: each is refused in one sentence or does no harm, and the base is as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attacks import change_json, default_and_long, refused_or_harmless
from lingraft.core.errors import ModelError
from lingraft.core.strangers import copy_folder
from lingraft.models.files import ModelFiles
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel
from lingraft.models.vocabulary import FILE, Vocabulary, tokenizer_hash
from vocabulary_support import learn, load_base, save_base

Attack = Callable[[Path], object]


def described(**values: Any) -> Attack:
    """Say something else in `vocabulary.json`."""
    return lambda folder: change_json(folder / FILE, **values)


def beside(name: str, **values: Any) -> Attack:
    """Say something else in another file, and seal it."""

    def attack(folder: Path) -> None:
        change_json(folder / name, **values)
        seal(folder)

    return attack


def words(change: Callable[[dict[str, Any]], object]) -> Attack:
    """Change `tokenizer.json`, and seal it."""

    def attack(folder: Path) -> None:
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text("utf-8"))
        change(values)
        path.write_text(json.dumps(values), "utf-8")
        seal(folder)

    return attack


def whole(name: str, content: bytes, *, sealed: bool = False) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if sealed:
            seal(folder)

    return attack


def seal(folder: Path) -> None:
    """Name the tokenizer's files as they are now, as a stranger would."""
    change_json(folder / FILE, sha256=tokenizer_hash(folder))


def pipe(name: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return attack


def marked(**values: Any) -> Attack:
    """Change the markers in `vocabulary.json`."""

    def attack(folder: Path) -> None:
        path = folder / FILE
        markers = json.loads(path.read_text("utf-8"))["markers"]
        change_json(path, markers={**markers, **values})

    return attack


def moved(values: dict[str, Any]) -> None:
    """Let two pieces of the base change their ids."""
    vocab = values["model"]["vocab"]
    one, two = list(vocab)[30:32]
    vocab[one], vocab[two] = vocab[two], vocab[one]


def added(number: int, content: str, special: bool = False) -> Callable[[dict[str, Any]], object]:
    token = {"id": number, "content": content, "special": special}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return lambda values: values["added_tokens"].append({**token, **flags})


TWICE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
REFUSED: dict[str, Attack] = {
    "10**9 rows": described(rows=10**9),
    "10**9 of everything": described(rows=10**9, tokens=10**9, base_tokens=10**9, base_rows=10**9),
    "2**24 rows": described(rows=2**24),
    "2**24 tokens": described(rows=2**24, tokens=2**24),
    "padded to 2**20": described(rows=2**20, pad_multiple=2**20),
    "10**30 rows": described(rows=10**30),
    "rows below none": described(rows=-1),
    "half a row": described(rows=700.5),
    "fewer rows than the base": described(rows=1),
    "fewer tokens than the base": described(tokens=1),
    "no token of the base": described(base_tokens=0),
    "a row of the base said to be new": described(base_tokens=700),
    "rows of the base said to be new": described(base_tokens=40),
    "more tokens than the file": described(reserved=0, tokens=10**6, rows=10**6),
    "another base": described(base_sha256="0" * 64),
    "no base": described(base_sha256="../../etc/passwd"),
    "another tokenizer": described(sha256="0" * 64),
    "other rows of the base": described(base_rows=2000, rows=2000),
    "a seed beyond 64 bits": described(seed=2**64),
    "NaN": whole(FILE, b'{"schema": "lingraft.vocabulary/1", "rows": NaN}'),
    "another way to begin": described(init="os.system"),
    "another version": described(schema="lingraft.vocabulary/9"),
    "a field of its own": described(auto_map={"AutoTokenizer": "evil.Tokenizer"}),
    "not an object": whole(FILE, b"[]"),
    "deep": whole(FILE, b'{"schema":' * 50_000),
    "a pipe": pipe(FILE),
    "a pipe of words": pipe("tokenizer.json"),
    "no markers": described(markers={}),
    "markers that are none": described(markers={"x": 1}),
    "a marker of a control token": marked(source="<|im_end|>"),
    "a marker that steers a terminal": marked(source="\x1b[2J"),
    "a marker without end": marked(source="x" * 10**6),
    "a marker that is no token": marked(source="<never heard of>"),
    "no words": whole("tokenizer.json", b"{}", sealed=True),
    "broken words": whole("tokenizer.json", b"{", sealed=True),
    "ids of the base moved": words(moved),
    "a word taken away": words(lambda values: values["model"]["vocab"].pop(next(iter(values["model"]["vocab"])))),
    "a word beyond the rows": words(added(10**6, "<far>")),
    "a word beyond 32 bits": words(added(2**40, "<far>")),
    "an id below none": words(added(-1, "<low>")),
    "an id of the base again": words(added(40, "<again>")),
    "one word more": words(added(100_000, "<more>")),
    "a control token more": words(added(100_000, "<more>", special=True)),
    "a word of 10**6 letters": words(added(100_000, "x" * 10**6)),
    "a text that grows": words(
        lambda values: values.update(normalizer={"type": "Sequence", "normalizers": [TWICE] * 40})
    ),
    "an answer that grows": words(lambda values: values.update(decoder={"type": "Sequence", "decoders": [TWICE] * 40})),
    "a merge of no words": words(lambda values: values["model"]["merges"].append(["ጀ", "ጁ"])),
    "an expression for ever": words(
        lambda values: values.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}
        )
    ),
    "a template that never ends": whole(
        "chat_template.jinja",
        b"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        sealed=True,
    ),
}
HARMLESS: dict[str, Attack] = {
    "a class to import": beside("tokenizer_config.json", tokenizer_class="os.system"),
    "code of its own": beside("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
    "filled up to 10**9": words(
        lambda values: values.update(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        )
    ),
    "a note of fertility": described(fertility=[{"lang": "th", "unit": "word", "before": 9, "after": 1, "sample": 1}]),
}
WORST = {
    "10**9 rows",
    "2**24 tokens",
    "another base",
    "deep",
    "a marker of a control token",
    "rows of the base said to be new",
    "ids of the base moved",
    "a word beyond the rows",
    "a text that grows",
    "an answer that grows",
    "one word more",
    "filled up to 10**9",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, files: ModelFiles) -> Path:
    folder = tmp_path_factory.mktemp("honest") / "vocabulary"
    learn(files, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(files: ModelFiles) -> LoadedModel:
    return load_base(files)


@pytest.fixture
def folder(tmp_path: Path, honest: Path) -> Path:
    shutil.copytree(honest, tmp_path / "vocabulary")
    return tmp_path / "vocabulary"


@contextmanager
def growing(loaded: LoadedModel, folder: Path) -> Iterator[LoadedModel]:
    with extended(loaded, Vocabulary.of(folder)) as grown:
        yield grown


@pytest.mark.parametrize("attack", default_and_long(REFUSED, WORST))
def test_refused_in_one_sentence(loaded: LoadedModel, folder: Path, attack: Attack) -> None:
    attack(folder)
    assert refused_or_harmless(loaded, growing(loaded, folder))


@pytest.mark.parametrize("attack", default_and_long(HARMLESS, WORST))
def test_taken_without_what_it_asks_for(loaded: LoadedModel, folder: Path, attack: Attack) -> None:
    attack(folder)
    assert refused_or_harmless(loaded, growing(loaded, folder)) == ""


# Copies


def test_no_file_elsewhere_is_copied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    read = Vocabulary.of(folder)
    (folder / "tokenizer_notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="link to a file elsewhere"):
        read.copy_to(tmp_path / "copy")
    assert not (tmp_path / "copy" / "tokenizer_notes.txt").exists()


def test_a_graft_is_copied_without_files_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "notes.txt").symlink_to("README.md")
    (folder / "README.md").write_text("mine")
    copy_folder(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "copy" / "notes.txt").is_symlink()
    for target in (tmp_path / "secret", tmp_path):
        (folder / "notes.txt").unlink()
        (folder / "notes.txt").symlink_to(target)
        with pytest.raises(ModelError, match=r"notes\.txt is "):
            copy_folder(folder, tmp_path / "other")


def test_links_of_the_hubs_cache_are_copied(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--me--it" / "blobs", tmp_path / "models--me--it" / "snapshots" / "1f"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        (blobs / str(number)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    Vocabulary.of(snapshot).copy_to(tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
