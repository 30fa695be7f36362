"""The segments of a document, asked for in parts that a kill does not lose, and what their translations would spoil."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.conversation.document_ladder import MEMORY, Asked, Ladder, TranslatedSegment
from lingraft.conversation.file_memory import FileMemory
from lingraft.core.hashing import content_hash
from lingraft.documents.base import Filled, Segment
from lingraft.documents.opened import OpenDocument
from lingraft.documents.verification import CHANGED
from lingraft.store.disk import explain_os_errors
from lingraft.store.parts import PartStore

PART = 64
"""Segments that are asked for and kept together: what a kill may lose."""


def longest(texts: Iterable[str], most: int) -> int:
    """Return how many tokens translations of some segments may have, at most so many.

    No translation is that long: a weak model that does not end would cost the whole limit for every title.
    """
    return min(most, 64 + 2 * max((len(text.encode()) for text in texts), default=0))


@dataclass
class DocumentWork:
    """The segments of a document, part by part. Equal ones are asked for once.

    Attributes:
        document: whose segments they are.
        ask: translates.
        source: language code of the texts.
        retries: how often a segment is drawn anew before it is cut.
        folder: keeps what is done; None: nothing does.
        identity: what decides a translation beside the segment.
        memory: from which translations are taken over; None: none.
    """

    document: OpenDocument
    ask: Asked
    source: str
    retries: int = 2
    folder: Path | None = None
    identity: list[Any] = field(default_factory=list)
    memory: FileMemory | None = None

    @cached_property
    def _first(self) -> dict[tuple[Any, ...], Segment]:
        first: dict[tuple[Any, ...], Segment] = {}
        for segment in self.document.segments:
            first.setdefault(_likeness(segment), segment)
        return first

    @property
    def count(self) -> int:
        """Segments that differ."""
        return len(self._first)

    def done(self, tell: Callable[[int], object] = lambda count: None) -> list[TranslatedSegment]:
        """Return what becomes of each segment, in the order of the document; what would change the document's structure
        is lost.

        Args:
            tell: is told how many of those that differ are done.
        """
        found: dict[tuple[Any, ...], TranslatedSegment] = {}
        for key, segment in self._first.items():
            if self.memory is not None and (known := self.memory.match(segment)):
                found[key] = TranslatedSegment(segment.id, segment.line, segment.text, known, how=MEMORY)
        waiting = [segment for key, segment in self._first.items() if key not in found]
        for segments, made in self._parts(waiting):
            found |= zip(map(_likeness, segments), made, strict=True)
            tell(len(found))
        every = [
            replace(found[_likeness(one)], id=one.id, line=one.line, context=one.context)
            for one in self.document.segments
        ]
        filled = {one.id: Filled(one.translation) for one in every if one.state != "lost"}
        spoilt = set(self.document.spoiling(filled))
        return [
            replace(one, state="lost", translation="", problem=CHANGED) if one.id in spoilt else one for one in every
        ]

    def _parts(self, segments: list[Segment]) -> Iterator[tuple[list[Segment], list[TranslatedSegment]]]:
        parts = [segments[begin : begin + PART] for begin in range(0, len(segments), PART)]
        keys = [content_hash([self.identity, [[one.text, one.breaks] for one in part]]) for part in parts]
        ladder = Ladder(self.ask, self.source, self.retries)
        store, known, lines = None, set[int](), dict[int, list[TranslatedSegment]]()
        if self.folder is not None:
            store = PartStore(self.folder)
            known = store.known(keys)
            kept = map(TranslatedSegment.from_json, store.lines())
            lines = {number: [next(kept) for _ in parts[number]] for number in sorted(known)}
        for number, part in enumerate(parts):
            if number not in known:
                lines[number] = ladder.translated(part)
                if store is not None:
                    with explain_os_errors(store.folder):
                        store.put(number, keys[number], (one.to_json() for one in lines[number]))
            yield part, lines[number]


def _likeness(segment: Segment) -> tuple[Any, ...]:
    return segment.text, segment.codes, segment.breaks
