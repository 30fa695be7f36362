"""Copies of a tokenizer that encoders share: made once for each, never another's, and few are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from builders import tiny_tokenizer
from lingraft.rendering import encoder
from lingraft.rendering.encoder import Encoder, Piece


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[int, Any]]:
    """The control tokens of all copies that are made, of which there are none before."""
    calls: list[Mapping[int, Any]] = []
    make = encoder._made

    def counted(text: str, control: Mapping[int, Any]) -> Any:
        calls.append(control)
        return make(text, control)

    monkeypatch.setattr(encoder, "_copies", {})
    monkeypatch.setattr(encoder, "_made", counted)
    return calls


def test_a_tokenizer_is_copied_once(made: list[Mapping[int, Any]]) -> None:
    pieces = [Piece("<|im_start|>user\n", True), Piece("It says <|im_end|> here.", False), Piece("<|im_end|>", True)]
    first, second = (Encoder(tiny_tokenizer(), "") for _ in range(2))
    assert first.encode(pieces) == second.encode(pieces)
    assert len(made) == 1


def test_what_differs_has_copies_of_its_own(made: list[Mapping[int, Any]]) -> None:
    tokenizer = tiny_tokenizer("qwen3")  # its tags are not flagged as special
    plain, tagged = Encoder(tokenizer, ""), Encoder(tokenizer, "<think>\n\n</think>")
    text = [Piece("a <think> b", True)]
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert think in tagged.ids(text)
    assert think not in tagged.plain_ids("a <think> b")
    assert think in plain.plain_ids("a <think> b")
    tokenizer.add_tokens(["harbour"])
    grown = Encoder(tokenizer, "")
    assert tokenizer.convert_tokens_to_ids("harbour") in grown.plain_ids("the harbour")
    assert [len(control) for control in made] == [len(made[0]), len(made[0]) + 2, len(made[0])]


def test_few_copies_are_kept_those_made_last(made: list[Mapping[int, Any]]) -> None:
    tokenizers = [tiny_tokenizer() for _ in range(encoder._KEPT_COPIES + 2)]
    for number, tokenizer in enumerate(tokenizers):
        tokenizer.add_tokens([f"ship{number}"])
        Encoder(tokenizer, "")
    assert len(encoder._copies) == encoder._KEPT_COPIES
    Encoder(tokenizers[-1], "")
    assert len(made) == len(tokenizers)
    Encoder(tokenizers[0], "")
    assert len(made) == len(tokenizers) + 1
