"""The interface of a document format: what is translated in a file, and how translations are put back into it."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from lingraft.core.errors import DataError
from lingraft.core.registry import Registry
from lingraft.core.validation import Settings

State = Literal["translated", "doubtful", "lost"]
"""What became of a segment: "doubtful" is marked for a reader, "lost" is left as in the source and marked."""


@dataclass(frozen=True)
class Segment:
    """A text of a document that is translated by itself.

    Attributes:
        id: names it in the file, e.g. "line 12", "menu.open".
        text: plain text, with a placeholder (`<1>`, `</1>`, `<2/>`) for each inline code.
        codes: the placeholders, in the order of the text.
        line: of the file, from 1, where it begins.
        breaks: ends of lines that were taken out of the text: where (0 to 1, of its letters) and what stood there.
        context: words about it from the file, for a reader of the report.
    """

    id: str
    text: str
    codes: tuple[str, ...] = ()
    line: int = 1
    breaks: tuple[tuple[float, str], ...] = ()
    context: str = ""


@dataclass(frozen=True)
class Filled:
    """The translation of a segment, with the segment's placeholders. `text` of a lost one is empty."""

    text: str
    state: State = "translated"


class Document(ABC):
    """A file that was read.

    Attributes:
        segments: in the order of the file; ids are unique.
        marks: whether the format has marks of its own for doubtful and lost segments.
    """

    segments: Sequence[Segment]
    marks: ClassVar[bool] = False

    @abstractmethod
    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file with translations by segment id; without any, it is what was read, byte by byte."""

    @abstractmethod
    def shape(self) -> Sequence[Hashable]:
        """Return what of the file a translation must keep: its structure, code, keys, times, but no text."""


class DocumentFormat(ABC):
    """A format: reads files of it.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list documents`.
        suffixes: of files' names, in small letters.
        plain: whether a file can be read without parameters.
        Params: the format's parameters.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    plain: ClassVar[bool] = True

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Any = None) -> None:
        self.params: Any = self.Params() if params is None else params

    @abstractmethod
    def parse(self, data: bytes, shown: str, source: str, target: str) -> Document:
        """Read a file.

        Args:
            data: what is in it.
            shown: its name, for messages.
            source: language code of its texts.
            target: language code of the translations.

        Raises:
            DataError: it is not of the format; names the line.
            UsageError: a parameter does not fit the file.
        """


@dataclass(frozen=True)
class Decoded:
    """A text file: its text as it is, line ends included, and how it was encoded."""

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""
    _lines: list[int] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def newline(self) -> str:
        """How its lines end."""
        return "\r\n" if "\r\n" in self.text else "\n"

    def line_at(self, place: int) -> int:
        """Return the line of a character, from 1."""
        from bisect import bisect_right

        if not self._lines:
            self._lines.append(0)
            self._lines.extend(i + 1 for i, letter in enumerate(self.text) if letter == "\n")
        return bisect_right(self._lines, place)

    def encoded(self, text: str, errors: str = "strict") -> bytes:
        """Return a text in the file's encoding."""
        return self.mark + text.encode(self.encoding, errors)


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decoded(data: bytes, shown: str, encoding: str = "utf-8") -> Decoded:
    """Return the text of a file.

    Args:
        data: what is in it; a byte order mark says how it is encoded.
        shown: its name, for messages.
        encoding: where there is no mark.

    Raises:
        DataError: other bytes; names the line.
    """
    mark, encoding = next(((one, name) for one, name in _MARKS if data.startswith(one)), (b"", encoding))
    try:
        return Decoded(data[len(mark) :].decode(encoding), encoding, mark)
    except UnicodeDecodeError as error:
        line = data[: len(mark) + error.start].count(b"\n") + 1
        raise DataError(f"{shown} is not {encoding.upper()} (line {line}); convert it with `iconv -t utf-8`") from error


DOCUMENTS: Registry[type[DocumentFormat]] = Registry(
    "document",
    {
        "csv": "lingraft.documents.table_column:TableColumn",
        "docx": "lingraft.documents.docx:Docx",
        "html": "lingraft.documents.html:Html",
        "json": "lingraft.documents.json_table:JsonTable",
        "markdown": "lingraft.documents.markdown:Markdown",
        "po": "lingraft.documents.po:Po",
        "srt": "lingraft.documents.subtitles:Srt",
        "vtt": "lingraft.documents.subtitles:Vtt",
        "xliff": "lingraft.documents.xliff:Xliff",
        "yaml": "lingraft.documents.yaml_table:YamlTable",
    },
)
"""What `lingraft translate` reads with its structure."""


def format_named(name: str) -> type[DocumentFormat] | None:
    """Return the format of a file by its name's suffix; None where no format has it."""
    suffix = PurePath(name).suffix.lower()
    found: Iterable[type[DocumentFormat]] = (DOCUMENTS.get(one) for one in DOCUMENTS) if suffix else ()
    return next((one for one in found if suffix in one.suffixes), None)
