"""A BPE tokenizer as its JSON description, with further pieces and merges added to it.

Two families are known. *Bytes* (GPT-2, Llama-3, Qwen): text is cut into words, whose UTF-8 bytes are merged.
*Characters* (Llama-2, Mistral, Gemma): a space is U+2581, nothing is cut, and characters without a piece are bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from lingraft.core.errors import UsageError

SPACE = "\u2581"
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_LETTERS = r"\p{L}[\p{L}\p{M}]*"
# The split inside of `ByteLevel(use_regex=True)`, which is GPT-2's.
_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Addition:
    """One step of an extension: a merge of two pieces, or a character (`pair` is None).

    `new`: whether the product gets an id; else it is a piece of the base or of an earlier step.
    """

    product: str
    pair: tuple[str, str] | None = None
    new: bool = True


class TokenizerSpec:
    """The description of a base's tokenizer.

    Args:
        tokenizer: of the base.
        marks_join_letters: let a combining mark stay in the word of the letter before it, where a split by `\\p{L}+`
            would cut every Thai or Hindi word at each vowel sign.

    Attributes:
        by_bytes: the family.
        vocab: piece -> id, without added tokens.
        size: one more than the highest id.
        cuts_as_base: whether words are cut as the base's tokenizer cuts them.

    Raises:
        UsageError: not a BPE tokenizer of a known family.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, marks_join_letters: bool = True) -> None:
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        spec.update(truncation=None, padding=None)
        model = spec["model"]
        kind = model["type"]
        self.by_bytes = any(step["type"] == "ByteLevel" for step in _steps(spec["pre_tokenizer"]))
        affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if kind != "BPE" or affixes or not (self.by_bytes or model.get("byte_fallback")):
            raise UsageError(
                f"vocabulary: the tokenizer is of kind {kind}{' without bytes' if kind == 'BPE' else ''}, and only BPE "
                f"over bytes or with byte fallback can be extended; choose another base"
            )
        self.cuts_as_base = True
        if self.by_bytes and marks_join_letters:
            changed = _joining_marks(spec["pre_tokenizer"])
            self.cuts_as_base = _steps(changed) == _steps(spec["pre_tokenizer"])
            spec["pre_tokenizer"] = changed
        self._spec = spec
        self.vocab: dict[str, int] = model["vocab"]
        self.merges = {(str(one), str(other)) for one, other in model["merges"]}
        self.added = {str(token["content"]): int(token["id"]) for token in spec["added_tokens"]}
        self.size = 1 + max([*self.vocab.values(), *self.added.values()])
        plain = Tokenizer.from_str(json.dumps(spec))
        self._normalizer, self._pre_tokenizer = plain.normalizer, plain.pre_tokenizer
        self._split = pre_tokenizers.Split(Regex(f"{SPACE}?{_LETTERS}"), behavior="isolated")

    def words(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield the words of a text as (text, spelling inside of the tokenizer), a space before one included."""
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        if self.by_bytes:
            for spelt, (start, end) in self._pre_tokenizer.pre_tokenize_str(text):
                yield text[start:end], spelt
            return
        if self._pre_tokenizer is not None:
            text = "".join(part for part, _ in self._pre_tokenizer.pre_tokenize_str(text))
        for part, _ in self._split.pre_tokenize_str(text):
            yield part.replace(SPACE, " "), part

    def spell(self, character: str) -> str:
        """Return how the tokenizer spells a character."""
        return str(_BYTES.pre_tokenize_str(character)[0][0]) if self.by_bytes else character

    def text_of(self, piece: str) -> str | None:
        """Return the text of a piece; None if it is not made of whole characters or stands for a byte."""
        if not self.by_bytes:
            return None if len(piece) == 6 and piece.startswith("<0x") else piece.replace(SPACE, " ")
        try:
            return bytes(_BYTE_OF_CHARACTER[character] for character in piece).decode("utf-8")
        except (KeyError, UnicodeDecodeError):
            return None

    def extended(self, additions: Sequence[Addition], markers: Sequence[str] = ()) -> dict[str, Any]:
        """Return the description with additions, in their order, and then markers as control tokens.

        New ids follow the base's. The library gives added tokens new ids when it reads a description, unless the model
        knows them: so it is told all of them, where no merge leads to them.
        """
        vocab, merges = dict(self.vocab), list(self._spec["model"]["merges"])
        spec = {**self._spec, "model": {**self._spec["model"], "vocab": vocab, "merges": merges}}
        vocab.update({token: number for token, number in self.added.items() if token not in vocab})
        number = self.size
        for addition in additions:
            if addition.pair is not None:
                merges.append(list(addition.pair))
            if addition.new:
                vocab[addition.product] = number
                number += 1
        for marker in markers:
            if marker not in vocab:
                vocab[marker] = number
                number += 1
            token = {"id": vocab[marker], "content": marker, "special": True, "normalized": False}
            token |= {"single_word": False, "lstrip": False, "rstrip": False}
            spec["added_tokens"] = [one for one in spec["added_tokens"] if one["content"] != marker] + [token]
        spec["added_tokens"].sort(key=lambda token: token["id"])
        return spec

    def bpe(self, additions: Sequence[Addition] = ()) -> Tokenizer:
        """Return a tokenizer whose model merges words with the additions and takes no word as a whole."""
        spec = self.extended(additions)
        spec["model"] |= {"ignore_merges": False, "dropout": None}
        return Tokenizer.from_str(json.dumps(spec))


def reserved(known: Collection[str], count: int) -> list[str]:
    """Return so many names for control tokens without a meaning, none of them known."""
    free = (name for number in itertools.count() if (name := f"<|lingraft_reserved_{number}|>") not in known)
    return list(itertools.islice(free, count))


def new_pieces(additions: Sequence[Addition]) -> list[str]:
    """Return the pieces that get an id."""
    return [addition.product for addition in additions if addition.new]


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer, those of sequences one by one."""
    if step is None:
        return []
    return [inner for one in step["pretokenizers"] for inner in _steps(one)] if step["type"] == "Sequence" else [step]


def _joining_marks(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a pre-tokenizer whose words go on over combining marks (category M) after a letter.

    A mark after anything else, such as the variation selector of an emoji, is treated as before.
    """
    changed: list[dict[str, Any]] = []
    for one in _steps(step):
        pattern = one["pattern"].get("Regex", "") if one["type"] == "Split" else ""
        if one["type"] == "ByteLevel" and one["use_regex"] and not one["add_prefix_space"]:
            split = {"pattern": {"Regex": _joined(_GPT2_SPLIT)}, "behavior": "Isolated", "invert": False}
            changed += [{"type": "Split", **split}, {**one, "use_regex": False}]
        elif r"\p{L}+" in pattern and r"\p{M}" not in pattern:
            changed.append({**one, "pattern": {"Regex": _joined(pattern)}})
        else:
            changed.append(one)
    return {"type": "Sequence", "pretokenizers": changed} if step is not None else None


def _joined(pattern: str) -> str:
    return pattern.replace(r"\p{L}+", _LETTERS)


def _byte_of_character() -> dict[str, int]:
    """Return GPT-2's table: printable Latin-1 bytes are themselves, the rest follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(moved)}


_BYTE_OF_CHARACTER = _byte_of_character()
