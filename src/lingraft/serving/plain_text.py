"""Plain text as a document of translation endpoints: its paragraphs are segments, as `lingraft translate` cuts them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, Document, DocumentFormat, Filled, Segment, decoded
from lingraft.translation.blocks import TextBlock, document_blocks


class PlainText(DocumentFormat):
    """Plain text, in UTF-8 or with a byte order mark.

    Args:
        most: tokens of a segment, if it has places to be cut at.
        count: says how many tokens a text has.
    """

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = "plain text, paragraph by paragraph"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    def __init__(self, most: int, count: Callable[[str], int]) -> None:
        super().__init__()
        self._most, self._count = most, count

    def parse(self, data: bytes, shown: str, source: str, target: str) -> Document:
        """Read a text; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        if "\0" in file.text:
            raise DataError(f"{shown} is no text; send a file of a format that its name tells")
        lines = file.text.replace("\r\n", "\n").split("\n")
        return _Paragraphs(file, document_blocks(lines, self._most, self._count, source, target))


class _Paragraphs(Document):
    def __init__(self, file: Decoded, blocks: Sequence[TextBlock]) -> None:
        self._file, self._blocks = file, blocks
        self.segments = [
            Segment(f"{number}", one.text, line=one.line) for number, one in enumerate(blocks) if one.translate
        ]

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the text; see `Document.written`."""
        if not filled:
            return self._file.encoded(self._file.text)
        made = []
        for number, one in enumerate(self._blocks):
            found = filled.get(str(number))
            made.append((found.text if found and found.text else one.text) + one.end)
        return self._file.encoded("".join(made).removesuffix("\n").replace("\n", self._file.newline))

    def shape(self) -> Sequence[Hashable]:
        """Return the lines that are copied; translations of paragraphs may have other lines."""
        return [one.text for one in self._blocks if not one.translate]
