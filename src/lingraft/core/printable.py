"""Words of strangers made fit to be shown: in a terminal, a log, a table. One place for all of them.

A file's name, a row, a server's answer or what a model writes may hold characters that a terminal obeys (colours,
titles, lines written over), that turn the order of what is read, or that a spreadsheet takes for a formula.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

MOST = 500
"""Characters of a sentence that names what strangers wrote."""

_LINES = "\n\t"

_SHOWN: dict[int, str | int] = {
    **{code: 0x2400 + code for code in range(0x20)},  # the symbols that stand for them
    0x7F: 0x2421,
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},  # C1: U+009B begins a command as ESC [ does
    **{
        code: f"\\u{code:04x}"
        for first, last in (
            (0x2028, 0x202E),  # ends of lines and paragraphs; embeddings and overrides of the direction
            (0x2066, 0x2069),  # isolates (the marks LRM and RLM are part of right-to-left text, and stay)
            (0xFEFF, 0xFEFF),  # a blank without width
            (0xFFF9, 0xFFFB),  # annotations
            (0xD800, 0xDFFF),  # halves of surrogate pairs, which cannot be encoded
        )
        for code in range(first, last + 1)
    },
}
_SHOWN_LINES = {code: shown for code, shown in _SHOWN.items() if chr(code) not in _LINES}


def printable(text: object, limit: int | None = MOST, *, lines: bool = False) -> str:
    """Return a text that no terminal, log or reader takes for anything but text.

    Control characters become the symbols that stand for them or escapes, as do marks that change the direction of what
    follows, and halves of surrogate pairs. What is too long loses its middle: the end is where a remedy stands.

    Args:
        text: of whatever origin; anything but a string is first written as one.
        limit: characters that are shown; None: all.
        lines: whether ends of lines and tabs stay what they are; else they are symbols, and the text is one line.
    """
    text = str(text)
    if limit is not None and len(text) > limit:
        end = limit // 3
        left = len(text) - limit
        text = f"{text[: limit - end]} [... {left:,} characters ...] {text[len(text) - end :]}"
    return text.translate(_SHOWN_LINES if lines else _SHOWN)


_FORMULA = re.compile(r"""(^|[;\t\r\n])([\s"]*)(?=[=+\-@＝＋－＠])|(,)("*)(?=[=+\-@＝＋－＠])""")
"""Where a formula would begin: in a cell, or in what another separator makes a cell of; a comma before a blank is
punctuation."""


def csv_text(rows: Iterable[Sequence[Any]], *, line_end: str = "\n") -> str:
    """Return rows as CSV of which no spreadsheet program runs anything.

    Every cell is quoted. In texts, an apostrophe stands before what would begin a formula, also behind a semicolon, tab
    or end of line: a program that separates by these (Excel in most of Europe) begins a cell there. Numbers are as they
    are, and control characters but tabs and ends of lines are shown.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    lines = value.replace("\r\n", "\n").replace("\r", "\n")
    return _FORMULA.sub(r"\1\2\3\4'", printable(lines, None, lines=True))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2212": "$-$",
}


def latex(text: str) -> str:
    """Return `text` as LaTeX that is set as itself, ends of lines as blanks."""
    return "".join(_LATEX.get(character, character) for character in printable(_BREAK.sub(" ", text), None))


_BREAK = re.compile(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#~$])")


def markdown(text: str) -> Markup:
    """Return `text` as one line of Markdown that renders as itself."""
    return Markup(_MARKDOWN.sub(r"\\\1", html.escape(_line(text), quote=False)))


def plain(text: str) -> Markup:
    """Return `text` without line breaks, for a cell whose characters are known to be harmless (numbers, marks)."""
    return Markup(html.escape(_line(text), quote=False))


_CODE = re.compile(r"[^\s`|<\\\"]+( [^\s`|<\\\"]+)*")


def inline_code(value: object) -> Markup:
    """Return a value as inline code: plain text as it is, everything else in JSON notation.

    Backticks and pipes would end the code or a table cell; they are written as the JSON escapes of the same characters.
    """
    if isinstance(value, str) and _CODE.fullmatch(value) and printable(value, None) == value:
        return Markup(f"`{value}`")
    text = printable(json.dumps(value, ensure_ascii=False, default=str), None)
    escapes = {"`": "\\u0060", "|": "\\u007c", "<": "\\u003c"}
    return Markup(f"`{re.sub(r'[`|<]', lambda match: escapes[match[0]], text)}`")


def fence(text: str, language: str = "") -> Markup:
    """Return `text` as a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return Markup(f"{ticks}{language}\n{printable(text.rstrip(), None, lines=True)}\n{ticks}")


def _line(text: str) -> str:
    return printable(" ".join(text.split()), None)
