"""Marked-up text (HTML, XML) in runs that are translated one by one, and their translations with all tags in place.

A run is what stands between two tags that set paragraphs apart. Tags within it are shown to the model as `<1>`, `</1>`
and `<2/>`, as the codes of a translation memory are (`lingraft.data.inline_codes`), and what it writes is taken where
it has each of them once and well nested; else the texts between the tags are to be translated one by one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lingraft.core.errors import DataError
from lingraft.data.html_elements import ALONE, KEPT, PHRASING, VOID, WORDS
from lingraft.language.characters import is_blank
from lingraft.language.measures import letter_count

Kind = Literal["html", "xml"]

INLINE = PHRASING | WORDS | ALONE | {"br"}
"""Elements of HTML that stand within a sentence."""

_TAG = re.compile(r"""<(/?)([A-Za-z_][\w:.-]*+)((?:[^<>"']++|"[^"]*+"|'[^']*+')*+)>""")
_MARK = re.compile(r"<\s?(/?)\s?(\d{1,5})\s?(/?)\s?>")
_BROKEN = re.compile(r"[^\S\n]*\n\s*")
_NOT_TRANSLATED = re.compile(
    r"""\stranslate\s*=\s*["']?no\b|\sclass\s*=\s*(?:"[^"]*\bnotranslate\b|'[^']*\bnotranslate\b|notranslate\b)""",
    re.IGNORECASE,
)
_RAW = {name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "textarea")}
_ENDS = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>", "<!": ">"}


@dataclass(frozen=True, kw_only=True)
class TagRules:
    """How the tags of a text are taken.

    Attributes:
        kind: "html", or "xml".
        kept: elements whose content is not translated, beside those of HTML that hold none.
        splitting: elements that set paragraphs apart.
        within: elements that do not.
        outline: whether in XML those elements set paragraphs apart that do not stand beside text; else `splitting`
            alone do.
    """

    kind: Kind = "html"
    kept: Collection[str] = ()
    splitting: Collection[str] = ()
    within: Collection[str] = ()
    outline: bool = True


@dataclass
class _Token:
    """A tag, or the text between two. `other`: the place of the other end of an element; -1 where it has none."""

    raw: str
    name: str = ""
    opens: bool = False
    closes: bool = False
    other: int = -1
    splits: bool = False

    @property
    def is_text(self) -> bool:
        return not self.name

    @property
    def blank(self) -> bool:
        return self.is_text and is_blank(html.unescape(self.raw))


@dataclass(frozen=True)
class Run:
    """A part of a marked-up text.

    Attributes:
        lead: what stands before it, as it is.
        asked: what is translated: without entities, its tags numbered; "" where there is nothing to translate.
        trail: what stands behind it, as it is.
        pieces: of it, as they are; every second one, from the second on, is a tag.
        marks: for each tag how it is shown.
    """

    lead: str
    asked: str = ""
    trail: str = ""
    pieces: tuple[str, ...] = ()
    marks: tuple[str, ...] = field(default=())

    @property
    def texts(self) -> list[str]:
        """What is translated where its tags were not kept: the texts between them that have letters."""
        return [text for text in map(_plain, self.pieces[::2]) if letter_count(text)]

    def filled(self, translation: str) -> str | None:
        """Return the run translated, with its tags in their places; None where they are not all there once, in an order
        in which they can stand.

        Args:
            translation: of `asked`.
        """
        if not self.asked:
            return self.lead
        if not self.marks:
            return self.lead + _escaped(translation) + self.trail
        if _MARK.search("".join(map(_plain, self.pieces[::2]))):
            return None  # the text has what looks like one
        tags = dict(zip(self.marks, self.pieces[1::2], strict=True))
        parts, at, open_ = list[str](), 0, list[str]()
        for found in _MARK.finditer(translation):
            mark = "<" + "".join(found.groups()) + ">"
            if mark not in tags or (found[1] and (not open_ or open_.pop() != found[2])):
                return None
            if not found[1] and not found[3]:
                open_.append(found[2])
            parts += (_escaped(translation[at : found.start()]), tags.pop(mark))
            at = found.end()
        if tags:
            return None
        return self.lead + "".join(parts) + _escaped(translation[at:]) + self.trail

    def filled_apart(self, translations: Sequence[str]) -> str:
        """Return the run translated text by text; `translations`: of `texts`, in order."""
        following = iter(translations)
        parts = list(self.pieces)
        for place in range(0, len(parts), 2):
            text = _plain(parts[place])
            if letter_count(text):
                before = text[: len(text) - len(text.lstrip())]
                after = text[len(text.rstrip()) :]
                parts[place] = before + _escaped(next(following).strip()) + after
        return self.lead + "".join(parts) + self.trail


def runs(text: str, rules: TagRules) -> list[Run]:
    """Return the parts of a marked-up text; put together, with what they were asked for put back, they are the text.

    Raises:
        DataError: the tags cannot be read.
    """
    tokens = _paired(list(_tokens(text, rules.kind)), rules.kind)
    tokens = _kept_whole(tokens, rules)
    _find_splits(tokens, rules)
    found, begin = list[Run](), 0
    for place, token in enumerate([*tokens, _Token("", splits=True)]):
        if token.splits:
            if place > begin:
                found.append(_run(tokens, begin, place))
            if token.raw:
                found.append(Run(token.raw))
            begin = place + 1
    return found


def _plain(raw: str) -> str:
    """Return a text without entities and without line breaks that are those of the file."""
    return _BROKEN.sub(" ", html.unescape(raw))


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def _tokens(text: str, kind: Kind) -> Iterator[_Token]:
    at = begin = 0
    while (start := text.find("<", at)) >= 0:
        special = next((mark for mark in _ENDS if text.startswith(mark, start)), "")
        if special:
            end = text.find(_ENDS[special], start + len(special))
            if end < 0:
                raise DataError(f"the tags cannot be read: {special} at character {start:,} has no end")
            token = _Token(text[start : end + len(_ENDS[special])], special)
        elif found := _TAG.match(text, start):
            name = found[2] if kind == "xml" else found[2].lower()
            alone = found[3].endswith("/") or (kind == "html" and name in VOID)
            token = _Token(found[0], name, opens=not found[1] and not alone, closes=bool(found[1]))
        elif kind == "html" and not text[start + 1 : start + 2].isalpha() and text[start + 1 : start + 2] != "/":
            at = start + 1  # "a < b"
            continue
        else:
            raise DataError(f"the tags cannot be read: < at character {start:,} begins no tag; write &lt; for the sign")
        if start > begin:
            yield _Token(text[begin:start])
        yield token
        at = begin = start + len(token.raw)
        if kind == "html" and token.opens and token.name in _RAW:  # up to its end tag, whatever stands there
            closing = _RAW[token.name].search(text, at)
            if closing is None:
                raise DataError(f"the tags cannot be read: {token.raw[:50]} at character {start:,} is not closed")
            at = closing.start()
    if begin < len(text):
        yield _Token(text[begin:])


def _paired(tokens: list[_Token], kind: Kind) -> list[_Token]:
    """Note the two ends of each element."""
    open_: list[int] = []
    names: dict[str, int] = {}  # how many of a name are open
    for place, token in enumerate(tokens):
        if token.opens:
            open_.append(place)
            names[token.name] = names.get(token.name, 0) + 1
        elif token.closes:
            if kind == "xml" and (not open_ or tokens[open_[-1]].name != token.name):
                raise DataError(f"the tags cannot be read: {token.raw[:50]} closes what is not open")
            while names.get(token.name):
                last = open_.pop()
                names[tokens[last].name] -= 1
                if tokens[last].name == token.name:
                    tokens[last].other, token.other = place, last
                    break
    if kind == "xml" and open_:
        raise DataError(f"the tags cannot be read: {tokens[open_[-1]].raw[:50]} is not closed")
    return tokens


def _kept_whole(tokens: list[_Token], rules: TagRules) -> list[_Token]:
    """Return the tokens with each element that is not translated as one."""
    html_, found, moved = rules.kind == "html", list[_Token](), dict[int, int]()
    place = 0
    while place < len(tokens):
        token = tokens[place]
        kept = token.name in rules.kept or (html_ and (token.name in KEPT or _NOT_TRANSLATED.search(token.raw)))
        moved[place] = len(found)
        if token.opens and kept and token.other >= 0:
            whole = "".join(one.raw for one in tokens[place : token.other + 1])
            found.append(_Token(whole, token.name))
            place = token.other + 1
        else:
            found.append(token)
            place += 1
    for token in found:
        token.other = moved.get(token.other, -1)
    return found


def _find_splits(tokens: list[_Token], rules: TagRules) -> None:
    """Note which tags set paragraphs apart."""
    if rules.kind == "html":
        for token in tokens:
            inline = token.name in INLINE or token.name == "<!--" or token.name in rules.within
            token.splits = not token.is_text and (token.name in rules.splitting or not inline)
        return
    beside_text = [False]  # of each open element whether it has text of its own
    owner: list[int] = []  # of each token the number of the element that it stands in
    open_ = [0]
    for token in tokens:
        if token.closes:
            open_.pop()
        owner.append(open_[-1])
        if token.is_text and not token.blank:
            beside_text[open_[-1]] = True
        if token.opens:
            open_.append(len(beside_text))
            beside_text.append(False)
    inside = 0  # of how many elements within a sentence
    for token, number in zip(tokens, owner, strict=True):
        if token.is_text:
            continue
        if token.closes:
            token.splits = tokens[token.other].splits
            inside -= not token.splits
            continue
        apart = rules.outline and not (inside or beside_text[number] or token.name in rules.within)
        token.splits = token.name in rules.splitting or apart
        inside += token.opens and not token.splits


def _run(tokens: list[_Token], begin: int, end: int) -> Run:
    """Return a run; tags and white space at its ends are not shown to the model."""
    first, last = begin, end - 1

    def within(token: _Token) -> bool:
        return begin <= token.other < end

    moving = True
    while moving and first <= last:
        moving = False
        while first <= last and (tokens[first].blank or not (tokens[first].is_text or within(tokens[first]))):
            first, moving = first + 1, True
        while last >= first and (tokens[last].blank or not (tokens[last].is_text or within(tokens[last]))):
            last, moving = last - 1, True
        if first < last and tokens[first].other == last:
            first, last, moving = first + 1, last - 1, True
    if not any(token.is_text and letter_count(html.unescape(token.raw)) for token in tokens[first : last + 1]):
        return Run("".join(token.raw for token in tokens[begin:end]))
    pieces, marks, numbers = [""], list[str](), dict[int, int]()
    for place in range(first, last + 1):
        token = tokens[place]
        if token.is_text:
            pieces[-1] += token.raw
            continue
        number = numbers.setdefault(min(place, token.other) if within(token) else place, len(numbers) + 1)
        marks.append(f"<{'/' if token.closes and within(token) else ''}{number}{'' if within(token) else '/'}>")
        pieces += [token.raw, ""]
    lead = "".join(token.raw for token in tokens[begin:first])
    trail = "".join(token.raw for token in tokens[last + 1 : end])
    before = len(pieces[0]) - len(pieces[0].lstrip())
    lead, pieces[0] = lead + pieces[0][:before], pieces[0][before:]
    after = len(pieces[-1].rstrip())
    trail, pieces[-1] = pieces[-1][after:] + trail, pieces[-1][:after]
    shown = [_plain(piece) if place % 2 == 0 else marks[place // 2] for place, piece in enumerate(pieces)]
    return Run(lead, "".join(shown), trail, tuple(pieces), tuple(marks))
