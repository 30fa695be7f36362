"""Training text carried to another language: what of the answers is not good enough, and translations that a file
holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, UsageError
from lingraft.data.files import locate
from lingraft.data.formats import json_rows
from lingraft.data.records import Generation, Message, Rejected
from lingraft.data.row_shapes import RowProblem, chat_field, chat_messages, with_input
from lingraft.language.characters import columns, is_blank
from lingraft.language.codes import base_language, language, match_column
from lingraft.language.measures import is_echo, is_looping, letter_count, written_in
from lingraft.language.numerals import Numerals, mentions
from lingraft.language.thinking import said, thinks
from lingraft.translation.by_sentence import answered_pieces, put_together

SOURCES = ("source", "text", "instruction", "output", "en")
TARGETS = ("target", "translation")
"""Fields of a row of a file of translations; `instruction_th`, `output_th` and `th` serve for Thai as well."""

REASONS = ("thinking", "empty", "unfinished", "looping", "echo", "length_ratio", "wrong_language", "numbers_lost")

_CHAIN = re.compile(
    r"<EN>(?P<query>.*?)<RESPONSE>(?P<answer>.*?)<(?P<tag>[A-Z]{2,3})>(?P<native>.*)", re.DOTALL
)  # as TransLLM's training files have it
_JUDGED = 20  # letters of a sentence's translation from which it is judged by itself
_SHORT = 20  # a text under so many columns counts as so long in the length ratio


def from_graft(id_: str, text: str, lang: str, generations: Mapping[str, Generation]) -> tuple[str, str]:
    """Return the translation made of the answers to `graft_requests`, or the reason why there is none.

    Args:
        id_: of the text, as given to `graft_requests`.
        text: as given to `graft_requests`.
        lang: language code of the translation.
        generations: request id -> answer.
    """
    pieces, answers = answered_pieces(id_, text, "en", generations)
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
    """Return the answer to `engine_requests`, or the reason why there is none.

    Args:
        id_: of the text, as given to `engine_requests`.
        text: as given to `engine_requests`.
        generations: request id -> answer.
    """
    if not letter_count(text):
        return text, ""
    answer = generations[f"{id_}:0"]
    found = said(answer.text, text)
    if found.thought and is_blank(found.text):
        return "", "thinking"
    if answer.finish_reason == "length":
        return "", "unfinished"
    return found.text.strip(), ""


def fault(source: str, target: str, lang: str, max_ratio: float) -> str:
    """Return the first of `REASONS` against a translation of an English text, "" if there is none.

    Args:
        source: the English text.
        target: its translation.
        lang: language code of the translation.
        max_ratio: longest to shortest of both, in columns (full-width characters count twice).
    """
    if is_blank(target):
        return "empty"
    if is_looping(target):
        return "looping"
    if not letter_count(source):
        return ""
    if is_echo(target, source):
        return "echo"
    short, long = sorted(max(columns(text), _SHORT) for text in (source, target))
    if long > max_ratio * short:
        return "length_ratio"
    if not written_in(target, lang, ("en",)):
        return "wrong_language"
    kept = Numerals(target)
    lost = any(not number.single and not kept.count(number) for number in mentions(source, "en"))
    return "numbers_lost" if lost else ""


class GivenTranslations:
    """Translations of English texts that a JSON or JSON Lines file holds, looked up by the exact text.

    A row has texts as `SOURCES`, each with its translation as `<source field>_<language>`; or one text, whose
    translation is one of `TARGETS` or under the language's code. The `input` of an `instruction` is joined to it as in
    prompts, its translation to the instruction's. Conversations (`CHAT_FIELDS`) are translated in
    `conversations_<language>`, or hold the chain of thought that TransLLM is trained on, `<EN> question <RESPONSE>
    answer <TH> translation`; one in the other language alone is that of the prompt with its id, if it is for one
    language. Where a row says `target_lang`, it is for that language alone.

    Raises:
        DataError: missing or unreadable file, or no row with a translation.
    """

    def __init__(self, path: str, languages: Sequence[str]) -> None:
        self._found: dict[tuple[str, str], str] = {}
        self._by_id: dict[tuple[str, str], tuple[str, str]] = {}
        for row in json_rows(locate(path, "json", Path())):
            if isinstance(row, Rejected):
                continue
            own = _language(row.record.get("target_lang"))
            for code in languages:
                if own in ("", base_language(code)):
                    self._add(row.record, code, alone=bool(own) or len(languages) == 1)
        if not self._found and not self._by_id:
            raise DataError(
                f"{path}: no row has a text as {', '.join(map(repr, SOURCES))} and its translation as "
                f"{', '.join(map(repr, TARGETS))} or under the language's code, or a conversation and its translation; "
                f"rename the fields"
            )

    def _add(self, values: Mapping[str, Any], code: str, *, alone: bool) -> None:
        lang = base_language(code)
        for text, translation in (*_texts(values, code), *_turns(values, code)):
            self._found.setdefault((lang, text.strip()), translation.strip())
        if alone and (pair := _native(values, code)):
            self._by_id.setdefault((lang, str(values["id"])), pair)

    def get(self, text: str, lang: str) -> str | None:
        """Return the translation of a text."""
        return self._found.get((base_language(lang), text.strip()))

    def of_prompt(self, id_: str, lang: str) -> tuple[str, str] | None:
        """Return the question and the answer of a conversation that is in the other language alone, by its id."""
        return self._by_id.get((base_language(lang), id_))


def _texts(values: Mapping[str, Any], code: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a row, each with its translation."""
    for field in (name for name in SOURCES if isinstance(values.get(name), str)):
        names: list[str | None] = [match_column(values, f"{field}_", code)]
        names += [match_column(values, "", code)] if field in ("source", "text", "en") else []
        names += TARGETS if field in ("source", "text", "instruction") else ()
        name = next((name for name in names if name is not None and isinstance(values.get(name), str)), None)
        if name is None:
            continue
        extra = values.get("input") if field == "instruction" else None
        if not isinstance(extra, str) or is_blank(extra):
            yield values[field], values[name]
            continue
        carried = values.get(match_column(values, "input_", code) or "")
        if name in TARGETS and not isinstance(carried, str):  # of the whole
            yield with_input(values[field], extra), values[name]
        else:
            yield values[field], values[name]
            if not isinstance(carried, str) and not letter_count(extra):  # figures and signs stay
                carried = extra
            if isinstance(carried, str):
                yield with_input(values[field], extra), with_input(values[name], carried)


def _turns(values: Mapping[str, Any], code: str) -> Iterator[tuple[str, str]]:
    """Yield the turns of a row's conversation, each with its translation."""
    field = chat_field(values)
    name = match_column(values, f"{field}_", code) if field else None
    own, other = _conversation(values, field), _conversation(values, name or "")
    if [turn.role for turn in own] == [turn.role for turn in other]:
        yield from ((one.content, two.content) for one, two in zip(own, other, strict=True))
    for question, reply in pairwise(own):
        chain = _CHAIN.fullmatch(reply.content.strip()) if reply.role == "assistant" else None
        if chain and base_language(chain["tag"].lower()) == base_language(code):
            yield chain["query"], question.content
            yield chain["answer"], chain["native"]


def _native(values: Mapping[str, Any], code: str) -> tuple[str, str] | None:
    """Return question and answer of a conversation of one turn each without English, to be found by its id."""
    turns = [turn for turn in _conversation(values, chat_field(values)) if turn.role != "system"]
    if not isinstance(values.get("id"), str | int) or [turn.role for turn in turns] != ["user", "assistant"]:
        return None
    question, answer = (turn.content.strip() for turn in turns)
    return None if _CHAIN.fullmatch(answer) or not written_in(question, code, ("en",)) else (question, answer)


def _conversation(values: Mapping[str, Any], field: str) -> tuple[Message, ...]:
    try:
        return chat_messages(values, field) if field else ()
    except RowProblem:
        return ()


def _language(value: object) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return base_language(language(value))
    except UsageError:
        return value
