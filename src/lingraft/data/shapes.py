"""From one raw row to the parts of a pair or a prompt: the forms in which such data is published.

Pairs: {"source", "target"}; {"source", "references"} (WMT); {"translation": {code: text}} (Hugging Face);
{"messages"} (chat); {code: text} (flat). Prompts: {"messages"}, {"prompt"}, {"instruction", "input", "output"}
(Alpaca), {"goal"} (AdvBench), {"question"}, {"turns"} (MT-Bench), {"text"}. Documents: {"text"}, {"content"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lingraft.data import reasons
from lingraft.data.languages import base_language, language
from lingraft.data.records import Message
from lingraft.errors import UsageError

Values = Mapping[str, Any]

PROMPT_FIELDS = ("prompt", "instruction", "goal", "question", "text")
"""Fields that hold a prompt's text, in the order in which they are looked for."""


TEXT_FIELDS = ("text", "content")
"""Fields that hold a document."""


class RowProblem(Exception):
    """Internal: a row that cannot be used; becomes a `Rejected`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail[:200]


@dataclass(frozen=True, slots=True)
class PairParts:
    """What a row says of a pair; `id_is_text`: its "id" is a side, in Indonesian, and no identifier."""

    source: str
    target: str
    references: tuple[str, ...] = ()
    id_is_text: bool = False


@dataclass(frozen=True, slots=True)
class PromptParts:
    """What a row says of a prompt: turns up to the last user turn, and the reference answer if there is one."""

    messages: tuple[Message, ...]
    reference: str | None


MAX_FIELDS = 1000
"""Most fields of a row or of its translation: each may have to be compared with a language."""

MAX_TAG = 35
"""Characters of the longest language tag that RFC 5646 asks to support."""


@lru_cache(maxsize=4096)
def language_tag(key: str) -> str | None:
    """Return the normalised tag that a key is, or None for what is no code of a language."""
    if len(key) > MAX_TAG:
        return None
    try:
        return language(key)
    except UsageError:
        return None


@lru_cache(maxsize=256)
def language_key(keys: tuple[str, ...], code: str) -> str | None:
    """Return the key that stands for language `code`: exact, else the same tag, else the same primary subtag."""
    if code in keys:
        return code
    tags = {key: tag for key in keys if (tag := language_tag(key)) is not None}
    for key, tag in tags.items():
        if tag == code:
            return key
    return next((key for key, tag in tags.items() if base_language(tag) == base_language(code)), None)


def pair_parts(values: Values, source_lang: str, target_lang: str) -> PairParts:
    """Return the sides of a pair in whichever form `values` has.

    Raises:
        RowProblem: no known form, a side that is not a text, or other languages than declared.
    """
    for field, code in (("source_lang", source_lang), ("target_lang", target_lang)):
        if values.get(field) is not None:
            _same_language(field, values[field], code)
    references = values.get("references")
    if "source" in values and ("target" in values or references is not None):
        others = _references(references, target_lang)
        if "target" not in values and not others:
            raise RowProblem(reasons.MALFORMED, "the field 'references' holds no text")
        target = _text(values, "target") if "target" in values else others.pop(0)
        return PairParts(_text(values, "source"), target, tuple(other for other in others if other != target))
    if "translation" in values:
        translation = values["translation"]
        if not isinstance(translation, Mapping):
            raise RowProblem(reasons.MALFORMED, "the field 'translation' is not an object")
        sides = _flat(translation, source_lang, target_lang)
        if sides is None:
            raise _missing(translation, "in 'translation'")
        return PairParts(sides.source, sides.target)
    if "messages" in values:
        return _conversation_sides(values["messages"])
    flat = _flat(values, source_lang, target_lang) or _nested(values, source_lang, target_lang)
    if flat is None:
        raise _missing(values, "in the row")
    return flat


def _nested(values: Values, source_lang: str, target_lang: str) -> PairParts | None:
    """Return the sides where one object of the row holds both languages, as {"cs-en": {"cs": ..., "en": ...}} does."""
    objects = [value for value in values.values() if isinstance(value, Mapping)]
    found = [sides for value in objects if (sides := _flat(value, source_lang, target_lang)) is not None]
    return PairParts(found[0].source, found[0].target) if len(found) == 1 else None


def _missing(values: Values, where: str) -> RowProblem:
    return RowProblem(reasons.MISSING_FIELD, f"fields {where}: {', '.join(map(repr, values)) or 'none'}")


def _tags(values: Values) -> tuple[str, ...]:
    if len(values) > MAX_FIELDS:
        raise RowProblem(reasons.MALFORMED, f"more than {MAX_FIELDS:,} fields")
    return tuple(key for key in values if len(key) <= MAX_TAG)


def _flat(values: Values, source_lang: str, target_lang: str) -> PairParts | None:
    keys = _tags(values)
    source, target = language_key(keys, source_lang), language_key(keys, target_lang)
    if source is None or target is None or source == target:
        return None
    return PairParts(_text(values, source), _text(values, target), (), "id" in (source, target))


def _same_language(field: str, given: object, declared: str) -> None:
    tag = language_tag(given) if isinstance(given, str) and len(given) <= MAX_TAG else None
    if tag is None or (tag != declared and declared != base_language(tag) and tag != base_language(declared)):
        raise RowProblem(reasons.LANGUAGE_MISMATCH, f"{field} is {given!r:.80}, declared is {declared!r}")


def _references(value: Any, target_lang: str) -> list[str]:
    """Return the references in order; a mapping may name them ("A", "B") or be keyed by language."""
    if isinstance(value, Mapping):
        key = language_key(_tags(value), target_lang)
        value = list(value.values()) if key is None else value[key]
    if value is None:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not all(item is None or isinstance(item, str) for item in value):
        raise RowProblem(reasons.MALFORMED, "the field 'references' is not a list or an object of texts")
    return [item for item in value if item is not None and item.strip()]


def _text(values: Values, field: str) -> str:
    value = values[field]
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise RowProblem(reasons.MALFORMED, f"the field {field!r} is {kind}, not a text")
    return value


def document_text(values: Values) -> str:
    """Return the text of a document.

    Raises:
        RowProblem: no known form, or a text that is none.
    """
    field = next((name for name in TEXT_FIELDS if name in values), None)
    if field is None:
        raise _missing(values, "in the row")
    return _text(values, field)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowProblem(reasons.MALFORMED, "the field 'messages' is not a list")
    messages = []
    for item in value:
        role, content = (item.get("role"), item.get("content")) if isinstance(item, Mapping) else (None, None)
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise RowProblem(
                reasons.MALFORMED, "a message needs a role (system, user, assistant) and a text as content"
            )
        messages.append(Message(role, content))
    return tuple(messages)


def _conversation_sides(value: Any) -> PairParts:
    last = {message.role: message.content for message in _messages(value)}
    if "user" not in last or "assistant" not in last:
        raise RowProblem(reasons.MALFORMED, "the field 'messages' lacks a user or an assistant turn")
    return PairParts(last["user"], last["assistant"])


def prompt_parts(values: Values) -> PromptParts:
    """Return the conversation in whichever form `values` has; a final assistant turn becomes the reference.

    Raises:
        RowProblem: no known form, a text that is none, or nothing to answer.
    """
    given = values.get("reference")
    if isinstance(given, Sequence) and not isinstance(given, str):  # MT-Bench: one for each turn
        given = given[0] if given else None
    reference = given if isinstance(given, str) else None
    if "messages" in values:
        messages = _messages(values["messages"])
        if messages and messages[-1].role == "assistant":
            reference = reference or messages[-1].content
            messages = messages[:-1]
        if not messages or messages[-1].role != "user":
            raise RowProblem(reasons.MALFORMED, "the field 'messages' has no user turn to answer")
    elif "turns" in values and not any(field in values for field in PROMPT_FIELDS):
        turns = values["turns"]
        if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns or not isinstance(turns[0], str):
            raise RowProblem(reasons.MALFORMED, "the field 'turns' is not a list of texts")
        messages = (Message("user", turns[0]),)
    else:
        field = next((name for name in PROMPT_FIELDS if name in values), None)
        if field is None:
            raise _missing(values, "in the row")
        text = _text(values, field)
        if field == "instruction":
            extra = _text(values, "input") if values.get("input") is not None else ""
            text = f"{text}\n\n{extra}" if extra.strip() else text
            output = values.get("output")
            reference = reference or (output if isinstance(output, str) else None)
        messages = (Message("user", text),)
    return PromptParts(messages, reference or None)
