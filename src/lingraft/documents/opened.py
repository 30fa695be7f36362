"""Documents while their segments are translated, in the process that read them or in others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lingraft.documents.base import DOCUMENTS, Document, DocumentFormat, Filled, Segment
from lingraft.documents.verification import spoiling


class OpenDocument(Protocol):
    """A document whose segments are to be translated. `segments`: in the order of the file; their ids are unique."""

    @property
    def segments(self) -> Sequence[Segment]: ...

    def spoiling(self, filled: Mapping[str, Filled]) -> Collection[str]:
        """Return the ids of the segments whose translations change the document's structure."""
        ...

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file with translations by segment id."""
        ...


@dataclass(frozen=True)
class DocumentHere:
    """A document in this process.

    Attributes:
        document: that was read.
        kind: its format.
        source: language code of its texts.
        target: that of the translations.
    """

    document: Document
    kind: DocumentFormat
    source: str
    target: str

    @property
    def segments(self) -> Sequence[Segment]:
        """In the order of the file."""
        return self.document.segments

    def spoiling(self, filled: Mapping[str, Filled]) -> Collection[str]:
        """Return what changes the structure; see `OpenDocument.spoiling`."""
        return spoiling(self.document, self.kind, filled, self.source, self.target)

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; see `OpenDocument.written`."""
        return self.document.written(filled)


def segments_of(format_: str, data: bytes, source: str, target: str, most: int) -> Sequence[Segment]:
    """Return the segments of a file.

    Args:
        format_: registered name of its format, which needs no parameters.
        data: what is in it.
        source: language code of its texts.
        target: that of the translations.
        most: segments that are returned.

    Raises:
        DataError: it is not of the format.
    """
    return opened(format_, data, source, target).segments[:most]


def opened(format_: str, data: bytes, source: str, target: str) -> DocumentHere:
    """Return a file as a document; see `segments_of`.

    Raises:
        DataError: it is not of the format.
    """
    kind = DOCUMENTS.create({"kind": format_})
    return DocumentHere(kind.parse(data, "the file", source, target), kind, source, target)


def spoiling_of(format_: str, data: bytes, source: str, target: str, filled: Mapping[str, Filled]) -> Collection[str]:
    """Return the segments of a file whose translations change its structure; see `segments_of`."""
    return opened(format_, data, source, target).spoiling(filled)


def written_with(format_: str, data: bytes, source: str, target: str, filled: Mapping[str, Filled]) -> bytes:
    """Return a file with translations by segment id; see `segments_of`."""
    return opened(format_, data, source, target).written(filled)
