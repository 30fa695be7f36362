"""HTML: text of blocks and of attributes that are read; scripts, styles and code keep every byte."""

from __future__ import annotations

import html
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import ClassVar, Literal

from lingraft.core.errors import DataError, first_line
from lingraft.data.html_elements import ALONE, KEPT, PHRASING, VOID, WORDS
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.inline import Piece, Slot, slot_of
from lingraft.documents.slots import SlotDocument
from lingraft.language.codes import base_language
from lingraft.language.measures import without_spaces

_ATTRIBUTES = ("alt", "title", "placeholder", "aria-label", "aria-description")
_META = frozenset(("description", "og:title", "og:description", "twitter:title", "twitter:description", "keywords"))
_CHARSET = re.compile(rb"<meta[^>]*?charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)
_BREAK = re.compile(r"[ \t]*\r?\n\s*")
_NAMED = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]*|#\d+|#[xX][0-9A-Fa-f]+);?")

Kind = Literal["start", "empty", "end", "text", "other"]


@dataclass
class _Event:
    kind: Kind
    start: int
    name: str = ""
    end: int = 0
    attributes: tuple[tuple[str, str | None], ...] = ()


class _Reader(HTMLParser):
    """Collects what stands where."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self._starts = [0, *(i + 1 for i, letter in enumerate(text) if letter == "\n")]
        self.events = list[_Event]()
        self.feed(text)
        self.close()
        for one, after in zip(self.events, [*self.events[1:], _Event("other", len(text))], strict=True):
            one.end = after.start

    def _at(self, kind: Kind, name: str = "", attributes: Sequence[tuple[str, str | None]] = ()) -> None:
        line, column = self.getpos()
        self.events.append(_Event(kind, self._starts[line - 1] + column, name, 0, tuple(attributes)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's beginning."""
        self._at("empty" if tag in VOID else "start", tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self._at("empty", tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Note an element's end."""
        self._at("end", tag)

    def handle_data(self, data: str) -> None:
        """Note text."""
        self._at("text")

    def handle_entityref(self, name: str) -> None:
        """Note a letter by its name."""
        self._at("text")

    def handle_charref(self, name: str) -> None:
        """Note a letter by its number."""
        self._at("text")

    def handle_comment(self, data: str) -> None:
        """Note a comment."""
        self._at("other", "comment")

    def handle_decl(self, decl: str) -> None:
        """Note a declaration."""
        self._at("other", "declaration")

    def handle_pi(self, data: str) -> None:
        """Note an instruction."""
        self._at("other", "instruction")

    def unknown_decl(self, data: str) -> None:
        """Note a section of another kind."""
        self._at("other", "section")


class HtmlDocument(SlotDocument):
    """A page. `events`: what stands where."""

    def __init__(
        self, source: Decoded, slots: Sequence[Slot], fixed: Sequence[tuple[int, int, str]], events: Sequence[_Event]
    ) -> None:
        super().__init__(source, slots, fixed, errors="xmlcharrefreplace")
        self._events = events
        self._quoted = {slot.segment.id for slot in slots if "@" in slot.segment.id}

    def escape(self, text: str) -> str:
        """Return text with what would be markup as entities."""
        return html.escape(text, quote=False)

    def markup(self, slot: Slot, text: str, code: object) -> str:
        """Return a translation, quoted where it is an attribute's."""
        if slot.segment.id in self._quoted:
            return '"' + html.escape(text).replace("&#x27;", "'") + '"'
        return super().markup(slot, text, code)  # type: ignore[arg-type]  # as it was given

    def shape(self) -> Sequence[Hashable]:
        """Return elements with their attributes, as a set within each block, and what is copied."""
        found, run = list[Hashable](), list[Hashable]()
        kept = ""
        for one in self._events:
            raw = self.source.text[one.start : one.end]
            if kept:
                run.append(raw)
                kept = "" if one.kind == "end" and one.name == kept else kept
                continue
            if one.kind == "text":
                continue
            if one.kind == "start" and one.name in KEPT:
                kept = one.name
            fixed = tuple((key, value) for key, value in one.attributes if not _is_text(one, key))
            said: Hashable = (one.kind, one.name, fixed) if one.kind != "other" else raw
            if one.name in PHRASING or one.name in KEPT or one.name in ALONE:
                run.append(said)
            else:
                found += [*sorted(run, key=repr), said]
                run = []
        return [*found, *sorted(run, key=repr)]


def _is_text(event: _Event, key: str) -> bool:
    """Say whether an attribute is translated, or says the language of what is."""
    if key in ("lang", "xml:lang") and event.name == "html":
        return True
    if event.name == "meta" and key == "content":
        named = {value for name, value in event.attributes if name in ("name", "property")}
        return bool(named & _META)
    if event.name == "input" and key == "value":
        return any(name == "type" and value in ("submit", "button", "reset") for name, value in event.attributes)
    return key in _ATTRIBUTES


class Html(DocumentFormat):
    """HTML: text and attributes that are read or seen."""

    name: ClassVar[str] = "html"
    summary: ClassVar[str] = "HTML: text, alt, title and the like; scripts, styles, code and translate=no are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml")

    def parse(self, data: bytes, shown: str, source: str, target: str) -> HtmlDocument:
        """Read a file; see `DocumentFormat.parse`."""
        declared = _CHARSET.search(data[:2048])
        name = declared[1].decode("ascii").lower() if declared else "utf-8"
        known = name if name in ("iso-8859-1", "windows-1252", "iso-8859-15", "us-ascii") else "utf-8"
        file = decoded(data, shown, known)
        events = _events(file, shown)
        slots = [*_texts(file, events), *_attributes(file, events)]
        fixed = list(_languages(file, events, source, target))
        return HtmlDocument(file, slots, fixed, events)


def _events(file: Decoded, shown: str) -> list[_Event]:
    """Return what stands where.

    Raises:
        DataError: a declaration has no form that is known.
    """
    try:
        return _Reader(file.text).events
    except AssertionError as error:  # what html.parser says of `<![`
        raise DataError(f"{shown}: a declaration (<!) is not HTML (from line 1 on: {first_line(error)})") from error


def _texts(file: Decoded, events: Sequence[_Event]) -> Iterator[Slot]:
    """Yield the texts of blocks."""
    run, at, count = list[Piece](), 0, dict[int, int]()

    def ended() -> Iterator[Slot]:
        if run:
            begin = next((p.start for p in run if p.kind == "text" and p.shown.strip()), run[0].start)
            line = file.line_at(begin)
            count[line] = count.get(line, 0) + 1
            name = f"line {line}" if count[line] == 1 else f"line {line}, text {count[line]}"
            if slot := slot_of(file.text, run, name, line):
                yield slot
            run.clear()

    while at < len(events):
        one = events[at]
        untouched = one.kind == "start" and (one.name in KEPT or _not_translated(one))
        if untouched:
            last = _element_end(events, at)
            if one.name in PHRASING or one.name in WORDS:
                run.append(Piece("alone", one.start, events[last].end, word=True))
            else:
                yield from ended()
            at = last + 1
            continue
        if one.kind == "text":
            run.extend(_text_pieces(file.text, one))
        elif one.name in PHRASING and one.kind in ("start", "end"):
            run.append(Piece("open" if one.kind == "start" else "close", one.start, one.end, key=one.name))
        elif one.name in ALONE or one.name == "comment":
            run.append(Piece("alone", one.start, one.end))
        else:
            yield from ended()
        at += 1
    yield from ended()


def _not_translated(event: _Event) -> bool:
    known = dict(event.attributes)
    return known.get("translate") == "no" or "notranslate" in (known.get("class") or "").split()


def _element_end(events: Sequence[_Event], at: int) -> int:
    """Return the number of the event that ends the element that begins at one; the last where none does."""
    depth = 0
    for number in range(at, len(events)):
        if events[number].name == events[at].name:
            depth += {"start": 1, "end": -1}.get(events[number].kind, 0)
            if depth == 0:
                return number
    return len(events) - 1


def _text_pieces(text: str, event: _Event) -> Iterator[Piece]:
    raw, at = text[event.start : event.end], 0
    if _NAMED.fullmatch(raw):
        yield Piece("text", event.start, event.end, html.unescape(raw))
        return
    for found in _BREAK.finditer(raw):
        if found.start() > at:
            yield Piece("text", event.start + at, event.start + found.start(), raw[at : found.start()])
        before, after = raw[found.start() - 1 : found.start()], raw[found.end() : found.end() + 1]
        shown = "" if without_spaces(before) and without_spaces(after) else " "
        yield Piece("break", event.start + found.start(), event.start + found.end(), shown)
        at = found.end()
    if at < len(raw):
        yield Piece("text", event.start + at, event.end, raw[at:])


def _value(text: str, event: _Event, key: str) -> tuple[int, int] | None:
    """Return where the value of an attribute stands, quotation marks included."""
    raw = text[event.start : event.end]
    pattern = rf"""(?<=[\s"'/]){re.escape(key)}\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)"""
    found = re.compile(pattern, re.IGNORECASE).search(raw)
    return None if found is None else (event.start + found.start(1), event.start + found.end(1))


def _attributes(file: Decoded, events: Sequence[_Event]) -> Iterator[Slot]:
    skipped = -1
    for number, one in enumerate(events):
        if number <= skipped or one.kind not in ("start", "empty"):
            continue
        if one.kind == "start" and (one.name in KEPT or _not_translated(one)):
            skipped = _element_end(events, number)
            continue
        seen = set[str]()
        for key, value in one.attributes:
            if not value or not _is_text(one, key) or "lang" in key or key in seen:
                continue
            seen.add(key)  # of an attribute that is there twice, the first counts
            place = _value(file.text, one, key)
            if place is None:
                continue
            line = file.line_at(place[0])
            name = f"line {line}, {one.name} {number}@{key}"
            inner = slot_of(file.text, [Piece("text", *place, " ".join(value.split()))], name, line)
            if inner is not None:
                yield Slot(inner.segment, *place, {})


def _languages(file: Decoded, events: Sequence[_Event], source: str, target: str) -> Iterator[tuple[int, int, str]]:
    """Yield the edits that name the new language of the page."""
    for one in events:
        if one.name == "html" and one.kind == "start":
            for key, value in one.attributes:
                place = _value(file.text, one, key) if key in ("lang", "xml:lang") else None
                if place and value and base_language(value) == base_language(source):
                    yield (*place, f'"{target}"')
