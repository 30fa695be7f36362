"""Checks of documents, streaming: what repeats or is in a test set is taken out of them line by line, and what is then
not fit for pre-training is rejected with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict, Field

from lingraft.core.hashing import HashSet, text_hash
from lingraft.core.validation import Needs, Settings
from lingraft.data import reasons
from lingraft.data.files import Row, read_ahead
from lingraft.data.overlap import OverlapIndex
from lingraft.data.pair_checks import CONTROL, Problem, in_other_languages
from lingraft.data.records import Rejected, Text
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language
from lingraft.language.measures import normalise, without_spaces
from lingraft.language.sentences import split_text

CHUNK = 64
"""Documents judged together."""

JUDGED = 600
"""Characters of a document from which its language is told."""


class TextLimits(Settings):
    """When a document is rejected, what of it is left out, and how many documents are held out."""

    model_config = ConfigDict(frozen=True)
    needs: ClassVar[Needs] = {"min_language_probability": ("`language_check: true`", lambda own: own.language_check)}

    min_characters: int = Field(default=50, ge=1, description="Documents with less text left are rejected.")
    repeated_line: int = Field(
        default=20,
        ge=0,
        description="A line of at least so many characters that occurred before, in any document, is left out as "
        "boilerplate; 0: all lines are kept.",
    )
    language_check: bool = Field(default=True, description="Reject documents that are surely in another language.")
    min_language_probability: float = Field(
        default=0.9, gt=0, le=1, description="How sure the identifier must be of the other language."
    )
    max_rejected_share: float = Field(
        default=0.5, ge=0, le=1, description="The work stops when a larger share of a source's documents is rejected."
    )
    heldout_share: float = Field(
        default=0.02, ge=0, lt=1, description="Documents of each language never trained on, to measure perplexity."
    )
    heldout_documents: int = Field(default=100, ge=0, description="At most so many of each language are held out.")


@dataclass
class Removed:
    """Characters of documents, and how many of them were left out line by line.

    Attributes:
        characters: of all documents whose lines were looked at.
        repeated: of lines that occurred before.
        overlap: of lines that are in a test set.
    """

    characters: int = 0
    repeated: int = 0
    overlap: int = 0


class SeenTexts:
    """Remembers documents and lines by 64-bit hashes; share one between sources to find what they have in common."""

    def __init__(self) -> None:
        self._documents, self._lines = HashSet(), HashSet()

    def add(self, text: Text) -> bool:
        """Add a document and return whether its normalised text is new."""
        return self._documents.add(text_hash(base_language(text.lang), normalise(text.text)))

    def add_line(self, line: str) -> bool:
        """Add a line and return whether it is new."""
        return self._lines.add(text_hash(line))


def check_texts(
    rows: Iterable[Row[Text] | Rejected],
    limits: TextLimits,
    *,
    file: str,
    overlap: OverlapIndex | None = None,
    seen: SeenTexts | None = None,
    removed: Removed | None = None,
    limit: int | None = None,
) -> Iterator[Text | Rejected]:
    """Yield each good document without the lines that are left out, and for each other row the first reason against it;
    rows already rejected pass.

    Args:
        rows: what `read_texts` yields.
        limits: what a document may be.
        file: named in the rejected rows, as the user wrote it.
        overlap: test pairs whose long sides must not be trained on: lines that are one, or hold one as a sentence (in
            scripts without spaces between words: between two spaces), are left out.
        seen: documents and lines that occurred before; one per call by default.
        removed: counts the characters left out.
        limit: good documents after which it ends; rows behind them are neither read nor remembered.
    """
    seen = seen if seen is not None else SeenTexts()
    removed = removed if removed is not None else Removed()
    left = CHUNK if limit is None else limit

    def size() -> int:
        return min(CHUNK, left)

    for chunk in read_ahead(rows, size):
        found = [
            row if isinstance(row, Rejected) else _cleaned(row, file, limits, overlap, seen, removed) for row in chunk
        ]
        problems = _language_problems(found, limits)
        for number, item in enumerate(found):
            if isinstance(item, Rejected):
                yield item
            elif number in problems:
                yield Rejected(file, item.line, *problems[number])
            else:
                yield item.record
                left -= limit is not None


def _cleaned(
    row: Row[Text], file: str, limits: TextLimits, overlap: OverlapIndex | None, seen: SeenTexts, removed: Removed
) -> Row[Text] | Rejected:
    """Return a document without what is left out of it, or the reason against it."""
    text = row.record
    if is_blank(text.text):
        return Rejected(file, row.line, reasons.EMPTY_TEXT)
    if control := CONTROL.search(text.text):
        return Rejected(file, row.line, reasons.CONTROL_CHARACTERS, f"U+{ord(control[0]):04X}")
    if not seen.add(text):
        return Rejected(file, row.line, reasons.DUPLICATE)
    kept: list[str] = []
    for line in text.text.split("\n"):
        bare = line.strip()
        removed.characters += len(line)
        if overlap is not None and _in_test_set(bare, text.lang, overlap):
            removed.overlap += len(line)
        elif limits.repeated_line and len(bare) >= limits.repeated_line and not seen.add_line(bare):
            removed.repeated += len(line)
        elif bare or (kept and kept[-1]):  # what is left of several blank lines is one
            kept.append(line.rstrip() if bare else "")
    content = "\n".join(kept).strip()
    if len(content) < limits.min_characters:
        return Rejected(file, row.line, reasons.TOO_SHORT, f"{len(content)} characters are left")
    return Row(row.line, Text(text.id, content, text.lang))


def _in_test_set(line: str, lang: str, overlap: OverlapIndex) -> bool:
    if not line or not len(overlap):
        return False
    if overlap.match_text(line, lang):
        return True
    sentences = [piece.text for piece in split_text(line, len(line), lang=lang) if piece.translate]
    if any(overlap.match_text(sentence, lang) for sentence in sentences):
        return True
    parts = line.split()
    return any(map(without_spaces, parts)) and overlap.match_within(parts, lang) is not None


def _language_problems(found: Sequence[Row[Text] | Rejected], limits: TextLimits) -> Mapping[int, Problem]:
    problems: dict[int, Problem] = {}
    by_language: dict[str, dict[int, str]] = {}
    for number, item in enumerate(found if limits.language_check else ()):
        if isinstance(item, Row):
            by_language.setdefault(item.record.lang, {})[number] = item.record.text[:JUDGED]
    for code, parts in by_language.items():
        details = in_other_languages(parts, code, [code], limits.min_language_probability)
        problems |= {number: (reasons.WRONG_LANGUAGE, detail) for number, detail in details.items()}
    return problems
