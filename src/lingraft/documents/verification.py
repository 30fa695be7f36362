"""Whether a translated document is built as its source is, and which segments are at fault where it is not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from lingraft.core.errors import LingraftError
from lingraft.documents.base import Document, DocumentFormat, Filled

CHANGED = "its translation changes the structure of the file"


def spoiling(
    document: Document, kind: DocumentFormat, filled: Mapping[str, Filled], source: str, target: str
) -> list[str]:
    """Return the ids of the segments whose translations change the document's structure.

    The whole is read again and compared; where it differs, halves are, so that k faults among n segments take about
    k log n readings.

    Args:
        document: the source.
        kind: its format.
        filled: translations by segment id.
        source: language code of the source.
        target: language code of the translations.
    """
    wanted, found = document.shape(), list[str]()
    waiting = [list(filled)]
    good: dict[str, Filled] = {}
    while waiting:
        some = waiting.pop()
        tried = {**good, **{key: filled[key] for key in some}}
        if not some:
            continue
        if _same(document.written(tried), kind, wanted, source, target):
            good = tried
        elif len(some) == 1:
            found.append(some[0])
        else:
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
    return found


def _same(data: bytes, kind: DocumentFormat, wanted: Sequence[Hashable], source: str, target: str) -> bool:
    try:
        return list(kind.parse(data, "the translation", source, target).shape()) == list(wanted)
    except LingraftError:  # it is not of the format any more
        return False
