"""Whether the first row of a table is a header though nobody knows its names: told from how it and the rows below look.

Two columns without a known header are pairs, so that `input,output` above sentences would be one. Ordinary first rows
must not be taken for names: single words are names only above rows of which none is a single word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal

from lingraft.language.codes import COMMON, language_name

Look = Literal["", "names", "words"]
"""What a first row looks like: a row, surely names of columns, or words that may be such."""

# fmt: off
_WORDS: tuple[set[str], ...] = (
    {
        "input", "output", "text", "texts", "sentence", "sentences", "segment", "string", "line", "paragraph",
        "question", "answer", "query", "response", "reply", "prompt", "completion", "instruction", "chosen",
        "left", "right", "from", "to", "first", "second", "premise", "hypothesis", "original", "translated",
        "translation", "reference", "source", "target", "human", "machine", "user", "assistant", "native",
        "foreign", "key", "value", "term", "definition", "content", "message", "column", "col", "field",
        "lang", "language", "raw", "clean",
    },
    {"frage", "antwort", "eingabe", "ausgabe", "satz", "text", "begriff", "übersetzung", "quelle", "ziel", "spalte"},
    {"question", "réponse", "entrée", "sortie", "texte", "phrase", "gauche", "droite"},
    {"pregunta", "respuesta", "entrada", "salida", "texto", "frase", "izquierda", "derecha"},
    {"вопрос", "ответ", "ввод", "вывод", "текст", "предложение"},
    {"问题", "答案", "输入", "输出", "文本", "句子"},
    {"質問", "回答", "入力", "出力", "テキスト"},
)
# fmt: on
"""What columns of text are called, by language: two words of one language are no translation of each other."""

_IDENTIFIER = re.compile(r"[^\W\d_]+(?:_[^\W_]+)+|[^\W\d_A-Z]{1,12}\d{1,2}|[a-z]{2,}(?:[A-Z][a-z]+)+")
"""`source_text`, `text1`, `sourceText`: no text is written so."""

_WORD = re.compile(r"[^\W\d_]{2,30}")
_PART = re.compile(r"[\s_.:-]+")
_MIN_BELOW = 10
"""Rows below from which a row of words is judged."""


def looks_like_header(cells: Sequence[str], below: Sequence[Sequence[str]]) -> Look:
    """Say what the first row of a table looks like.

    Args:
        cells: of the first row, as many as are needed.
        below: cells of the next rows.

    Returns:
        "names" if all cells are identifiers, or words for columns in one language, and no row below is of that kind;
        "words" if two or more are each one word in small letters, where no cell below is one word, and nearly all
        begin with a capital (or in a script without); else "".
    """
    names = [cell.strip() for cell in cells]
    rows = [row for one in below if any(row := [cell.strip() for cell in one])]
    if not rows or len({name.casefold() for name in names}) < len(names):
        return ""
    if _are_names(names):
        return "" if any(map(_are_names, rows)) else "names"
    others = [cell for row in rows for cell in row if cell]
    if len(names) < 2 or len(rows) < _MIN_BELOW or not all(name.islower() and _is_word(name) for name in names):
        return ""
    small = sum(cell[0].islower() for cell in others)
    return "" if any(map(_is_word, others)) or 10 * small > len(others) else "words"


def _are_names(cells: Sequence[str]) -> bool:
    """Say whether all cells of a row are identifiers, or words for columns in one language."""
    plain = [cell for cell in cells if not _IDENTIFIER.fullmatch(cell)]
    if len(plain) == len(cells) and all(len(cell) == 1 for cell in cells):  # "q", "a"
        return all(cell.isascii() and cell.isalpha() for cell in cells)
    return bool(cells) and any(all(_of_columns(cell, words) for cell in plain) for words in _words())


@cache
def _words() -> tuple[set[str], ...]:
    """Return `_WORDS`, in English the names of languages as well."""
    english, *others = _WORDS
    return (english | {language_name(code).casefold() for code in COMMON}, *others)


def _of_columns(cell: str, words: set[str]) -> bool:
    """Say whether a cell is a word for a column, maybe with a number or a letter ("Text 1", "Sentence B")."""
    parts = [part for part in _PART.split(cell.casefold()) if part] if len(cell) <= 40 else []
    return (
        bool(parts)
        and parts[0] in words
        and all(part in words or part.isdecimal() or len(part) == 1 for part in parts[1:])
    )


def _is_word(cell: str) -> bool:
    return _WORD.fullmatch(cell) is not None or _IDENTIFIER.fullmatch(cell) is not None
