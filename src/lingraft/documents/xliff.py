"""XLIFF 1.2 and 2.0: targets of what is not translated yet, with their state; notes and all else keep every byte."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from xml.sax.saxutils import escape, quoteattr

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, Document, DocumentFormat, Filled, Segment
from lingraft.documents.inline import Piece, Slot, marked_up, slot_of
from lingraft.documents.xml_tree import Element, Text, read_xml
from lingraft.language.codes import base_language

_PAIRS = frozenset(("g", "pc", "mrk"))
_ENDS = {"bpt": "open", "ept": "close", "bx": "open", "ex": "close", "sc": "open", "ec": "close"}
_TODO = frozenset(("new", "needs-translation", "needs-l10n", "needs-adaptation", "initial"))
STATES = {
    "1": {"translated": "translated", "doubtful": "needs-review-translation", "lost": "needs-translation"},
    "2": {"translated": "translated", "doubtful": "translated", "lost": "initial"},
}
"""Version -> our state -> that of the file."""
_STATE = re.compile(r"""\s(?:state|subState|state-qualifier)\s*=\s*(?:"[^"]*"|'[^']*')""")


@dataclass
class _Unit:
    """What has a target of its own. `holder`: has the attribute `state`: the target in 1.2, the segment in 2.0."""

    source: Element
    target: Element | None
    after: Element
    holder: Element | None
    slots: list[Slot] = field(default_factory=list)


class XliffDocument(Document):
    """An XLIFF file. `version`: "1" or "2"."""

    marks: ClassVar[bool] = True

    def __init__(self, source: Decoded, root: Element, version: str, units: Sequence[_Unit], target: str) -> None:
        self.source, self._root, self._version, self._target = source, root, version, target
        self._units = units
        self.segments: Sequence[Segment] = [slot.segment for unit in units for slot in unit.slots]

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; see `Document.written`."""
        edits = list[tuple[int, int, str]]()
        for unit in self._units:
            own = {slot.segment.id: filled[slot.segment.id] for slot in unit.slots if slot.segment.id in filled}
            if own:
                edits += self._edits(unit, own)
        if edits:
            edits += self._languages()
        out, at = list[str](), 0
        for start, end, text in sorted(edits):
            out += [self.source.text[at:start], text]
            at = end
        return self.source.encoded("".join([*out, self.source.text[at:]]), "xmlcharrefreplace")

    def _edits(self, unit: _Unit, own: Mapping[str, Filled]) -> Iterator[tuple[int, int, str]]:
        states = {one.state for one in own.values()}
        whole = len(own) == len(unit.slots)
        state = "lost" if "lost" in states or not whole else "doubtful" if "doubtful" in states else "translated"
        inner = "" if state == "lost" else self._inner(unit, own)
        said = STATES[self._version][state]
        text = self.source.text
        if unit.target is None:
            margin = text[text.rfind("\n", 0, unit.after.start) + 1 : unit.after.start]
            indent = "\n" + margin if not margin.strip() else ""
            if indent and text[unit.after.start - len(margin) - 2 : unit.after.start - len(margin) - 1] == "\r":
                indent = "\r" + indent
            mark = f' state="{said}"' if self._version == "1" else ""
            named = re.match(r"<([\w.-]+:)?", text[unit.source.start : unit.source.open_end])
            prefix = (named[1] or "") if named else ""
            yield unit.after.end, unit.after.end, f"{indent}<{prefix}target{mark}>{inner}</{prefix}target>"
        else:
            tag = text[unit.target.start : unit.target.open_end]
            if self._version == "1":
                tag = _with_state(tag, said, "")
            name = re.match(r"<([^\s/>]+)", tag)
            bare = tag.rstrip(">").rstrip("/").rstrip() + ">"
            yield unit.target.start, unit.target.end, f"{bare}{inner}</{name[1] if name else 'target'}>"
        if self._version == "2" and unit.holder is not None:
            sub = "" if state == "translated" else f"lingraft:{state}"
            tag = text[unit.holder.start : unit.holder.open_end]
            yield unit.holder.start, unit.holder.open_end, _with_state(tag, said, sub)

    def _inner(self, unit: _Unit, own: Mapping[str, Filled]) -> str:
        """Return the content of a target: that of the source with translations in place of texts."""
        out, at = list[str](), unit.source.open_end
        for slot in sorted(unit.slots, key=lambda one: one.start):

            def code(mark: str, codes: Mapping[str, tuple[int, int]] = slot.codes) -> str:
                start, end = codes[mark]
                return self.source.text[start:end]

            said = marked_up(slot.segment, own[slot.segment.id].text, code, lambda text: escape(text))
            out += [self.source.text[at : slot.start], said]
            at = slot.end
        return "".join([*out, self.source.text[at : unit.source.close]])

    def _languages(self) -> Iterator[tuple[int, int, str]]:
        """Yield the edits that name the language of the targets, where none is named."""
        name = "target-language" if self._version == "1" else "trgLang"
        holders = [one for one in self._root.walk() if one.name == "file"] if self._version == "1" else [self._root]
        for one in holders:
            if name not in one.attributes:
                end = one.open_end - (2 if self.source.text.startswith("/>", one.open_end - 2) else 1)
                yield end, end, f" {name}={quoteattr(self._target)}"

    def shape(self) -> Sequence[Hashable]:
        """Return all elements but those in targets, with attributes but states, and the codes of each target."""
        found = list[Hashable]()
        waiting = [self._root]
        while waiting:
            one = waiting.pop()
            if one.name == "target":
                continue
            fixed = {
                k: v for k, v in one.attributes.items() if k not in ("state", "subState", "target-language", "trgLang")
            }
            text = "" if any(isinstance(child, Element) for child in one.content) else one.text
            found.append((one.name, str(fixed), text))
            waiting += [child for child in reversed(one.content) if isinstance(child, Element)]
        return found


def _with_state(tag: str, state: str, sub: str) -> str:
    bare = _STATE.sub("", tag)
    closed = "/>" if bare.endswith("/>") else ">"
    more = f' subState="{sub}"' if sub else ""
    return f'{bare[: -len(closed)].rstrip()} state="{state}"{more}{closed}'


class Xliff(DocumentFormat):
    """XLIFF 1.2 and 2.0."""

    name: ClassVar[str] = "xliff"
    summary: ClassVar[str] = "XLIFF 1.2 and 2.0: units without a target; state says what is doubtful"
    suffixes: ClassVar[tuple[str, ...]] = (".xliff", ".xlf", ".sdlxliff", ".mqxliff")

    def parse(self, data: bytes, shown: str, source: str, target: str) -> XliffDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file, root = read_xml(data, shown)
        version = root.attributes.get("version", "")
        if root.name != "xliff" or version[:1] not in ("1", "2"):
            raise DataError(f"{shown}: line {root.line}: is not XLIFF 1.2 or 2.0 (<{root.name} version={version!r}>)")
        _check_languages(root, version[:1], shown, source, target)
        units = list(_units(file, root, version[:1]))
        return XliffDocument(file, root, version[:1], units, target)


def _check_languages(root: Element, version: str, shown: str, source: str, target: str) -> None:
    holders = [root] if version == "2" else [one for one in root.walk() if one.name == "file"]
    names = ("srcLang", "trgLang") if version == "2" else ("source-language", "target-language")
    for one in holders:
        for name, wanted in zip(names, (source, target), strict=True):
            said = one.attributes.get(name)
            if said and base_language(said) != base_language(wanted):
                raise DataError(
                    f"{shown}: line {one.line}: {name} is {said!r}, and {wanted!r} was asked for; correct it, or the "
                    f"direction"
                )


def _translated(element: Element) -> bool:
    """Say whether an element is to be translated, by the innermost that says so."""
    one: Element | None = element
    while one is not None:
        if "translate" in one.attributes:
            return one.attributes["translate"] != "no"
        one = one.parent
    return True


def _units(file: Decoded, root: Element, version: str) -> Iterator[_Unit]:
    names, seen = ("trans-unit", "segment")[version == "2"], dict[str, int]()
    for one in root.walk():
        source, target = one.child("source"), one.child("target")
        if one.name != names or source is None or not _translated(one):
            continue
        segmented = one.child("seg-source")
        done = target is not None and target.text.strip()
        holder = target if version == "1" else one
        state = holder.attributes.get("state", "") if holder is not None else ""
        if (done and state not in _TODO) or one.attributes.get("approved") == "yes":
            continue
        if version == "2":
            unit = one.parent
            name = "/".join(e.attributes["id"] for e in (unit, one) if e is not None and "id" in e.attributes)
            notes = [note for e in (unit,) if e is not None for h in e.children("notes") for note in h.children("note")]
        else:
            name, notes = one.attributes.get("id", ""), list(one.children("note"))
        name = name or f"line {one.line}"
        seen[name] = seen.get(name, 0) + 1
        name = name if seen[name] == 1 else f"{name} (line {one.line})"
        context = "; ".join(" ".join(note.text.split()) for note in notes)
        made = _Unit(segmented or source, target, segmented or source, holder)
        parts = [part for part in made.source.walk() if part.name == "mrk" and part.attributes.get("mtype") == "seg"]
        for number, part in enumerate(parts or [made.source]):
            own = f"{name}.{part.attributes.get('mid', number)}" if parts else name
            if slot := slot_of(file.text, list(_pieces(part)), own, part.line, context):
                made.slots.append(slot)
        if made.slots:
            yield made


def _pieces(element: Element) -> Iterator[Piece]:
    """Yield text and codes in an element, with their places."""
    at, content = element.open_end, list(element.content)
    for number, one in enumerate(content):
        if isinstance(one, Text):
            following = content[number + 1] if number + 1 < len(content) else None
            end = following.start if following is not None else element.close
            end = one.end if 0 <= one.end <= end else end
            if one.start > at:
                yield Piece("alone", at, one.start)
            yield from _text_pieces(one, end)
            at = end
            continue
        if one.start > at:
            yield Piece("alone", at, one.start)
        if one.name in _PAIRS and not one.empty:
            key = f"{one.name} {one.start}"
            yield Piece("open", one.start, one.open_end, key=key)
            yield from _pieces(one)
            yield Piece("close", one.close, one.end, key=key)
        elif one.name in _ENDS:
            key = one.attributes.get("rid") or one.attributes.get("startRef") or one.attributes.get("id", "")
            kind = "open" if _ENDS[one.name] == "open" else "close"
            yield Piece(kind, one.start, one.end, key=f"end {key}")  # type: ignore[arg-type]  # one of the two
        else:
            yield Piece("alone", one.start, one.end, word=True)
        at = one.end
    if at < element.close:
        yield Piece("alone", at, element.close)


def _text_pieces(text: Text, end: int) -> Iterator[Piece]:
    """Yield a text with the white space around it apart, where it is written as it is read."""
    said = text.text
    if end - text.start != len(said):  # letters by their names, or a section of CDATA
        yield Piece("text", text.start, end, said)
        return
    head = len(said) - len(said.lstrip())
    tail = len(said.rstrip())
    at = text.start
    for begin, finish in ((0, head), (head, max(head, tail)), (max(head, tail), len(said))):
        if finish > begin:
            yield Piece("text", at + begin, at + finish, said[begin:finish])
