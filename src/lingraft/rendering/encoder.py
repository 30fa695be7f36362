"""From text to token ids with the characters that they stand for, where control tokens count only if they are meant.

Text of users and models is never read as control tokens: a `<|im_end|>` inside a sentence stays plain text.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Encoding, Tokenizer

from lingraft.core.errors import DataError
from lingraft.core.strangers import from_strangers
from lingraft.rendering.rows import Placed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_TAIL = 64  # characters after a prompt's last control token whose ids are kept
_KEPT_TAILS = 1024
_BEFORE = "\n"
"""Stands before a turn that is tokenised by itself, where it is to have no space before it."""


@dataclass(frozen=True)
class Piece:
    """Some text; `literal`: it is from the template, and control tokens in it are meant."""

    text: str
    literal: bool


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join([piece.text for piece in pieces])


def _starts_and_ends(encoding: Encoding) -> tuple[list[int], list[int]]:
    offsets = encoding.offsets
    starts, ends = zip(*offsets, strict=True) if offsets else ((), ())
    return list(starts), list(ends)


def _wraps(token: str, turn: str) -> bool:
    """Whether an added token is part of a rendered turn: some tokenizers do not flag these as special."""
    return len(token) > 2 and not token[0].isalnum() and token in turn


class Words:
    """A tokenizer whose failures are said in one sentence: its expressions are a stranger's, and are given up where
    they would be matched for ever."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer = tokenizer
        self._said = f"the tokenizer of {name} cannot cut a text into tokens", "copy the model anew, or use another"

    def encode(self, text: str) -> Encoding:
        """Return a text's tokens."""
        with from_strangers(*self._said):
            return self._tokenizer.encode(text, add_special_tokens=False)

    def encode_batch(self, texts: list[str]) -> list[Encoding]:
        """Return the tokens of texts."""
        with from_strangers(*self._said):
            return self._tokenizer.encode_batch(texts, add_special_tokens=False)

    def encode_batch_fast(self, texts: list[str]) -> list[Encoding]:
        """Return the tokens of texts, without their places."""
        with from_strangers(*self._said):
            return self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)


@dataclass(frozen=True)
class _Copies:
    """Copies of a tokenizer, without post-processor: it would trim spaces from the offsets.

    Attributes:
        usual: reads control tokens wherever they stand.
        plain: takes control tokens as plain text, except under an alias.
        alias: of the text of each control token.
    """

    usual: Tokenizer
    plain: Tokenizer
    alias: dict[str, str]


_KEPT_COPIES = 8
_copies: dict[tuple[bytes, frozenset[tuple[int, str]]], _Copies] = {}


def _copies_of(text: str, control: Mapping[int, AddedToken]) -> _Copies:
    """Return the copies of a tokenizer, of which those made last are kept: large ones take a second to make, and base,
    graft, and each row of template variables ask for the same.

    Args:
        text: the tokenizer, as JSON.
        control: its control tokens by id.
    """
    key = hashlib.sha256(text.encode()).digest(), frozenset((i, repr(token)) for i, token in control.items())
    if (found := _copies.get(key)) is None:
        for oldest in list(_copies)[: -_KEPT_COPIES + 1]:
            _copies.pop(oldest, None)
        found = _copies[key] = _made(text, control)
    return found


def _made(text: str, control: Mapping[int, AddedToken]) -> _Copies:
    spec = json.loads(text)
    spec.update(post_processor=None, truncation=None, padding=None)
    usual = Tokenizer.from_str(json.dumps(spec))
    for entry in spec["added_tokens"]:
        entry["special"] = entry["id"] in control
    plain = Tokenizer.from_str(json.dumps(spec))
    plain.encode_special_tokens = True
    secret = secrets.token_hex(8)  # so that no text can hold an alias; token ids do not depend on it
    alias = {token.content: f"\ue000{secret}-{i}\ue001" for i, token in control.items()}
    plain.add_tokens(
        [
            AddedToken(
                alias[token.content],
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
            )
            for token in control.values()
        ]
    )
    return _Copies(usual, plain, alias)


class Encoder:
    """Encodes for one tokenizer.

    Args:
        tokenizer: a fast tokenizer.
        turn: a rendered turn of its chat template, which shows the control tokens that are not flagged as special.

    Attributes:
        control: finds the control tokens in a text.
        spaced: whether the tokenizer puts a space before a text of its own accord, as SentencePiece does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, turn: str) -> None:
        self._tokenizer = tokenizer
        name = tokenizer.name_or_path or "the model"
        added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
        control = {i: token for i, token in added.items() if token.special or _wraps(token.content.strip(), turn)}
        self._control_ids = set(control) - {tokenizer.unk_token_id}
        longest_first = sorted((token.content for token in control.values()), key=len, reverse=True)
        self.control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        copies = _copies_of(tokenizer.backend_tokenizer.to_str(), control)
        self._alias = copies.alias
        self._encoder, self._plain_encoder = Words(copies.usual, name), Words(copies.plain, name)
        first = next(iter(self._encoder.encode("a").tokens), "")
        self.spaced = first.startswith(("\u2581", "\u0120"))
        self._tails: dict[tuple[str, str], list[int] | None] = {}
        self._id_of_alias = {copies.plain.token_to_id(self._alias[token.content]): i for i, token in control.items()}

    def plain_ids(self, text: str) -> list[int]:
        """Return the ids of plain text, by itself: a control token in it is read as its characters."""
        return list(self._plain_encoder.encode(text).ids)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of tokens of plain texts."""
        return [len(found) for found in self._plain_encoder.encode_batch_fast(list(texts))]

    def encode(self, pieces: Sequence[Piece]) -> Placed:
        """Tokenise the joined pieces; control tokens are recognised in literal pieces only.

        Raises:
            DataError: a text that is no literal cannot be kept apart from a control token.
        """
        text = _joined(pieces)
        meant = self._meant(pieces, text)
        if meant is not None:
            return self._under_aliases(text, meant)
        encoding = self._encoder.encode(text)
        return Placed(list(encoding.ids), *_starts_and_ends(encoding), text)

    def ids(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of `encode` alone."""
        return self.encode(pieces).ids

    def continue_many(
        self, parts: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
    ) -> list[tuple[Placed, int] | DataError]:
        """Tokenise prompts, each with its turn.

        Returns:
            For each the tokens, and how many of them are the prompt's, which the turn leaves as they are; or the error
            that `encode` raises.
        """
        prompts = [_joined(prompt) for prompt, _ in parts]
        texts = [text + _joined(turn) for text, (_, turn) in zip(prompts, parts, strict=True)]
        simple = [
            self._meant(prompt, alone) is None and self._meant([*prompt, *turn], text) is None
            for alone, text, (prompt, turn) in zip(prompts, texts, parts, strict=True)
        ]
        chosen = [number for number, plain in enumerate(simple) if plain]
        encodings = self._encoder.encode_batch([texts[number] for number in chosen])
        whole = {
            number: Placed(encoding.ids, *_starts_and_ends(encoding), texts[number])
            for number, encoding in zip(chosen, encodings, strict=True)
        }
        del encodings
        alone = {number: self._ids_within(whole[number], prompts[number]) for number in chosen}
        unclear = [number for number in chosen if alone[number] is None]
        for number, found in zip(
            unclear,
            self._encoder.encode_batch_fast([prompts[number] for number in unclear]),
            strict=True,
        ):
            alone[number] = found.ids
        out: list[tuple[Placed, int] | DataError] = []
        for number, (prompt, turn) in enumerate(parts):
            try:
                first = alone.get(number) or self.encode(prompt).ids
                both = whole.get(number) or self.encode([*prompt, *turn])
                out.append(self._joint(first, both, len(prompts[number]), turn))
            except DataError as error:
                out.append(error)
        return out

    def _ids_within(self, whole: Placed, prompt: str) -> list[int] | None:
        """Return the ids of a prompt from those of a longer text that begins with it, None where that is not certain.

        An added token cuts a text into parts that are tokenised by themselves: up to the prompt's last control token
        both have the same ids, and what follows it ("assistant" and a line end) is short and nearly always the same.
        """
        hit = deque(self.control.finditer(prompt), maxlen=1)
        if not hit or len(prompt) - hit[0].end() > _LONGEST_TAIL:
            return None
        begin, end = hit[0].span()
        tail = self._tail_ids(prompt[begin:end], prompt[end:])
        at = bisect_left(whole.starts, begin)
        if tail is None or whole.ids[at : at + 1] != tail[:1] or whole.ends[at] != end:
            return None
        return whole.ids[:at] + tail

    def _tail_ids(self, token: str, text: str) -> list[int] | None:
        """Return the ids of a control token and the text after it, None if the text runs into the token."""
        key = token, text
        if key not in self._tails:
            encoding = self._encoder.encode(token + text)
            alone = encoding.offsets[:1] == [(0, len(token))] and encoding.tokens[0] == token
            if len(self._tails) >= _KEPT_TAILS:
                self._tails.clear()
            self._tails[key] = encoding.ids if alone else None
        return self._tails[key]

    def _joint(self, prompt_ids: list[int], whole: Placed, begin: int, turn: Sequence[Piece]) -> tuple[Placed, int]:
        first = len(prompt_ids)
        if whole.ids[:first] == prompt_ids and min(whole.starts[first:], default=begin) >= begin:
            return whole, first
        # A merge across the boundary: keep the prompt's ids and tokenise the turn by itself.
        alone = self._within(turn) if self.spaced else self.encode(turn)
        starts, ends = ([0] * first + [begin + at for at in places] for places in (alone.starts, alone.ends))
        return Placed(prompt_ids + alone.ids, starts, ends, whole.text), first

    def _within(self, turn: Sequence[Piece]) -> Placed:
        """Tokenise a turn as it stands in running text: without the space that the tokenizer puts before a text."""
        found = self.encode([Piece(_BEFORE, True), *turn])
        first = bisect_left(found.starts, len(_BEFORE))
        if max(found.ends[:first], default=0) > len(_BEFORE):  # it merges with what stands before it
            return self.encode(turn)
        starts, ends = ([at - len(_BEFORE) for at in places[first:]] for places in (found.starts, found.ends))
        return Placed(found.ids[first:], starts, ends, found.text[len(_BEFORE) :])

    def _meant(self, pieces: Sequence[Piece], text: str) -> list[tuple[int, int]] | None:
        """Return where the control tokens of literal pieces are in the text; None where it has no others."""
        meant: list[tuple[int, int]] = []
        position = 0
        for piece in pieces:
            if piece.literal:
                meant += [(position + hit.start(), position + hit.end()) for hit in self.control.finditer(piece.text)]
            position += len(piece.text)
        return None if meant == [hit.span() for hit in self.control.finditer(text)] else meant

    def _under_aliases(self, text: str, meant: Sequence[tuple[int, int]]) -> Placed:
        """Tokenise with the control tokens that are meant under their alias, all others as plain text."""
        parts: list[str] = []
        origin: list[int] = []  # of each character
        at = 0
        for start, end in meant:
            alias = self._alias[text[start:end]]
            parts += [text[at:start], alias]
            origin += [*range(at, start), *[start] * len(alias)]
            at = end
        parts.append(text[at:])
        origin += range(at, len(text) + 1)
        encoding = self._plain_encoder.encode("".join(parts))
        unwanted = self._control_ids.intersection(encoding.ids)
        if unwanted:
            token = self._tokenizer.convert_ids_to_tokens(min(unwanted))
            raise DataError(f"a text holds {token!r}, which this tokenizer always reads as a control token; remove it")
        ids = [self._id_of_alias.get(number, number) for number in encoding.ids]
        starts, ends = _starts_and_ends(encoding)
        return Placed(ids, [origin[start] for start in starts], [origin[end] for end in ends], text)
