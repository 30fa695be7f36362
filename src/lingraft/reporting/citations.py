"""What a text cites: keys of the shipped bibliography, BibTeX entries of one's own, addresses of the web.

A text that is being written holds citations as `[@key;key]`; `Citations` writes it in plain text, with author and year,
or in LaTeX, with `\\citep`, and lists the BibTeX entries of what it cites.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from lingraft.core.hashing import content_hash
from lingraft.core.printable import latex
from lingraft.statistics.metric_facts import citable

_CITED = re.compile(r" ?\[@([^\]]+)\]")
_ACCENT = re.compile(r"\{\\(['v])\{?(\w)\}?\}")


@cache
def bibliography() -> dict[str, str]:
    """Return the entries of `references.bib` by key."""
    text = files("lingraft.reporting").joinpath("references.bib").read_text("utf-8")
    return {entry_key(entry): entry for entry in (part.strip() for part in re.split(r"\n(?=@)", text))}


def entry_key(entry: str) -> str:
    """Return the key of a BibTeX entry."""
    return re.split(r"[{,]", entry, maxsplit=2)[1].strip()


class Citations:
    """The sources of one text: marks for it while it is written, then its forms."""

    def __init__(self) -> None:
        self._own: dict[str, str] = {}

    def mark(self, sources: Iterable[str]) -> str:
        """Return the mark of a citation, with a space before it; nothing without sources.

        Args:
            sources: keys, BibTeX entries or addresses; anything else is left out.
        """
        keys = dict.fromkeys(map(self._key, filter(citable, sources)))
        return f" [@{';'.join(keys)}]" if keys else ""

    def _key(self, source: str) -> str:
        source = source.strip()
        if source.startswith("@"):
            key = entry_key(source)
            if bibliography().get(key, source) != source:  # a key of ours that means something else
                source, key = source.replace(key, f"own-{key}", 1), f"own-{key}"
        elif source.startswith(("http://", "https://")):
            key = f"web-{content_hash(source)[:8]}"
            source = f"@misc{{{key},\n  title = {{\\url{{{source}}}}},\n}}"
        else:
            return source
        self._own[key] = source
        return key

    def entry(self, key: str) -> str:
        """Return the BibTeX entry of a key, empty for one that is not known here."""
        return self._own.get(key) or bibliography().get(key, "")

    def shown(self, key: str) -> str:
        """Return "Post, 2018", "Riezler and Maxwell, 2005" or "Snover et al., 2006", else the title."""
        entry = self.entry(key)
        fields = {
            name.lower(): " ".join(value.split())
            for name, value in re.findall(
                r"(\w+)\s*=\s*[{\"](.*?)[}\"]\s*(?:,\s*(?=\w+\s*=)|,?\s*\}\s*$)", entry, re.DOTALL
            )
        }
        if not fields.get("author"):
            title = fields.get("title", "")
            return re.sub(r"\\url\{(.*)\}", r"\1", title).replace("{", "").replace("}", "") or key
        people = [_surname(person) for person in fields["author"].split(" and ")]
        others = " et al." if len(people) > 2 else ""
        first = f"{people[0]} and {people[1]}" if len(people) == 2 else people[0] + others
        return ", ".join(filter(None, (first, fields.get("year", ""))))

    def plain(self, marked: str) -> str:
        """Return a text with author and year."""
        return _CITED.sub(lambda m: f" ({'; '.join(map(self.shown, m[1].split(';')))})", marked)

    def latex(self, marked: str) -> str:
        """Return a text for LaTeX with natbib."""
        return "".join(
            f"~\\citep{{{piece.replace(';', ',')}}}" if position % 2 else latex(piece)
            for position, piece in enumerate(_CITED.split(marked))
        )

    def bibtex(self, marked: str) -> str:
        """Return the entries of what a text cites, by key."""
        keys = sorted({key for found in _CITED.findall(marked) for key in found.split(";")})
        return "\n\n".join(filter(None, map(self.entry, keys)))


def _surname(person: str) -> str:
    """Return the last name of "Last, First" or "First Last"."""
    last = person.partition(",")[0] if "," in person else person.split()[-1] if person.split() else ""
    return _ACCENT.sub(_accented, last.strip())


def _accented(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match[2] + {"'": "\u0301", "v": "\u030c"}[match[1]])
