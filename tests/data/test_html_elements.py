"""Both that translate HTML, files and marked-up texts of clients, take each element alike."""

from __future__ import annotations

import pytest

from lingraft.data.html_elements import ALONE, KEPT, PHRASING, VOID, WORDS
from lingraft.documents.html import Html
from lingraft.translation.markup import TagRules, runs

BLOCKS = ("div", "p", "button", "td", "section", "option")
CELLS = "one {} two"


def as_file(text: str) -> list[str]:
    parsed = Html().parse(text.encode(), "a.html", "en", "de")
    return [one.text for one in parsed.segments]


def as_text(text: str) -> list[str]:
    return [run.asked for run in runs(text, TagRules()) if run.asked]


def words(found: list[str]) -> list[str]:
    """Each part without its tags."""
    return [
        " ".join(word for word in text.replace("<", " <").replace(">", "> ").split() if "<" not in word)
        for text in found
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (sorted(PHRASING), ["one inner two"]),
        (sorted(WORDS), ["one two"]),
        (sorted(KEPT - WORDS), ["one", "two"]),
        (BLOCKS, ["one", "inner", "two"]),
    ],
    ids=["within", "words", "kept", "blocks"],
)
def test_an_element_with_content(names: list[str], expected: list[str]) -> None:
    for name in names:
        text = CELLS.format(f"<{name}>inner</{name}>")
        assert words(as_file(text)) == expected, name
        assert words(as_text(text)) == expected, name


def test_an_element_without_an_end() -> None:
    for name in sorted(VOID - {"br"}):
        text = CELLS.format(f"<{name}>")
        expected = ["one two"] if name in ALONE else ["one", "two"]
        assert words(as_file(text)) == expected, name
        assert words(as_text(text)) == expected, name
    assert len(as_file("one<br>two")) == 2  # of a page a line; a text of a client is one sentence
    assert len(as_text("one<br>two")) == 1
