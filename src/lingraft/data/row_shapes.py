"""From one raw row to the parts of a pair or a prompt: the forms in which such data is published.

Pairs: {"source", "target"}; {"source", "references"} (WMT); {"translation": {code: text}} (Hugging Face);
{"messages"} or {"conversations"} (chat); {code: text} (flat). Prompts: the same chats, {"prompt"}, {"instruction",
"input", "output"} (Alpaca), {"goal"} (AdvBench), {"question"}, {"turns"} (MT-Bench), {"text"}. Documents: {"text"},
{"content"}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.data import reasons
from lingraft.data.records import Message
from lingraft.language.characters import is_blank
from lingraft.language.codes import MAX_TAG, language_tag, match_language, other_region, other_script, same_language

Values = Mapping[str, Any]

PROMPT_FIELDS = ("prompt", "instruction", "goal", "question", "text")
"""Fields that hold a prompt's text, in the order in which they are looked for."""


_SURROGATE = re.compile("[\ud800-\udfff]")

CHAT_FIELDS = ("messages", "conversations")
"""Fields that hold a conversation."""

_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}

TEXT_FIELDS = ("text", "content")
"""Fields that hold a document."""


class RowProblem(Exception):
    """Internal: a row that cannot be used; becomes a `Rejected`."""

    def __init__(self, reason: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = f"{hint}; {detail}"[:200] if hint else detail[:200]
        self.hint = hint


@dataclass(frozen=True, slots=True)
class PairParts:
    """What a row says of a pair.

    Attributes:
        id_is_text: its "id" is a side, in Indonesian, and no identifier.
        regions: (code of the row, code declared) of each side that names another region than the declared one.
        variants: (side, code, code of the side's text) of each further text in the language of a side.
    """

    source: str
    target: str
    references: tuple[str, ...] = ()
    id_is_text: bool = False
    regions: tuple[tuple[str, str], ...] = ()
    variants: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptParts:
    """What a row says of a prompt: turns up to the last user turn, and the reference answer if there is one."""

    messages: tuple[Message, ...]
    reference: str | None


MAX_FIELDS = 1000
"""Most fields of a row or of its translation: each may have to be compared with a language."""


@lru_cache(maxsize=256)
def language_key(keys: tuple[str, ...], code: str) -> str | None:
    """Return the key that stands for language `code` (see `match_language`), or None.

    Raises:
        RowProblem: several do.
    """
    try:
        return match_language(keys, code)
    except UsageError as error:
        raise RowProblem(reasons.AMBIGUOUS_LANGUAGE, str(error)) from error


def pair_parts(values: Values, source_lang: str, target_lang: str) -> PairParts:
    """Return the sides of a pair in whichever form `values` has.

    Raises:
        RowProblem: no known form, a side that is not a text, or other languages than declared.
    """
    declared = {"source_lang": source_lang, "target_lang": target_lang}
    named = {field: values[field] for field in declared if values.get(field) is not None}
    for field, given in named.items():
        if not (isinstance(given, str) and match_language([given], declared[field]) is not None):
            detail = f"{field} is {given!r:.80}, declared is {declared[field]!r}"
            raise RowProblem(reasons.LANGUAGE_MISMATCH, detail)
    regions = _regions((given, declared[field]) for field, given in named.items())
    references = values.get("references")
    if "source" in values and ("target" in values or references is not None):
        key = _references_key(references, target_lang)
        others = _references(references[key] if references and key is not None else references)
        regions += _regions([(key, target_lang)] if key is not None else [])
        variants = further_variants(_tags(references or {}), "target", key) if key is not None else ()
        if "target" not in values and not others:
            raise RowProblem(reasons.MALFORMED, "the field 'references' holds no text")
        target = _text(values, "target") if "target" in values else others.pop(0)
        others = [other for other in others if other != target]
        return PairParts(_text(values, "source"), target, tuple(others), regions=regions, variants=variants)
    if "translation" in values:
        translation = values["translation"]
        if not isinstance(translation, Mapping):
            raise RowProblem(reasons.MALFORMED, "the field 'translation' is not an object")
        sides = _flat(translation, source_lang, target_lang)
        if sides is None:
            raise missing(translation, "fields in 'translation'", source_lang, target_lang)
        return replace(sides, id_is_text=False)
    if field := chat_field(values):
        return replace(_conversation_sides(values, field), regions=regions)
    flat = _flat(values, source_lang, target_lang) or _nested(values, source_lang, target_lang)
    if flat is None:
        raise missing(values, "fields in the row", source_lang, target_lang)
    return flat


def _nested(values: Values, source_lang: str, target_lang: str) -> PairParts | None:
    """Return the sides where one object of the row holds both languages, as {"cs-en": {"cs": ..., "en": ...}} does."""
    objects = [value for value in values.values() if isinstance(value, Mapping)]
    found = [sides for value in objects if (sides := _flat(value, source_lang, target_lang)) is not None]
    return replace(found[0], id_is_text=False) if len(found) == 1 else None


def refuse_surrogates(*texts: str) -> None:
    """Refuse a row with a text that no tokenizer can encode.

    Raises:
        RowProblem: there is one.
    """
    if any(_SURROGATE.search(text) for text in texts):
        raise RowProblem(reasons.CONTROL_CHARACTERS, "half a surrogate pair")


def field_names(values: Values) -> str:
    """Return the names of the fields of a row, also those inside an object, for a message."""
    names = []
    for key, value in values.items():
        inner = ", ".join(map(repr, value)) if isinstance(value, Mapping) else ""
        names.append(f"{key!r} (with {inner})" if inner else repr(key))
    return ", ".join(names)[:300] or "none"


def missing(values: Values, where: str, *codes: str) -> RowProblem:
    """Return what to say of a row that lacks a field, with those that it has.

    Args:
        values: of the row, or of an object in it.
        where: what they are ("fields in the row").
        codes: of the languages looked for.
    """
    detail = f"{where}: {', '.join(map(repr, values)) or 'none'}"
    hints = [hint for code in codes if (hint := other_script(values, code))]
    return RowProblem(reasons.MISSING_FIELD, detail, "; ".join(hints))


def _regions(sides: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return what is read as what, where the regions differ."""
    return tuple((given, declared) for given, declared in sides if other_region(given, declared))


def _tags(values: Values) -> tuple[str, ...]:
    if len(values) > MAX_FIELDS:
        raise RowProblem(reasons.MALFORMED, f"more than {MAX_FIELDS:,} fields")
    return tuple(key for key in values if len(key) <= MAX_TAG)


def sides_by_language(values: Values, source_lang: str, target_lang: str) -> tuple[str, str] | None:
    """Return the keys of the two sides of a row that has them by language, or None where it has not.

    Raises:
        RowProblem: several keys stand for one language, or there are too many.
    """
    keys = _tags(values)
    source, target = language_key(keys, source_lang), language_key(keys, target_lang)
    return None if source is None or target is None or source == target else (source, target)


@lru_cache(maxsize=256)
def further_variants(keys: tuple[str, ...], side: str, taken: str) -> tuple[tuple[str, str, str], ...]:
    """Return (side, key, `taken`) for each other key that stands for the language of the key taken.

    Args:
        keys: names of the row's fields.
        side: "source" or "target".
        taken: the key whose text is the side's.
    """
    others = [key for key in keys if key not in (taken, "id")]  # an identifier, beside Indonesian
    return tuple((side, key, taken) for key in others if language_tag(key) and same_language(key, taken))


def _flat(values: Values, source_lang: str, target_lang: str) -> PairParts | None:
    keys = sides_by_language(values, source_lang, target_lang)
    if keys is None:
        return None
    source, target = keys
    regions = _regions([(source, source_lang), (target, target_lang)])
    tags = _tags(values)
    variants = further_variants(tags, "source", source) + further_variants(tags, "target", target)
    return PairParts(_text(values, source), _text(values, target), (), "id" in (source, target), regions, variants)


def _references_key(value: Any, target_lang: str) -> str | None:
    """Return the key of the references in the target language, or None where they are not by language."""
    if not isinstance(value, Mapping):
        return None
    keys = _tags(value)
    key = language_key(keys, target_lang)
    if key is None and other_script(keys, target_lang):
        raise missing(value, "fields in 'references'", target_lang)
    return key


def _references(value: Any) -> list[str]:
    """Return the references in order; a mapping may name them ("A", "B")."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if value is None:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not all(item is None or isinstance(item, str) for item in value):
        raise RowProblem(reasons.MALFORMED, "the field 'references' is not a list or an object of texts")
    return [item for item in value if item is not None and not is_blank(item)]


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
        raise missing(values, "fields in the row")
    return _text(values, field)


def chat_field(values: Values) -> str:
    """Return which field holds a conversation, "" if none does."""
    return next((field for field in CHAT_FIELDS if field in values), "")


def chat_messages(values: Values, field: str) -> tuple[Message, ...]:
    """Return the conversation in a field, of {"role", "content"} as servers have it or {"from", "value"} as ShareGPT.

    Raises:
        RowProblem: the field is not a list, or a message has no known role or no text.
    """
    value = values[field]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowProblem(reasons.MALFORMED, f"the field {field!r} is not a list")
    messages = []
    for item in value:
        turn = item if isinstance(item, Mapping) else {}
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        role = _ROLES.get(role) if isinstance(role, str) else None
        if role is None or not isinstance(content, str):
            raise RowProblem(
                reasons.MALFORMED,
                "a message needs a role (system, user, assistant) and a text as content, or from (system, human, gpt) "
                "and a text as value",
            )
        messages.append(Message(role, content))
    return tuple(messages)


def _conversation_sides(values: Values, field: str) -> PairParts:
    last = {message.role: message.content for message in chat_messages(values, field)}
    if "user" not in last or "assistant" not in last:
        raise RowProblem(reasons.MALFORMED, f"the field {field!r} lacks a user or an assistant turn")
    return PairParts(last["user"], last["assistant"])


def with_input(instruction: str, extra: str) -> str:
    """Return an instruction of Alpaca with its input, as one prompt."""
    return instruction if is_blank(extra) else f"{instruction}\n\n{extra}"


def prompt_parts(values: Values) -> PromptParts:
    """Return the conversation in whichever form `values` has; a final assistant turn becomes the reference.

    Raises:
        RowProblem: no known form, a text that is none, or nothing to answer.
    """
    given = values.get("reference")
    if isinstance(given, Sequence) and not isinstance(given, str):  # MT-Bench: one for each turn
        given = given[0] if given else None
    reference = given if isinstance(given, str) else None
    if chat := chat_field(values):
        messages = chat_messages(values, chat)
        if messages and messages[-1].role == "assistant":
            reference = reference or messages[-1].content
            messages = messages[:-1]
        if not messages or messages[-1].role != "user":
            raise RowProblem(reasons.MALFORMED, f"the field {chat!r} has no user turn to answer")
    elif "turns" in values and not any(field in values for field in PROMPT_FIELDS):
        turns = values["turns"]
        if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns or not isinstance(turns[0], str):
            raise RowProblem(reasons.MALFORMED, "the field 'turns' is not a list of texts")
        messages = (Message("user", turns[0]),)
    else:
        field = next((name for name in PROMPT_FIELDS if name in values), None)
        if field is None:
            raise missing(values, "fields in the row")
        text = _text(values, field)
        if field == "instruction":
            extra = _text(values, "input") if values.get("input") is not None else ""
            text = with_input(text, extra)
            output = values.get("output")
            reference = reference or (output if isinstance(output, str) else None)
        messages = (Message("user", text),)
    return PromptParts(messages, reference or None)
