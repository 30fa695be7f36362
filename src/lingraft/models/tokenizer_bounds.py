"""How much longer a tokenizer of a stranger may make a text, told from its description before a library opens it.

`tokenizer.json` holds steps that are run one after the other over every text: one that writes two letters for one,
forty times over, fills the memory out of a single word. Here the growth of all steps is multiplied out, in both
directions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lingraft.core.strangers import MAX_TOKENIZER, from_strangers, read_bytes, shown

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
MAX_TOKEN = 4096
"""Characters of a token; the longest known, blanks, have 512."""
MAX_GROWTH = 1024
"""Times that a text may become longer before it is cut into tokens; 80 in the worst case of known tokenizers."""
MAX_WRITTEN = 65_536
"""Characters that the decoder may write for a token."""
MAX_STEPS = 100

_GROWTH: Mapping[str, int] = {
    "ByteLevel": 4,  # a letter for each byte
    "BertNormalizer": 3,  # blanks around each Chinese character
    "NFD": 4,
    "NFKD": 18,
    "NFC": 3,
    "NFKC": 18,
    "Nmt": 1,
    "Lowercase": 3,
    "Metaspace": 2,
}
_WRITTEN: Mapping[str, int] = {"WordPiece": 2, "BPEDecoder": 2, "CTC": 2}


def check_tokenizer(folder: Path) -> None:
    """Check a tokenizer's folder: length of its tokens, and what its steps make of a text.

    A folder without `tokenizer.json` passes: the steps are then those of the library.

    Raises:
        ModelError: a damaged description, or one that makes texts far too long.
    """
    for name in (FILE, CONFIG):
        path = folder / name
        if not path.exists():
            continue
        what = f"cannot load the model in {folder}: its tokenizer or configuration is damaged"
        with from_strangers(what, "copy it anew"):
            state = path.stat()
            _check(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev))


@lru_cache(64)
def _check(path: Path, _: tuple[int, ...]) -> None:
    """Check a description, once as long as its file is the same: the largest take a second."""
    values = json.loads(read_bytes(path, MAX_TOKENIZER))
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    (_check_steps if path.name == FILE else _check_added)(values)


def _check_added(values: Mapping[str, Any]) -> None:
    for token in (values.get("added_tokens_decoder") or {}).values():
        _check_token(token["content"])


def _check_steps(values: Mapping[str, Any]) -> None:
    model = values.get("model") or {}
    vocab = model.get("vocab") or ()
    longest = max((len(token if isinstance(token, str) else token[0]) for token in vocab), default=0)
    longest = max([longest, *(len(token["content"]) for token in values.get("added_tokens") or ())])
    if longest > MAX_TOKEN:
        raise ValueError(f"a token has {longest:,} characters")
    affixes = [model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token")]
    for text in affixes:
        _check_token(text)
    growth = growth_of(values.get("normalizer")) * growth_of(values.get("pre_tokenizer"))
    growth *= 1 + max(map(len, affixes[:2]))
    if growth > MAX_GROWTH:
        raise ValueError(f"it makes texts up to {shown(f'{growth:,}', 30)} times as long")
    written = max(longest, 1) * growth_of(values.get("decoder"), _WRITTEN)
    if written > MAX_WRITTEN:
        raise ValueError(f"it writes up to {shown(f'{written:,}', 30)} characters for a token")


def _check_token(text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_TOKEN:
        raise ValueError("a token is no text, or far too long")


def growth_of(step: Any, known: Mapping[str, int] = _GROWTH) -> int:
    """Return how many times as long a step, with all those in it, may make a text."""
    growth = 1
    for count, each in enumerate(_steps(step)):
        if count >= MAX_STEPS:
            raise ValueError("it has far too many steps")
        kind = each.get("type")
        if kind in ("Replace", "Prepend"):
            content = each.get("content", each.get("prepend"))
            _check_token(content)
            pattern = (each.get("pattern") or {}).get("String") or ""
            # An expression may match between any two letters.
            growth *= -(-len(content) // len(pattern)) if pattern and kind == "Replace" else 1 + len(content)
        elif kind == "Precompiled":
            growth *= _longest_entry(each.get("precompiled_charsmap") or "")
        else:
            growth *= known.get(str(kind), 1)
        growth = max(growth, 1)
    return growth


def _steps(step: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [step]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            inner = [one.get(name) for name in ("normalizers", "pretokenizers", "decoders")]
            if one.get("type") == "Sequence":
                waiting += [each for steps in inner if isinstance(steps, list) for each in steps]
            else:
                yield one


def _longest_entry(charsmap: str) -> int:
    """Return the bytes of the longest text in a map of SentencePiece's: a trie of known length, then texts."""
    data = base64.b64decode(charsmap, validate=True)
    trie = int.from_bytes(data[:4], "little")
    return max(map(len, data[4 + trie :].split(b"\0")), default=1)
