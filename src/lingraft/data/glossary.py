"""Glossaries: terms and their translations, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.data.files import locate, open_bytes
from lingraft.language.characters import is_blank
from lingraft.language.codes import language, same_language
from lingraft.language.terms import Place, by_characters, find_term, folded, shown, words_in

COLUMNS = ("source", "target", "source_lang", "target_lang")
MARKS = ",;\t"
MAX_BYTES = 50_000_000
MAX_TERM = 200
"""Most characters of a term."""


@dataclass(frozen=True)
class Term:
    """A term and its translation, which is the term itself where it is to stay; languages: "" for any."""

    source: str
    target: str
    source_lang: str = ""
    target_lang: str = ""

    @property
    def kept(self) -> bool:
        """Whether it stays as it is."""
        return self.source == self.target

    def is_for(self, source_lang: str, target_lang: str) -> bool:
        """Say whether it is for a direction."""
        return all(
            not own or same_language(own, code)
            for own, code in ((self.source_lang, source_lang), (self.target_lang, target_lang))
        )

    def is_in(self, translation: str, target_lang: str) -> bool:
        """Say whether a translation has it: as it is, or in the words of `find_term`."""
        text = shown(translation)
        if self.kept:
            return shown(self.source) in text
        return next(find_term(self.target, text, target_lang), None) is not None


@dataclass(frozen=True)
class Glossary:
    """Terms, in the order of their file."""

    terms: tuple[Term, ...]
    _directions: dict[tuple[str, str], _Direction] = field(default_factory=dict, compare=False, repr=False)

    @property
    def hash(self) -> str:
        """Of the terms."""
        return content_hash([[one.source, one.target, one.source_lang, one.target_lang] for one in self.terms])

    def terms_in(self, text: str, source_lang: str, target_lang: str) -> list[Term]:
        """Return the terms for a direction that occur in a text, each once, in the order of their first places.

        The longest term comes first: one that stands only within a longer one is not among them. Of two entries for one
        term the one that names languages is taken.

        Args:
            text: the source.
            source_lang: its language code.
            target_lang: language code of the translation.
        """
        direction = self._directions.get((source_lang, target_lang))
        if direction is None:
            direction = _Direction([one for one in self.terms if one.is_for(source_lang, target_lang)], source_lang)
            self._directions[source_lang, target_lang] = direction
        text = shown(text)
        taken: list[tuple[Place, Term]] = []
        for term in direction.candidates(text):
            free = [
                (place, term)
                for place in find_term(term.source, text, source_lang)
                if all(place[1] <= other[0] or other[1] <= place[0] for other, _ in taken)
            ]
            taken += free
        return list(dict.fromkeys(term for _, term in sorted(taken, key=lambda one: one[0])))


class _Direction:
    """The terms of a direction, found by the first letters of their first word."""

    def __init__(self, terms: Sequence[Term], lang: str) -> None:
        order = sorted(terms, key=lambda one: (-len(one.source), -bool(one.source_lang) - bool(one.target_lang)))
        self._rank = {term: n for n, term in enumerate(order)}
        self._by_characters = [one for one in order if by_characters(one.source, lang)]
        self._by_start: dict[str, list[Term]] = {}
        for one in order:
            if not by_characters(one.source, lang):
                first, _ = words_in(shown(one.source))[0]
                self._by_start.setdefault(folded(first)[:2], []).append(one)

    def candidates(self, text: str) -> list[Term]:
        """Return the terms that may occur in a text, the longest first."""
        starts = {folded(word)[:size] for word, _ in words_in(text) for size in (1, 2)}
        found = {one for start in starts for one in self._by_start.get(start, ())}
        lower = text.lower()
        found.update(one for one in self._by_characters if shown(one.source).lower() in lower)
        return sorted(found, key=self._rank.__getitem__)


def read_glossary(path: str) -> Glossary:
    """Return the terms of a CSV file: `source,target[,source_lang,target_lang]`, with these names as its first line or
    without. An empty target keeps the term as it is.

    Args:
        path: of the file, separated by commas, semicolons or tabs; UTF-8.

    Raises:
        DataError: the file cannot be read, or a line of it is no term; names the line.
    """
    with open_bytes(locate(path, "csv", Path())) as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path}: the glossary has more than {MAX_BYTES // 1_000_000} MB; leave terms out")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: it is not UTF-8; convert the file with `iconv -t utf-8`") from error
    first = next((line for line in text.splitlines() if not is_blank(line)), "")
    mark = next((mark for mark in MARKS if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    columns: Sequence[str] = ()
    found: dict[tuple[str, str, str], tuple[Term, int]] = {}
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {line}: {error}; close its quotation marks, or double those within"
            ) from error
        if cells is None:
            break
        cells = [" ".join(cell.split()) for cell in cells]
        if not any(cells):
            continue
        if not columns:
            names = [cell.lower() for cell in cells]
            columns = names if {"source", "target"} <= set(names) else COLUMNS
            if columns is names:
                if odd := [name for name in names if name not in COLUMNS or names.count(name) > 1]:
                    raise DataError(
                        f"{path}, line {line}: the column {odd[0]!r} is unknown or stands there twice; name each of "
                        f"{', '.join(COLUMNS)} at most once"
                    )
                continue
        term = _term(cells, columns, f"{path}, line {line}")
        key = (folded(term.source), term.source_lang, term.target_lang)
        if key in found and found[key][0] != term:
            other, place = found[key]
            raise DataError(
                f"{path}, line {line}: {term.source!r} is {term.target!r} here and {other.target!r} in line {place}; "
                f"leave one of them out, or give them languages"
            )
        found.setdefault(key, (term, line))
    if not found:
        raise DataError(f"{path}: the glossary has no terms; write one a line, as `source,target`")
    return Glossary(tuple(term for term, _ in found.values()))


def _term(cells: Sequence[str], columns: Sequence[str], where: str) -> Term:
    if len(cells) > len(columns):
        raise DataError(f"{where}: it has {len(cells)} cells for {len(columns)} columns; quote a cell that has a comma")
    if len(cells) < 2:
        raise DataError(
            f"{where}: {cells[0]!r} has no translation; write `term,translation`, or `term,` to keep it as it is"
        )
    row = dict(zip(columns, cells, strict=False))
    source, target = row.get("source", ""), row.get("target", "")
    if not source or is_blank(source):
        raise DataError(f"{where}: the term is missing, and only {target!r} is there; write `term,translation`")
    if long := next((text for text in (source, target) if len(text) > MAX_TERM), ""):
        raise DataError(f"{where}: {long[:30]!r}... has more than {MAX_TERM} characters; give terms, not texts")
    codes = []
    for name in COLUMNS[2:]:
        try:
            codes.append(language(row[name]) if row.get(name) else "")
        except UsageError as error:
            raise DataError(f"{where}: {name}: {error}") from error
    return Term(source, target or source, *codes)
