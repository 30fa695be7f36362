"""Every family of models: losses, adapter and answers are the library's, or it is refused in a sentence."""

from __future__ import annotations

import pytest

from families import families
from matrix import tried

COMMON = (
    "llama",
    "gemma2",
    "gemma3",
    "qwen3_5",
    "falcon_h1",
    "nemotron_h",
    "llama4",
    "mistral3",
    "rwkv",
    "gemma3n_text",
)
OFTEN = ("llama", "gemma3", "qwen3_5", "rwkv")
"""Of these, one of each kind of layers: plain attention, windows, linear attention, recurrence."""
REFUSED = ("bert", "bert-generation")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in (*OFTEN, *REFUSED) else [pytest.mark.long])
        for name in sorted({*families()} - {"xlstm"})  # the library itself cannot write with a tiny one
    ],
)
def test_what_a_family_does_is_what_the_library_does(family: str) -> None:
    found = tried(family)
    assert not found.wrong
    if found.refused:
        assert family not in COMMON
        assert family in REFUSED or "logits" in found.refused or "follow" in found.refused
        assert "\n" not in found.refused
    else:
        assert family not in REFUSED
        assert 0 < found.share <= 1
