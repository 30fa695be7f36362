"""Documents whose texts are values in quotation marks, cells and the like: a value is written anew as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lingraft.documents.base import Decoded, Document, Filled, Segment
from lingraft.documents.inline import Slot, marked_up, slot_of, tagged_pieces

_ARGUMENT = re.compile(r"\{\s*\w+\s*,\s*(?:plural|select|selectordinal)\s*,")
_BRANCH = re.compile(r"(?:=\d+|\w+)\s*\{")


@dataclass(frozen=True)
class Value:
    """A value of a file.

    Attributes:
        start: place of its first character in the file, quotation marks included.
        end: place behind its last.
        text: what it says.
        slots: of its segments, with places in `text`.
        write: gives the characters of the file for a text.
        copied: written, if anything is translated, also where it has no segment: a new cell.
    """

    start: int
    end: int
    text: str
    slots: tuple[Slot, ...]
    write: Callable[[str], str]
    copied: bool = False


def value_slots(text: str, name: str, line: int, context: str = "") -> tuple[Slot, ...]:
    """Return the segments of a value: one, or one for each branch of the plurals and choices of ICU's messages.

    Args:
        text: what the value says.
        name: id of the segment.
        line: of the file.
        context: see `Segment`.
    """
    found = list[Slot]()
    for start, end in _parts(text, 0, len(text)):
        own = name if not found else f"{name}, part {len(found) + 1}"
        if slot := slot_of(text, tagged_pieces(text[start:end], start), own, line, context):
            found.append(slot)
    return tuple(found)


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a message that are text; of what is not closed, the whole."""
    waiting, out = [(start, end)], list[tuple[int, int]]()
    while waiting:
        begin, last = waiting.pop()
        argument = _ARGUMENT.search(text, begin, last)
        close = _closing(text, argument.start(), last) if argument else None
        if argument is None or close is None:
            out.append((begin, last))
            continue
        out.append((begin, argument.start()))
        at = argument.end()
        while (branch := _BRANCH.search(text, at, close)) is not None:
            finish = _closing(text, branch.end() - 1, close)
            if finish is None:
                break
            waiting.append((branch.end(), finish))
            at = finish + 1
        waiting.append((close + 1, last))
    yield from sorted(out)


def _closing(text: str, at: int, end: int) -> int | None:
    """Return the place of the brace that closes one."""
    depth = 0
    for place in range(at, end):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None


class ValueDocument(Document):
    """A text of values.

    Args:
        source: the file.
        values: in any order; a segment may be in several.
    """

    def __init__(self, source: Decoded, values: Iterable[Value]) -> None:
        self.source = source
        self.values = sorted(values, key=lambda one: (one.start, one.end))
        known: dict[str, Segment] = {}
        for value in self.values:
            for slot in value.slots:
                known.setdefault(slot.segment.id, slot.segment)
        self.segments: Sequence[Segment] = list(known.values())

    def edits(self, filled: Mapping[str, Filled]) -> list[tuple[int, int, str]]:
        """Return start, end and text of what is changed by translations."""
        out = list[tuple[int, int, str]]()
        for value in self.values:
            own = [slot for slot in value.slots if _kept(filled, slot)]
            if own or (value.copied and filled):
                out.append((value.start, value.end, value.write(_said(value.text, own, filled))))
        return out

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; see `Document.written`."""
        return self.source.encoded(self.text(filled))

    def text(self, filled: Mapping[str, Filled]) -> str:
        """Return the file's text with translations by segment id."""
        out, at = list[str](), 0
        for start, end, text in sorted(self.edits(filled)):
            out += [self.source.text[at:start], text]
            at = end
        return "".join([*out, self.source.text[at:]])


def _kept(filled: Mapping[str, Filled], slot: Slot) -> bool:
    return slot.segment.id in filled and filled[slot.segment.id].state != "lost"


def _said(text: str, slots: Sequence[Slot], filled: Mapping[str, Filled]) -> str:
    out, at = list[str](), 0
    for slot in sorted(slots, key=lambda one: one.start):
        codes = slot.codes

        def code(mark: str, codes: Mapping[str, tuple[int, int]] = codes) -> str:
            start, end = codes[mark]
            return text[start:end]

        out += [text[at : slot.start], marked_up(slot.segment, filled[slot.segment.id].text, code, str)]
        at = slot.end
    return "".join([*out, text[at:]])
