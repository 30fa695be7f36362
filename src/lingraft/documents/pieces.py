"""A segment cut where nothing can be lost: at inline codes, placeholders, addresses, ends of lines and sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lingraft.documents.base import Segment
from lingraft.documents.inline import PLACEHOLDER
from lingraft.language.placeholders import ADDRESSES, VARIABLES
from lingraft.language.sentences import TextPiece, split_text

_KEPT = re.compile(f"{PLACEHOLDER.pattern}|{VARIABLES}|{ADDRESSES}|\\n", re.IGNORECASE)


def cut(segment: Segment, lang: str) -> list[TextPiece]:
    """Return the pieces of a segment, which put together are its text.

    Args:
        segment: of a document.
        lang: language code of its text, which tells where sentences end.
    """
    pieces, at, text = list[TextPiece](), 0, segment.text
    for found in _KEPT.finditer(text):
        pieces += _split(text[at : found.start()], lang)
        pieces.append(TextPiece(found[0], False))
        at = found.end()
    return pieces + _split(text[at:], lang)


def _split(text: str, lang: str) -> list[TextPiece]:
    bare = text.strip()
    if not bare:
        return [TextPiece(text, False)] if text else []
    begin = text.index(bare)
    around = text[:begin], text[begin + len(bare) :]
    return [
        *([TextPiece(around[0], False)] if around[0] else []),
        *split_text(bare, lang=lang),
        *([TextPiece(around[1], False)] if around[1] else []),
    ]


def rejoined(pieces: list[TextPiece], found: Mapping[str, str]) -> str:
    """Return the text with its pieces replaced by their translations, each on one line."""
    return "".join(" ".join(found[one.text].split()) if one.translate else one.text for one in pieces)
