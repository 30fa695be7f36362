"""Subtitles: SubRip (SRT) and WebVTT; numbers, times, settings and the count of lines of each cue are kept."""

from __future__ import annotations

import html
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.inline import Piece, Slot, slot_of, tagged_pieces
from lingraft.documents.slots import SlotDocument
from lingraft.language.measures import without_spaces

_TIME = r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_TIMES = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\n]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_SPEAKER = re.compile(r"\s*(?:[-–—‐]|>>|&gt;&gt;)\s*")
_ENTITY = re.compile(r"&(?:amp|lt|gt|nbsp|lrm|rlm);")


class SubtitleDocument(SlotDocument):
    """Subtitles. `cues`: the lines of each, as places; `entities`: whether letters have names (WebVTT)."""

    def __init__(self, source: Decoded, slots: Sequence[Slot], cues: Sequence[Cue], entities: bool) -> None:
        super().__init__(source, slots)
        self._cues, self._entities = cues, entities

    def escape(self, text: str) -> str:
        """Return text with what would be a tag as entities, where the format has them."""
        return html.escape(text, quote=False) if self._entities else text

    def shape(self) -> Sequence[Hashable]:
        """Return all but the cues' texts, and of those how many lines they have and which tags."""
        found, at = list[Hashable](), 0
        for start, end in self._cues:
            text = self.source.text[start:end]
            tags = [text[p.start : p.end] for p in tagged_pieces(text) if p.kind != "text"]
            found += [self.source.text[at:start], text.count("\n"), text.count("-->"), tuple(sorted(tags))]
            at = end
        return [*found, self.source.text[at:]]


Cue = tuple[int, int]
"""Where the text of a cue begins and ends, without the end of its last line."""


def _cues(file: Decoded, shown: str, kind: str) -> list[Cue]:
    """Return the cues of a file.

    Raises:
        DataError: there are none, or something stands between them that is neither a number nor a note.
    """
    lines = [found.span() for found in _LINE.finditer(file.text)]
    cues, number = list[Cue](), 0
    bare = [file.text[start:end].rstrip("\r\n") for start, end in lines]
    while number < len(lines):
        if not _TIMES.fullmatch(bare[number]):
            if "-->" in bare[number]:
                raise DataError(
                    f"{shown}: line {number + 1} is no time of a subtitle ({bare[number].strip()[:60]!r}); correct it, "
                    f"such as 00:00:01,000 --> 00:00:03,500"
                )
            number += 1
            continue
        first = number + 1
        number = first
        while number < len(lines) and bare[number].strip():
            number += 1
        if number > first:
            cues.append((lines[first][0], lines[number - 1][0] + len(bare[number - 1])))
    if not any(_TIMES.fullmatch(line) for line in bare):
        raise DataError(f"{shown}: has no time of a subtitle (00:00:01,000 --> 00:00:03,500); is it {kind}?")
    return cues


def _slots(file: Decoded, cues: Sequence[Cue], entities: bool) -> Iterator[Slot]:
    for start, end in cues:
        text = file.text[start:end]
        lines = [(start + found.start(), start + found.end()) for found in re.finditer(r"[^\r\n]+", text)]
        parts: list[list[tuple[int, int]]] = []
        for place in lines:
            if parts and not _SPEAKER.match(file.text, *place):
                parts[-1].append(place)
            else:
                parts.append([place])
        if len(lines) > 1 and sum(bool(_SPEAKER.match(file.text, *place)) for place in lines) < 2:
            parts = [lines]  # one dash is no dialogue
        for part in parts:
            line = file.line_at(part[0][0])
            if slot := slot_of(file.text, list(_pieces(file.text, part, entities)), f"line {line}", line):
                yield slot


def _pieces(text: str, lines: Sequence[tuple[int, int]], entities: bool) -> Iterator[Piece]:
    for number, (start, end) in enumerate(lines):
        if number:
            before, after = text[lines[number - 1][1] - 1], text[start]
            shown = "" if without_spaces(before) and without_spaces(after) else " "
            yield Piece("break", lines[number - 1][1], start, shown)
        elif speaker := _SPEAKER.match(text, start, end):
            yield Piece("alone", start, speaker.end())
            start = speaker.end()
        for piece in tagged_pieces(text[start:end], start):
            yield from _with_entities(piece) if entities else (piece,)


def _with_entities(piece: Piece) -> Iterator[Piece]:
    at = 0
    for found in _ENTITY.finditer(piece.shown) if piece.kind == "text" else ():
        if found.start() > at:
            yield Piece("text", piece.start + at, piece.start + found.start(), piece.shown[at : found.start()])
        yield Piece("text", piece.start + found.start(), piece.start + found.end(), html.unescape(found[0]))
        at = found.end()
    if at == 0:
        yield piece
    elif at < len(piece.shown):
        yield Piece("text", piece.start + at, piece.end, piece.shown[at:])


class Srt(DocumentFormat):
    """SubRip subtitles."""

    name: ClassVar[str] = "srt"
    summary: ClassVar[str] = "SubRip subtitles: numbers, times, tags and the lines of each cue are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".srt",)

    def parse(self, data: bytes, shown: str, source: str, target: str) -> SubtitleDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        cues = _cues(file, shown, "SRT")
        return SubtitleDocument(file, list(_slots(file, cues, False)), cues, False)


class Vtt(DocumentFormat):
    """WebVTT subtitles."""

    name: ClassVar[str] = "vtt"
    summary: ClassVar[str] = "WebVTT subtitles: times, settings, notes, styles, tags and the lines of each cue are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".vtt",)

    def parse(self, data: bytes, shown: str, source: str, target: str) -> SubtitleDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        if not re.match(r"WEBVTT(?:[ \t\r\n]|\Z)", file.text):
            raise DataError(f"{shown}: does not begin with WEBVTT (line 1); is it WebVTT?")
        cues = _cues(file, shown, "WebVTT")
        return SubtitleDocument(file, list(_slots(file, cues, True)), cues, True)
