"""Documents that are their text with other text in some places: nothing else can change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

from lingraft.documents.base import Decoded, Document, Filled, Segment
from lingraft.documents.inline import Slot, marked_up


class SlotDocument(Document):
    """A text in which each segment has one place; slots may lie in the codes of others.

    Args:
        source: the file.
        slots: of the segments, in any order.
        fixed: start, end and text of what is changed if anything is translated, such as the name of the language.
        errors: what becomes of letters that the file's encoding does not have, as `str.encode` takes it.
    """

    def __init__(
        self,
        source: Decoded,
        slots: Iterable[Slot],
        fixed: Iterable[tuple[int, int, str]] = (),
        errors: str = "strict",
    ) -> None:
        self.source, self._errors = source, errors
        self._slots = sorted(slots, key=lambda slot: (slot.start, -slot.end))
        self._starts = [slot.start for slot in self._slots]
        self._fixed = sorted(fixed)
        self.segments: Sequence[Segment] = [slot.segment for slot in self._slots]
        self._by_id = {slot.segment.id: slot for slot in self._slots}

    def escape(self, text: str) -> str:
        """Return plain text as the format writes it."""
        return text

    def markup(self, slot: Slot, text: str, code: Callable[[str], str]) -> str:
        """Return a translation as it is put into a slot."""
        return marked_up(slot.segment, text, code, self.escape)

    def written_text(self, filled: Mapping[str, Filled]) -> str:
        """Return the text of the file with translations."""
        known = {key: one.text for key, one in filled.items() if one.state != "lost"}
        return self._rendered(0, len(self.source.text), known, None)

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; see `Document.written`."""
        return self.source.encoded(self.written_text(filled), self._errors)

    def _rendered(self, start: int, end: int, known: Mapping[str, str], outer: Slot | None) -> str:
        """Return a stretch of the text, with what lies in it translated."""
        edits = list[tuple[int, int, str]]()
        number, at = bisect_left(self._starts, start), start
        while number < len(self._slots) and self._slots[number].start < end:
            slot = self._slots[number]
            number += 1
            if slot is outer or slot.start < at or slot.end > end or slot.segment.id not in known:
                continue
            edits.append((slot.start, slot.end, self._filled(slot, known)))
            at = slot.end
        if known:
            taken = [(one, other) for one, other, _ in edits]
            edits += [
                one
                for one in self._fixed
                if start <= one[0] and one[1] <= end and not any(a < one[1] and one[0] < b for a, b in taken)
            ]
        out, at = list[str](), start
        for begin, finish, text in sorted(edits):
            out += [self.source.text[at:begin], text]
            at = finish
        return "".join([*out, self.source.text[at:end]])

    def _filled(self, slot: Slot, known: Mapping[str, str]) -> str:
        def code(mark: str) -> str:
            return self._rendered(*slot.codes[mark], known, slot)

        return self.markup(slot, known[slot.segment.id], code)
