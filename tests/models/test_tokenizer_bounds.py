"""How far a tokenizer may make a text longer: refused by its description, before any text is given to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers

from builders import FAMILIES, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.models.files import load_tokenizer
from lingraft.models.tokenizer_bounds import MAX_TOKEN, check_tokenizer, growth_of

TWICE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BETWEEN = {"type": "Replace", "pattern": {"Regex": ""}, "content": "ab"}
LONG = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * (MAX_TOKEN + 1)}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def several(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(steps)}


def charsmap(*texts: bytes) -> str:
    """Return a map as SentencePiece stores it, with a trie of nothing."""
    return base64.b64encode((4).to_bytes(4, "little") + bytes(4) + b"".join(text + b"\0" for text in texts)).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


REFUSED: dict[str, dict[str, Any]] = {
    "doubled forty times": {"normalizer": several("normalizers", *[TWICE] * 40)},
    "doubled within steps": {"normalizer": several("normalizers", *[several("normalizers", *[TWICE] * 6)] * 2)},
    "written between letters": {"normalizer": several("normalizers", *[BETWEEN] * 8)},
    "letters of bytes of letters": {"normalizer": several("normalizers", *[{"type": "ByteLevel"}] * 6)},
    "a word for a letter": {"normalizer": LONG},
    "a long text put in front": {"normalizer": {"type": "Prepend", "prepend": "a" * 5000}},
    "a map to long texts": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(b"x" * 3000)}},
    "cut and doubled": {"pre_tokenizer": several("pretokenizers", *[BYTES] * 6)},
    "both together": {
        "normalizer": several("normalizers", *[TWICE] * 6),
        "pre_tokenizer": several("pretokenizers", *[BYTES] * 3),
    },
    "too many steps": {"normalizer": several("normalizers", *[{"type": "Lowercase"}] * 200)},
    "written forty times": {"decoder": several("decoders", *[TWICE] * 40)},
    "a long token": {"added_tokens": [{"id": 0, "content": "a" * 5000, "special": False}]},
    "a long suffix": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "x" * 4000}},
    "a long word": {"model": {"type": "Unigram", "vocab": [["a" * 5000, 0.0]]}},
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_what_makes_texts_far_too_long_is_refused(folder: Path, values: dict[str, Any]) -> None:
    change(folder, **values)
    with pytest.raises(ModelError, match="copy it anew"):
        load_tokenizer(folder)


def test_a_long_token_beside_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, "added_tokens_decoder": {"0": {"content": "a" * 5000}}}), "utf-8")
    with pytest.raises(ModelError, match="far too long"):
        check_tokenizer(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_of_all_families_pass(tmp_path: Path, family: str) -> None:
    tiny_tokenizer(family).save_pretrained(tmp_path)
    check_tokenizer(tmp_path)


def test_a_map_of_sentencepiece_passes(folder: Path) -> None:
    change(folder, normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(b"a", "صلى الله عليه".encode())})
    check_tokenizer(folder)


@pytest.mark.parametrize(
    "step",
    [
        *(normalizers.NFKC(), normalizers.NFKD(), normalizers.NFD(), normalizers.NFC(), normalizers.Lowercase()),
        *(normalizers.BertNormalizer(), normalizers.ByteLevel(), normalizers.Nmt()),
    ],
    ids=lambda step: type(step).__name__,
)
def test_no_letter_grows_more_than_is_counted(step: Any) -> None:
    """Each letter of the first plane, through the library itself."""
    letters = (chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000)
    assert max(len(step.normalize_str(letter)) for letter in letters) <= growth_of(json.loads(step.__getstate__()))


def test_texts_are_neither_filled_up_nor_cut_off(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = tokenizer.encode("Good day to you", add_special_tokens=False).ids
    tokenizer.enable_padding(length=100_000)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))
    backend = load_tokenizer(folder).backend_tokenizer
    assert backend.encode("Good day to you", add_special_tokens=False).ids == expected
