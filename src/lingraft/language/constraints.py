"""Instructions about a translation that a program can check, each of them data: `{"kind": "length", "most": 60}`.

A kind is one class with its parameters as fields and one method, `obeyed`. A check without parameters compares with the
source: its lines, tags and layout.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lingraft.language.codes import is_spaceless
from lingraft.language.measures import normalise
from lingraft.language.placeholders import TAGS, VARIABLES
from lingraft.language.registers import Level, in_register
from lingraft.language.terms import find_term, shown

_FENCED = re.compile(r"\s*```[\w-]*\n(.*?)\n?```\s*", re.DOTALL)
_MARKUP = re.compile(rf"`[^`\n]+`|{VARIABLES}|{TAGS}")
_TAG_NAME = re.compile(r"</?[A-Za-z][\w:-]*")
_MARKER = re.compile(r"\s*(?:[-*•+]|\d+[.)])(?=\s)")
_RULE = re.compile(r"[|\s:-]+")
_NOTE = re.compile(
    r"[(（\[]\s*(?:note|literally|or:|alternativ|anm(?:erkung|\.)|wörtlich|nota|littéralement|注|หมายเหตุ)", re.I
)
_PREFACE = re.compile(
    r"\W*(?:here(?:['’]s| is| are)|sure|certainly|of course|(?:the |my )?translat"
    r"|in (?:english|german|french|spanish|thai|chinese)|(?:die |meine )?übersetzung|hier ist|gerne?\b"
    r"|auf (?:deutsch|englisch)|voici|(?:la )?traduction|bien sûr"
    r"|(?:la )?traducci[oó]n|aquí (?:está|tiene)|claro|译文|翻译|以下是|当然|这是|英文|中文|คำแปล|นี่คือ|แน่นอน|แปล)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "「": "」", "‘": "’"}
_COLONS = ":："


class Asked(BaseModel):
    """What was to be translated.

    Attributes:
        source: the text.
        source_lang: BCP-47 code of its language.
        target_lang: of the translation.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    source_lang: str
    target_lang: str


class _Check(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def obeyed(self, answer: str, asked: Asked) -> bool:
        """Say whether an answer does what it was told.

        Args:
            answer: all that was answered, without white space at its ends.
            asked: what was to be translated.
        """


class Only(_Check):
    """Nothing but the translation: no preface, note, quotation marks, fence or repeated source that the source lacks,
    and no more lines than it has."""

    kind: Literal["only"]

    def obeyed(self, answer: str, asked: Asked) -> bool:
        source = asked.source.strip()
        if len(_full(answer)) > len(_full(source)) or ("```" in answer and "```" not in source):
            return False
        first, given = answer.partition("\n")[0], source.partition("\n")[0]
        opened = any(sign in first for sign in _COLONS) and not any(sign in given for sign in _COLONS)
        if opened and _PREFACE.match(first):
            return False
        if _NOTE.search(answer) and not _NOTE.search(source):
            return False
        if _quoted(answer) and not _quoted(source):
            return False
        copy = normalise(source)
        return len(copy) < 12 or copy not in normalise(answer)


class Register(_Check):
    """The reader is addressed at a level: by the words of the language (`registers`), or by phrases that are given, of
    which at least one must be there (`has`) and none may (`lacks`)."""

    kind: Literal["register"]
    level: Level
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def obeyed(self, answer: str, asked: Asked) -> bool:
        if self.has or self.lacks:
            return _has_and_lacks(answer, asked.target_lang, self.has, self.lacks, fold=False)
        return in_register(answer, asked.target_lang, self.level)


class Gender(_Check):
    """A person is spoken of in a gender: at least one of the words `has` is there (where any is given), none of
    `lacks`."""

    kind: Literal["gender"]
    of: Literal["feminine", "masculine"]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def obeyed(self, answer: str, asked: Asked) -> bool:
        return _has_and_lacks(answer, asked.target_lang, self.has, self.lacks, fold=True)


class Length(_Check):
    """At most so many characters (of Unicode, composed) or words between spaces."""

    kind: Literal["length"]
    most: int = Field(ge=1)
    unit: Literal["characters", "words"] = "characters"

    def obeyed(self, answer: str, asked: Asked) -> bool:
        text = unicodedata.normalize("NFC", answer)
        return len(text.split() if self.unit == "words" else text) <= self.most


class Terms(_Check):
    """Each term of a glossary is translated as it says, inflected or not; where it says several, by one of them."""

    kind: Literal["terms"]
    terms: Mapping[str, str | tuple[str, ...]] = Field(min_length=1)

    def obeyed(self, answer: str, asked: Asked) -> bool:
        text = shown(answer)
        wanted = [(one,) if isinstance(one, str) else one for one in self.terms.values()]
        return all(any(any(find_term(term, text, asked.target_lang)) for term in terms) for terms in wanted)


class Names(_Check):
    """Names, or whatever else stays as it is, letter by letter and as often as in the source."""

    kind: Literal["names"]
    names: tuple[str, ...] = Field(min_length=1)

    def obeyed(self, answer: str, asked: Asked) -> bool:
        return all(answer.count(name) >= max(1, asked.source.count(name)) for name in self.names)


class Markup(_Check):
    """Tags, placeholders and code between backticks are those of the source, in number and order."""

    kind: Literal["markup"]

    def obeyed(self, answer: str, asked: Asked) -> bool:
        return _MARKUP.findall(answer) == _MARKUP.findall(asked.source)


class Lines(_Check):
    """As many lines as the source, blank ones where it has them."""

    kind: Literal["lines"]

    def obeyed(self, answer: str, asked: Asked) -> bool:
        return _pattern(answer) == _pattern(asked.source.strip())


class Parts(_Check):
    """As many parts between a delimiter as the source has."""

    kind: Literal["parts"]
    by: str = Field(min_length=1)

    def obeyed(self, answer: str, asked: Asked) -> bool:
        return answer.count(self.by) == asked.source.count(self.by)


class Layout(_Check):
    """The form of the source: keys, types and all values but texts of JSON; rows and columns of a table or of CSV; the
    markers of a list; names and order of the tags of HTML. One fence around all of it is no part of it."""

    kind: Literal["layout"]
    of: Literal["json", "table", "csv", "list", "html"]

    def obeyed(self, answer: str, asked: Asked) -> bool:
        form = _FORMS[self.of]
        try:
            return form(_unfenced(answer)) == form(_unfenced(asked.source.strip()))
        except (ValueError, csv.Error, RecursionError):
            return False


Check = Annotated[
    Only | Register | Gender | Length | Terms | Names | Markup | Lines | Parts | Layout, Field(discriminator="kind")
]
CHECKS: TypeAdapter[tuple[Check, ...]] = TypeAdapter(Annotated[tuple[Check, ...], Field(min_length=1)])
KINDS: Mapping[str, str] = {
    "only": "Only the translation",
    "register": "Formality",
    "gender": "Gender",
    "length": "Length limit",
    "terms": "Glossary terms",
    "names": "Names kept",
    "markup": "Tags and placeholders",
    "lines": "Lines kept",
    "parts": "Parts kept",
    "layout": "Layout kept",
}
"""What the kinds are called in tables."""


def texts_in(text: str) -> str:
    """Return what is language in an answer: of JSON the texts among its values, of anything else all of it."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict | list):
            return [one for inner in (value.values() if isinstance(value, dict) else value) for one in texts(inner)]
        return [value] if isinstance(value, str) else []

    try:
        return "\n".join(texts(json.loads(_unfenced(text)))) or text
    except (ValueError, RecursionError):
        return text


def _full(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _pattern(text: str) -> list[bool]:
    return [bool(line.strip()) for line in text.splitlines()]


def _quoted(text: str) -> bool:
    return len(text) > 1 and _QUOTES.get(text[0]) == text[-1]


def _unfenced(text: str) -> str:
    found = _FENCED.fullmatch(text)
    return found[1] if found else text


def _has_and_lacks(text: str, code: str, has: Sequence[str], lacks: Sequence[str], fold: bool) -> bool:
    spaceless = is_spaceless(code)

    def there(phrase: str) -> bool:
        pattern = re.escape(phrase)
        if not spaceless:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        return re.search(pattern, text, re.IGNORECASE if fold else 0) is not None

    return (not has or any(map(there, has))) and not any(map(there, lacks))


def _json_form(text: str) -> Any:
    def form(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: form(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [form(inner) for inner in value]
        return str if isinstance(value, str) else (type(value), value)

    return form(json.loads(text))


def _table_form(text: str) -> list[int | str]:
    rows = [line.strip().strip("|") for line in _full(text)]
    if not all("|" in line for line in _full(text)):
        raise ValueError("a line is no row of a table")
    return ["rule" if "-" in row and _RULE.fullmatch(row) else len(re.split(r"(?<!\\)\|", row)) for row in rows]


def _csv_form(text: str) -> list[int]:
    return [len(row) for row in csv.reader(io.StringIO(text))]


def _list_form(text: str) -> list[str]:
    return [found[0] if (found := _MARKER.match(line)) else "" for line in _full(text)]


def _html_form(text: str) -> list[str]:
    return [_TAG_NAME.findall(tag)[0].lower() for tag in re.findall(TAGS, text)]


_FORMS: Mapping[str, Callable[[str], Any]] = {
    "json": _json_form,
    "table": _table_form,
    "csv": _csv_form,
    "list": _list_form,
    "html": _html_form,
}
