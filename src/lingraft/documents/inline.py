"""Inline codes: markup within a segment becomes numbered placeholders, which a translation must have as well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from lingraft.documents.base import Segment
from lingraft.language.measures import letter_count, without_spaces
from lingraft.language.placeholders import ADDRESSES, TAGS, VARIABLES

PLACEHOLDER = re.compile(r"</?\d{1,4}>|<\d{1,4}/>")
_VARIABLE = re.compile(VARIABLES)
_ADDRESS = re.compile(ADDRESSES, re.IGNORECASE)
_TAG = re.compile(rf"{TAGS}|</?[A-Za-z]+(?:\.[\w-]+)+(?:\s[^<>]*)?>|\{{\\[^{{}}]*\}}|<\d+[:.][\d:.]*>")
_TAG_NAME = re.compile(r"</?([A-Za-z][\w:-]*)")
_EMPTY = frozenset(
    [
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"),
    ]
)
_OPENS_BLOCK = re.compile(r"[-+*>#=|~`:]|\d+[.)]")
"""What must not come to stand at the beginning of a line: it would be a list, a title, a rule or a table there."""


@dataclass(frozen=True)
class Piece:
    """A part of a text between two places of the file.

    Attributes:
        kind: "text"; "open", "close" or "alone": inline code; "break": the end of a line that is none of the text.
        start: place of its first character.
        end: place behind its last.
        shown: of a text: what the model reads; of a break, the space in its place.
        key: of "open" and "close": what pairs them.
        word: whether a code stands for a word, so that it belongs to the sentence also at its edges.
    """

    kind: Literal["text", "open", "close", "alone", "break"]
    start: int
    end: int
    shown: str = ""
    key: str = ""
    word: bool = False


@dataclass(frozen=True)
class Slot:
    """Where a segment stands. `codes`: placeholder -> start and end of its markup in the file."""

    segment: Segment
    start: int
    end: int
    codes: dict[str, tuple[int, int]]


def tagged_pieces(text: str, start: int = 0) -> list[Piece]:
    """Return the pieces of a text that may hold tags (`<b>`, `</b>`, `<br/>`, `{\\an8}`, `<00:01.000>`).

    Args:
        text: as it stands in the file.
        start: place of its first character.
    """
    pieces, at = list[Piece](), 0
    for found in _TAG.finditer(text):
        if found.start() > at:
            pieces.append(Piece("text", start + at, start + found.start(), text[at : found.start()]))
        name = _TAG_NAME.match(found[0])
        kind: Literal["open", "close", "alone"] = "alone"
        if name and not found[0].endswith("/>") and name[1].lower() not in _EMPTY:
            kind = "close" if found[0].startswith("</") else "open"
        key = name[1].lower() if name else ""
        pieces.append(Piece(kind, start + found.start(), start + found.end(), key=key))
        at = found.end()
    if at < len(text):
        pieces.append(Piece("text", start + at, start + len(text), text[at:]))
    return pieces


def slot_of(text: str, pieces: Sequence[Piece], name: str, line: int, context: str = "") -> Slot | None:
    """Return the segment that pieces make, without white space and codes around it; None if it has no letter.

    Args:
        text: of the file.
        pieces: in order, without gaps.
        name: id of the segment.
        line: where it begins.
        context: see `Segment`.
    """
    trimmed = _trimmed(_paired(pieces))
    shown = [piece.shown for piece in trimmed if piece.kind == "text"]
    if not any(letter_count(one) for one in shown):
        return None
    if not letter_count(_VARIABLE.sub("", _ADDRESS.sub("", " ".join(shown)))):
        return None
    said = "".join(shown)  # a text may be cut within what looks like a placeholder
    literal = {int(re.sub(r"\D", "", found)) for found in PLACEHOLDER.findall(said)}
    numbers = (number for number in count(1) if number not in literal)
    parts, codes, opened = list[str](), dict[str, tuple[int, int]](), dict[str, list[int]]()
    breaks = list[tuple[int, str]]()
    letters = 0
    for piece in trimmed:
        if piece.kind == "text":
            parts.append(piece.shown)
            letters += len(piece.shown)
            continue
        if piece.kind == "break":
            parts.append(piece.shown)
            letters += len(piece.shown)
            breaks.append((letters, text[piece.start : piece.end]))
            continue
        if piece.kind == "close":
            mark = f"</{opened[piece.key].pop()}>"
        else:
            number = next(numbers)
            mark = f"<{number}>" if piece.kind == "open" else f"<{number}/>"
            if piece.kind == "open":
                opened.setdefault(piece.key, []).append(number)
        parts.append(mark)
        codes[mark] = piece.start, piece.end
    marks = tuple(codes)
    places = tuple((place / max(1, letters), raw) for place, raw in breaks)
    segment = Segment(name, "".join(parts), marks, line, places, context)
    return Slot(segment, trimmed[0].start, trimmed[-1].end, codes)


def _paired(pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces in which every "open" has its "close" and they nest; others stand alone."""
    out, waiting = list(pieces), list[int]()
    for place, piece in enumerate(pieces):
        if piece.kind == "open":
            waiting.append(place)
        elif piece.kind == "close":
            own = next((i for i in reversed(range(len(waiting))) if out[waiting[i]].key == piece.key), None)
            if own is None:
                out[place] = replace(piece, kind="alone")
                continue
            for left in waiting[own + 1 :]:
                out[left] = replace(out[left], kind="alone")
            del waiting[own:]
    for left in waiting:
        out[left] = replace(out[left], kind="alone")
    return out


def _trimmed(pieces: list[Piece]) -> list[Piece]:
    """Return pieces without white space, breaks and codes that stand around all text."""
    begin, end = 0, len(pieces)
    changed = True
    while changed and begin < end:
        changed = False
        while begin < end and _outer(pieces[begin]):
            begin, changed = begin + 1, True
        while begin < end and _outer(pieces[end - 1]):
            end, changed = end - 1, True
        if end - begin > 1 and pieces[begin].kind == "open" and _closes(pieces[begin:end]):
            begin, end, changed = begin + 1, end - 1, True
    out = pieces[begin:end]
    if out and out[0].kind == "text":
        first = out[0]
        bare = first.shown.lstrip()
        cut = len(first.shown) - len(bare)
        if cut and first.end - first.start == len(first.shown):  # as it stands in the file
            out[0] = replace(first, start=first.start + cut, shown=bare)
    if out and out[-1].kind == "text":
        last = out[-1]
        bare = last.shown.rstrip()
        cut = len(last.shown) - len(bare)
        if cut and last.end - last.start == len(last.shown):
            out[-1] = replace(last, end=last.end - cut, shown=bare)
    return out


def _outer(piece: Piece) -> bool:
    if piece.kind == "text":
        return not piece.shown.strip()
    return piece.kind == "break" or (piece.kind == "alone" and not piece.word)


def _closes(pieces: Sequence[Piece]) -> bool:
    """Say whether the last piece closes the first."""
    depth = 0
    for place, piece in enumerate(pieces):
        depth += {"open": 1, "close": -1}.get(piece.kind, 0)
        if depth == 0:
            return place == len(pieces) - 1
    return False


def problems(segment: Segment, text: str) -> list[str]:
    """Return what a translation lost of its segment, in words; nothing where it kept all.

    Args:
        segment: of the document.
        text: its translation, with placeholders.
    """
    found = list[str]()
    if not text.strip():
        return ["it is empty"]
    asked, given = Counter(segment.codes), Counter(one for one in PLACEHOLDER.findall(text) if one in segment.codes)
    if asked != given:
        found.append(_difference("inline code", asked, given))
    elif not _nests(text, segment.codes):
        found.append("inline codes are not in pairs any more")
    for what, pattern in (("placeholder", _VARIABLE), ("address", _ADDRESS)):
        wanted, kept = _counted(pattern, segment.text), _counted(pattern, text)
        if wanted != kept:
            found.append(_difference(what, wanted, kept))
    if segment.text.count("\n") != text.count("\n"):
        found.append(f"{text.count(chr(10)) + 1} lines in place of {segment.text.count(chr(10)) + 1}")
    return found


def _counted(pattern: re.Pattern[str], text: str) -> Counter[str]:
    return Counter(one.rstrip(".,;:!?。、，") for one in pattern.findall(text))


def _difference(what: str, asked: Counter[str], given: Counter[str]) -> str:
    lost, more = asked - given, given - asked
    said = [f"{name} {' '.join(sorted(some))}" for name, some in (("lost", lost), ("added", more)) if some]
    return f"{what} {' and '.join(said)}"


def _nests(text: str, codes: Sequence[str]) -> bool:
    waiting = list[str]()
    for mark in PLACEHOLDER.findall(text):
        if mark not in codes or mark.endswith("/>"):
            continue
        if mark.startswith("</"):
            if not waiting or waiting.pop() != mark.replace("/", ""):
                return False
        else:
            waiting.append(mark)
    return not waiting


def marked_up(segment: Segment, text: str, code: Callable[[str], str], escape: Callable[[str], str]) -> str:
    """Return a translation as it stands in the file: codes and ends of lines put back.

    Args:
        segment: of the document.
        text: its translation.
        code: gives the markup of a placeholder.
        escape: writes plain text in the format.
    """
    tokens = _tokens(text, segment.codes)
    breaks = _break_places(tokens, segment.breaks)
    out = list[str]()
    for number, (kind, part) in enumerate(tokens):
        if kind == "code":
            out.append(code(part))
            continue
        at = 0
        for place, raw, width in breaks.get(number, ()):
            out += [escape(part[at:place]), raw]
            at = place + width
        out.append(escape(part[at:]))
    return "".join(out)


def breaks_fit(segment: Segment, text: str) -> bool:
    """Say whether a translation has room for all ends of lines of its segment."""
    found = _break_places(_tokens(text, segment.codes), segment.breaks)
    return sum(map(len, found.values())) == len(segment.breaks)


def _tokens(text: str, codes: Iterable[str]) -> list[tuple[str, str]]:
    known, out, at = set(codes), list[tuple[str, str]](), 0
    for found in PLACEHOLDER.finditer(text):
        if found[0] in known:
            out += [("text", text[at : found.start()]), ("code", found[0])]
            at = found.end()
    return [*out, ("text", text[at:])]


def _break_places(
    tokens: Sequence[tuple[str, str]], breaks: Sequence[tuple[float, str]]
) -> dict[int, list[tuple[int, str, int]]]:
    """Return by token where its text is broken: place, what is put there, and how many characters it takes away."""
    if not breaks:
        return {}
    candidates = list[tuple[int, int, int, int]]()  # letters before it, token, place, width
    letters = 0
    for number, (kind, part) in enumerate(tokens):
        if kind == "code":
            continue
        fixed = [found.span() for pattern in (_VARIABLE, _ADDRESS) for found in pattern.finditer(part)]
        for place in range(len(part)):
            if any(start < place < end for start, end in fixed):
                continue
            first, last = number == 0 and not part[:place].strip(), number == len(tokens) - 1
            if first or (last and not part[place:].strip()):
                continue
            rest = part[place:].lstrip()
            if part[place] == " " and part[place - 1 : place] != " ":
                if not _OPENS_BLOCK.match(rest):
                    candidates.append((letters + place, number, place, 1))
            elif place and without_spaces(part[place]) and without_spaces(part[place - 1]):
                candidates.append((letters + place, number, place, 0))
        letters += len(part)
    chosen, begin = dict[int, list[tuple[int, str, int]]](), 0
    for left, (share, raw) in zip(range(len(breaks) - 1, -1, -1), breaks, strict=True):
        room = candidates[begin : len(candidates) - left]
        if not room:
            break
        best = min(range(len(room)), key=lambda i: abs(room[i][0] - share * letters))
        _, number, place, width = room[best]
        chosen.setdefault(number, []).append((place, raw, width))
        begin += best + 1
    return chosen
