"""Training text carried to another language: what of the answers is not good enough, and translations that a file
holds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from lingraft.data.characters import is_blank
from lingraft.data.files import locate
from lingraft.data.formats import jsonl_rows
from lingraft.data.languages import base_language, language, match_column
from lingraft.data.records import Generation, Rejected
from lingraft.errors import DataError, UsageError
from lingraft.numerals import Numerals, mentions
from lingraft.text import is_echo, is_looping, letter_count, written_in
from lingraft.thinking import said, thinks
from lingraft.translating import answered_pieces, put_together

SOURCES = ("source", "text", "instruction", "output", "en")
TARGETS = ("target", "translation")
"""Fields of a row of a file of translations; `instruction_th`, `output_th` and `th` serve for Thai as well."""

REASONS = ("thinking", "empty", "unfinished", "looping", "echo", "length_ratio", "wrong_language", "numbers_lost")

_JUDGED = 20  # letters of a sentence's translation from which it is judged by itself
_SHORT = 20  # a text under so many columns counts as so long in the length ratio


def from_graft(id_: str, text: str, lang: str, generations: Mapping[str, Generation]) -> tuple[str, str]:
    """Return the translation made of the answers to `graft_requests`, or the reason why there is none."""
    pieces, answers = answered_pieces(id_, text, generations)
    if any(thinks(answer.text, text) for answer in answers):
        return "", "thinking"
    if any(is_blank(answer.text) for answer in answers):
        return "", "empty"
    if any(answer.finish_reason == "length" for answer in answers):
        return "", "unfinished"
    for source, answer in zip((piece.text for piece in pieces if piece.translate), answers, strict=True):
        # One sentence among many would not show in the whole; names and other short pieces may stay as they are.
        if letter_count(answer.text) >= _JUDGED:
            if is_echo(answer.text, source):
                return "", "echo"
            if not written_in(answer.text, lang, ("en",)):
                return "", "wrong_language"
    return put_together(pieces, [answer.text for answer in answers], lang), ""


def from_engine(id_: str, text: str, generations: Mapping[str, Generation]) -> tuple[str, str]:
    """Return the answer to `engine_requests`, or the reason why there is none."""
    if not letter_count(text):
        return text, ""
    answer = generations[f"{id_}:0"]
    found = said(answer.text, text)
    if found.thought and not found.text.strip():
        return "", "thinking"
    if answer.finish_reason == "length":
        return "", "unfinished"
    return found.text.strip(), ""


def fault(source: str, target: str, lang: str, max_ratio: float) -> str:
    """Return the first of `REASONS` against a translation of an English text, "" if there is none."""
    if is_blank(target):
        return "empty"
    if is_looping(target):
        return "looping"
    if not letter_count(source):
        return ""
    if is_echo(target, source):
        return "echo"
    short, long = sorted(max(_columns(text), _SHORT) for text in (source, target))
    if long > max_ratio * short:
        return "length_ratio"
    if not written_in(target, lang, ("en",)):
        return "wrong_language"
    kept = Numerals(target)
    lost = any(not number.single and not kept.count(number) for number in mentions(source, "en"))
    return "numbers_lost" if lost else ""


def _columns(text: str) -> int:
    """Return the width of a text: about two Latin letters for the same content as one that is written full width. Marks
    above and below others have none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) == "Mn" for character in text)


class GivenTranslations:
    """Translations of English texts that a JSON Lines file holds, looked up by the exact text.

    A row has texts as `SOURCES`, each with its translation as `<source field>_<language>`; or one text, whose
    translation is one of `TARGETS` or under the language's code. Where a row says `target_lang`, it is for that
    language alone.

    Raises:
        DataError: missing or unreadable file, or no row with a translation.
    """

    def __init__(self, path: str, languages: Sequence[str]) -> None:
        self._found: dict[tuple[str, str], str] = {}
        for row in jsonl_rows(locate(path, "jsonl", Path())):
            if isinstance(row, Rejected):
                continue
            values = row.record
            own = _language(values.get("target_lang"))
            for field in (name for name in SOURCES if isinstance(values.get(name), str)):
                for code in languages:
                    names: list[str | None] = [match_column(values, f"{field}_", code)]
                    names += [match_column(values, "", code)] if field in ("source", "text", "en") else []
                    names += TARGETS if field in ("source", "text", "instruction") else ()
                    given = (values.get(name) for name in names if name is not None)
                    target = next((text for text in given if isinstance(text, str)), None)
                    if target is not None and own in ("", base_language(code)):
                        self._found.setdefault((base_language(code), str(values[field]).strip()), str(target).strip())
        if not self._found:
            raise DataError(
                f"{path}: no row has a text as {', '.join(map(repr, SOURCES))} and its translation as "
                f"{', '.join(map(repr, TARGETS))} or under the language's code; rename the fields"
            )

    def get(self, text: str, lang: str) -> str | None:
        """Return the translation of a text."""
        return self._found.get((base_language(lang), text.strip()))


def _language(value: object) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return base_language(language(value))
    except UsageError:
        return value
