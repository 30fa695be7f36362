"""Which column of a table holds what: headers are recognised by the names of fields and of languages, in any case.

A header is never guessed: a row that names no side of a pair (no prompt, no document) is a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import langcodes

from lingraft.core.errors import UsageError, setting
from lingraft.language.codes import COMMON, base_language, language_tag, match_language, other_script, same_language

# fmt: off
SOURCE_NAMES = (
    "source", "src", "original",
    "quelle", "quelltext", "ausgangstext", "origen", "origem", "fonte", "bron", "brontekst", "kilde",
    "käll", "källa", "zdroj", "źródło", "forrás", "kaynak", "sursă", "источник", "исходный", "оригинал", "джерело",
    "原文", "源", "源语言", "源文", "원문", "ต้นฉบับ", "المصدر",
)
TARGET_NAMES = (
    "target", "tgt", "trg", "translation", "reference",
    "ziel", "zieltext", "übersetzung", "cible", "traduction", "destino", "traducción", "tradução", "destinazione",
    "traduzione", "doel", "doeltekst", "vertaling", "oversættelse", "oversettelse", "översättning", "překlad",
    "tłumaczenie", "fordítás", "çeviri", "traducere", "перевод", "переклад",
    "译文", "目标", "目标语言", "翻译", "訳文", "번역", "คำแปล", "الترجمة",
)
# fmt: on
"""Names of the sides of a pair, the plainest first."""

OTHER_NAMES = ("id", "document", "references", "source_lang", "target_lang")
"""Further columns of a table of pairs."""

_FILLERS = {"text", "texts", "sentence", "sentences", "segment", "segments", "column", "language", "string"}
"""Words beside the name of a side or of a language: "source text", "sentence_deu_Latn", "German sentences"."""

_MAX_NAME = 60
_PARENTHESES = re.compile(r"(.+?) ?[(（\[].+[)）\]]")
_BETWEEN = re.compile(r"[\s_.:()\[\]/（）]+")


class HeaderProblem(Exception):
    """Internal: a header that says a thing twice; becomes a DataError with its place."""


@dataclass(frozen=True)
class Columns:
    """What a reader knows of the columns of a table.

    Attributes:
        needed: names that the columns get where a table has no header and exactly so many columns.
        header: returns the names by which the cells of a header are known to the reader, or None where the cells are
            no header; raises HeaderProblem.
        fields: which column holds what, as the user said: by name, or by number from 1.
        key: of a recipe, under which the user says it (see `errors.setting`); empty where there is none.
        languages: what the columns of the sides are named, where it is a language ({"target_lang": "pt-BR"}).
        variants: (side, name, name of the side's column) of further columns in the language of a side. Both are known
            when the header has been read.
    """

    needed: tuple[str, ...]
    header: Callable[[Sequence[str]], list[str] | None]
    fields: Mapping[str, str]
    languages: dict[str, str] = field(default_factory=dict)
    variants: list[tuple[str, str, str]] = field(default_factory=list)
    key: str = "fields"

    def numbered(self, cells: Sequence[str]) -> bool:
        """Say whether the user named columns by number alone, none of which is the name of a column."""
        return bool(self.fields) and all(
            column.isascii() and column.isdecimal() and column not in cells for column in self.fields.values()
        )


def any_columns(cells: Sequence[str]) -> list[str]:
    """Return the cells of the first row as names: for tables that must have a header."""
    return [cell.strip() for cell in cells]


def named_columns(
    needed: str, known: Sequence[str], other: Sequence[str], fields: Mapping[str, str], key: str
) -> Columns:
    """Return the columns of prompts or documents.

    Args:
        needed: the name of the one column of a table without a header.
        known: names of which one makes a header.
        other: further names that a column may have.
        fields: name of the package -> name of the column, as the user said.
        key: see `Columns`.
    """
    plural = {f"{name}s": name for name in known}

    def header(cells: Sequence[str]) -> list[str] | None:
        names, claimed = _claimed(cells, fields)
        found = claimed
        for column, name in enumerate(names):
            plain = "_".join(_words(name))
            plain = plural.get(plain, plain)
            if name not in fields.values() and plain in (*known, *other) and plain not in names:
                names[column] = plain
            found = found or names[column] in known
        return _once(names, cells) if found else None

    return Columns((needed,), header, fields, key=key)


def pair_columns(source: str, target: str, fields: Mapping[str, str], key: str = "fields") -> Columns:
    """Return the columns of pairs from language `source` into `target` (codes).

    Args:
        source: language code of the source side.
        target: language code of the target side.
        fields: "source" or "target" -> name of the column, as the user said; what it lacks is found by the header.
        key: see `Columns`.
    """
    languages: dict[str, str] = {}
    variants: list[tuple[str, str, str]] = []

    def header(cells: Sequence[str]) -> list[str] | None:
        names, claimed = _claimed(cells, fields)
        free = {column: name for column, name in enumerate(names) if name and name not in fields.values()}
        found = {"source": _side(free, SOURCE_NAMES, source), "target": _side(free, TARGET_NAMES, target)}
        sides = {side: one for side, one in found.items() if one.columns and side not in fields}
        if len(sides) == 2 and found["source"].columns == found["target"].columns:
            sides = {}  # one cell alone, which may be a word
        # A code alone may be a word ("No", "Is", "Das"), and a row of a glossary may name one language twice.
        sure = [one for one in sides.values() if one.surely and len(one.columns) == 1]
        others = [one.other_script for one in found.values() if one.other_script]
        if not claimed and others and len(sides) + len(others) == 2:
            raise HeaderProblem(f"the header has another script than declared: {'; '.join(others)}")
        if not claimed and len(sides) < 2 and not sure:
            return None
        for one in sides.values():
            if len(one.columns) > 1:
                both = " and ".join(repr(names[column]) for column in one.columns[:2])
                raise HeaderProblem(
                    f"the header has {both} for one side of the pair; say which is meant: "
                    f"{setting('fields', '{source: ..., target: ...}')}"
                )
        taken = {one.columns[0] for one in sides.values()}
        variants[:] = [
            (side, name, names[one.columns[0]])
            for side, one in sides.items()
            for column, name in free.items()
            if one.tag and column not in taken and (known := _language_of(name, one.tag)) is not None
            if same_language(known[0], one.tag)
        ]
        for column, name in free.items():
            plain = "_".join(_words(name))
            if plain in OTHER_NAMES and plain not in names:
                names[column] = plain
        for side, one in sides.items():
            names = [name if name != side else "" for name in names]
            names[one.columns[0]] = side
        languages.clear()
        languages.update({f"{side}_lang": one.tag for side, one in sides.items() if one.tag})
        return _once(names, cells)

    return Columns(("source", "target"), header, fields, languages, variants, key)


@dataclass(frozen=True)
class _Found:
    """The columns that may hold a side, none or one if all is well.

    `surely`: the name can hardly be a text. `tag`: of the language that the name is. `other_script`: a remark on
    columns of the language in another script, where there is none in this.
    """

    columns: Sequence[int]
    surely: bool = False
    tag: str = ""
    other_script: str = ""


def _claimed(cells: Sequence[str], fields: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the names of the cells, those that the user named as the user writes them, and whether there is one."""
    names = [cell.strip() for cell in cells]
    found = False
    for column in fields.values():
        if column in names:
            found = True
            continue
        alike = [number for number, name in enumerate(names) if name.casefold() == column.casefold()]
        if len(alike) == 1:
            names[alike[0]], found = column, True
    return names, found


def _once(names: list[str], cells: Sequence[str]) -> list[str]:
    """Return the names without the empty ones at the end, which name nothing.

    Raises:
        HeaderProblem: the header has a name twice.
    """
    seen: set[str] = set()
    for cell in cells:
        plain = cell.strip().casefold()
        if plain and plain in seen:
            raise HeaderProblem(f"the header has the name {cell.strip()!r} twice; name each column once")
        seen.add(plain)
    while names and not names[-1]:
        names.pop()
    return names


def _words(name: str) -> list[str]:
    return [word for word in _BETWEEN.split(name.casefold()) if word] if len(name) <= _MAX_NAME else []


def _side(names: Mapping[int, str], known: Sequence[str], code: str) -> _Found:
    """Return the column of a side: by the side's name, else by its language.

    Raises:
        HeaderProblem: several are equally near to the language.
    """
    bare = {column: [word for word in _words(name) if word not in _FILLERS] for column, name in names.items()}
    for name in known:
        columns = [column for column, words in bare.items() if words == [name]]
        if columns:
            return _Found(columns[:1], True)
    tags = {column: tag for column, name in names.items() if (tag := _language_of(name, code)) is not None}
    try:
        key = match_language(dict.fromkeys(tag for tag, _ in tags.values()), code)
    except UsageError as error:
        raise HeaderProblem(f"the columns {error}") from error
    of_language = [column for column, (tag, _) in tags.items() if tag == key]
    by_name = [column for column in of_language if tags[column][1]]
    if key is None:  # "Chinese" may be any: the name says of no script
        by_name = [column for column, (tag, named) in tags.items() if named and tag == base_language(code)]
    columns = by_name or of_language
    return _Found(
        columns, bool(by_name), key or "", "" if columns else other_script([tag for tag, _ in tags.values()], code)
    )


@lru_cache(maxsize=4096)
def _language_of(name: str, code: str) -> tuple[str, bool] | None:
    """Return the language that the name of a column says, and whether by a name of the language and not by a code.

    Names are understood for language `code` alone: in English, in the language itself, and in other common ones.
    """
    if not name or len(name) > _MAX_NAME:
        return None
    names = _language_names(code)
    plain = " ".join(name.casefold().split())
    if plain in names:
        return names[plain], True
    if (tag := language_tag(name)) is not None:
        return tag, False
    words = [word for word in _words(name) if word not in (*_FILLERS, *SOURCE_NAMES, *TARGET_NAMES)]
    rest = " ".join(words)
    if rest in names:
        return names[rest], True
    if (part := _PARENTHESES.fullmatch(plain)) is not None and part[
        1
    ] in names:  # "Chinese (Traditional)", "English (US)"
        return _with_script(name) or names[part[1]], True
    tag = language_tag("-".join(words)) if words and len(words) < len(_words(name)) else None
    return (tag, False) if tag is not None else None


def _with_script(name: str) -> str | None:
    try:
        return str(langcodes.find(name).to_tag())
    except LookupError:
        return None


@lru_cache(maxsize=256)
def _language_names(code: str) -> dict[str, str]:
    """Return names of a language, and of the language without script and region -> tag."""
    names: dict[str, str] = {}
    for tag in dict.fromkeys((base_language(code), code)):
        known = langcodes.Language.get(tag)
        own = {known.display_name(other) for other in COMMON} | {known.autonym(), known.language_name("en")}
        names |= {" ".join(name.casefold().split()): tag for name in own}
    return names
