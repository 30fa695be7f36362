"""A translation memory beside a file: what is in it already is taken over, what is near it is shown to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError
from lingraft.core.hashing import content_hash
from lingraft.data import packed
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, read_pairs
from lingraft.documents.base import Segment
from lingraft.documents.inline import breaks_fit, problems

SHOWN, NEAR = 4, 50
"""Pairs that are shown with a segment, and the least chrF of their sources against it."""


@dataclass(frozen=True)
class FileMemory:
    """A memory. `texts`: of the source -> translation, with placeholders for inline codes."""

    path: Path
    source: str
    target: str
    texts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, source: str, target: str) -> FileMemory:
        """Read a memory: TMX, or any file of pairs.

        Raises:
            DataError: it cannot be read, or has no pair of the languages.
            UsageError: its format cannot be told.
        """
        name = path.name.removesuffix(packed.suffix(path.name)).lower()
        codes: Any = {"inline_codes": "placeholder"} if name.endswith(".tmx") else {}
        texts: dict[str, str] = {}
        for row in read_pairs(PairSource(path=str(path), source=source, target=target, **codes)):
            if isinstance(row, Row):
                texts.setdefault(row.record.source.strip(), row.record.target.strip())
        if not texts:
            raise DataError(f"{path}: holds no pair of {source} and {target}; give another --memory")
        return cls(path, source, target, texts)

    @property
    def identity(self) -> str:
        """Hash of what is in it."""
        return content_hash(sorted(self.texts.items()))

    @property
    def decoder(self) -> dict[str, Any]:
        """The decoder that shows what is near."""
        languages = [self.source, self.target]
        near = {"retriever": "chrf", "at_least": NEAR, "below": 100, "k": SHOWN}
        return {"kind": "icl", "memory": str(self.path), "languages": languages, **near}

    def match(self, segment: Segment) -> str:
        """Return the translation of a segment that is in the memory and keeps all that it must; "" if none is."""
        found = self.texts.get(segment.text, "")
        return found if found and not problems(segment, found) and breaks_fit(segment, found) else ""
