"""Lines and texts in blocks: what is asked for, what is copied, and that nothing is lost between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.language.characters import is_blank
from lingraft.translation.blocks import TextBlock, document_blocks, line_blocks

SUBTITLES = [
    "1",
    "00:00:01,000 --> 00:00:03,500",
    "Guten Morgen.",
    "",
    "2",
    "00:00:04,000 --> 00:00:05,500",
    "Bis bald.",
]
UNSEEN = ("  ", "\u200b", "\u3164")
TABLE = ["| Name | 12 |", "|------|:--:|", "***", *UNSEEN, "12.50 €", "😀", "Ende."]
CODE = ["Vorher.", "```python", 'print("Hallo")', "```", "Nachher.", "```js", "offen"]


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("lines", "translated"),
    [
        (SUBTITLES, ["Guten Morgen.", "Bis bald."]),
        (TABLE, ["| Name | 12 |", "Ende."]),
        (CODE, ["Vorher.", "Nachher.", "```js", "offen"]),  # a fence that nothing closes is a line like others
        (["~~~", "Text", "~~~"], []),
    ],
)
def test_lines_without_letters_and_code_are_copied(lines: list[str], translated: list[str]) -> None:
    blocks = line_blocks(lines)
    shown = ["" if line in UNSEEN else line for line in lines]
    assert [(block.line, block.text, block.end) for block in blocks] == [
        (number, line, "\n") for number, line in enumerate(shown, start=1)
    ]
    assert [block.text for block in blocks if block.translate] == translated
    whole = document_blocks(lines, 100, words, "de", "en")
    assert "".join(block.text + block.end for block in whole) == "".join(f"{line}\n" for line in shown)
    assert [line for block in whole if block.translate for line in block.text.split("\n")] == translated


def test_a_paragraph_is_one_block_unless_it_is_long() -> None:
    lines = ["Eins zwei.", "Drei.", "", "Vier fünf. Sechs sieben acht. Neun.", "Zehn elf zwölf dreizehn."]
    short = document_blocks(lines, 100, words, "de", "en")
    assert [(block.line, block.text) for block in short] == [
        (1, "Eins zwei.\nDrei."),
        (3, ""),
        (4, "Vier fünf. Sechs sieben acht. Neun.\nZehn elf zwölf dreizehn."),
    ]
    for target, space in (("en", " "), ("ja", ""), ("zh-TW", "")):
        assert document_blocks(lines, 4, words, "de", target)[2:] == [
            TextBlock(4, "Vier fünf.", space),
            TextBlock(4, "Sechs sieben acht. Neun.", "\n"),
            TextBlock(5, "Zehn elf zwölf dreizehn.", "\n"),  # one sentence is not cut
        ]


@given(st.lists(st.text(st.sampled_from("aä.! \t-`|1\u200b中。"), max_size=40), max_size=8), st.integers(1, 6))
def test_no_letter_and_no_line_is_lost(lines: list[str], most: int) -> None:
    blocks = document_blocks(lines, most, words, "de", "en")
    joined = "".join(block.text + block.end for block in blocks)
    assert joined.count("\n") == len(lines)
    assert "".join(joined.split()) == "".join("".join(line for line in lines if not is_blank(line)).split())
    assert [block.line for block in blocks] == sorted(block.line for block in blocks)
