"""Glossaries that clients of an endpoint give it: in memory, or in a folder as well, and never more than there is room
for."""

from __future__ import annotations

import csv
import io
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError
from lingraft.data.glossary import MAX_TERM, Glossary, Term
from lingraft.language.characters import is_blank
from lingraft.language.codes import language_tag, same_language
from lingraft.language.terms import folded
from lingraft.serving.request import ApiError
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder
from lingraft.store.files import write_json

MOST = 1000
"""Glossaries."""
MOST_BYTES = 1 << 26
"""Of all terms together."""
NAME_LENGTH = 1024
SCHEMA = "lingraft.served-glossary/1"
FORMATS = {"tsv": "\t", "csv": ","}


@dataclass(frozen=True, kw_only=True)
class ServedGlossary:
    """A glossary of a client. `entries`: (term, translation), in its order."""

    id: str
    name: str
    source: str
    target: str
    entries: tuple[tuple[str, str], ...]
    created: str

    @property
    def terms(self) -> Glossary:
        """The terms as a decoder takes them."""
        return Glossary(tuple(Term(one, two, self.source, self.target) for one, two in self.entries))

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return sum(len(one) + len(two) + 100 for one, two in self.entries) + len(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return what a file holds of it."""
        values = {"id": self.id, "name": self.name, "source": self.source, "target": self.target}
        return {"schema": SCHEMA, **values, "created": self.created, "entries": [list(one) for one in self.entries]}

    @property
    def tsv(self) -> str:
        """Its entries, one a line."""
        return "\n".join(f"{one}\t{two}" for one, two in self.entries)


class Glossaries:
    """The glossaries of a server.

    Args:
        folder: where they are kept beyond the end of the server, a file each; None: in memory alone.

    Raises:
        DataError: a file in the folder holds none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, ServedGlossary] = {}
        self._lock = threading.Lock()
        if folder is not None:
            with explain_os_errors(folder):
                make_folder(folder)
                files = sorted(folder.glob("*.json"))
            self._known = {one.id: one for one in map(_read, files)}

    def __iter__(self) -> Iterator[ServedGlossary]:
        return iter(list(self._known.values()))

    def get(self, id_: str) -> ServedGlossary:
        """Return a glossary.

        Raises:
            ApiError: there is none of this id.
        """
        found = self._known.get(id_)
        if found is None:
            raise ApiError(404, "there is no glossary with this id", code="glossary_not_found")
        return found

    def add(self, name: str, source: str, target: str, entries: str, form: str) -> ServedGlossary:
        """Keep a glossary, and return it.

        Args:
            name: of it, for people.
            source: language code of the terms.
            target: language code of their translations.
            entries: one a line.
            form: "tsv" or "csv".

        Raises:
            ApiError: no name, no entries, one that is none, or there is no room.
        """
        if is_blank(name) or len(name) > NAME_LENGTH:
            raise ApiError(400, f"name: give the glossary one of at most {NAME_LENGTH:,} characters", param="name")
        made = ServedGlossary(
            id=str(uuid.uuid4()),
            name=name,
            source=source,
            target=target,
            entries=_entries(entries, form),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        with self._lock:
            full = len(self._known) >= MOST or sum(one.size for one in self._known.values()) + made.size > MOST_BYTES
            if full:
                raise ApiError(413, "there is no room for another glossary; delete one", code="too_many_glossaries")
            if self._folder is not None:
                with explain_os_errors(self._folder):
                    write_json(self._folder / f"{made.id}.json", made.to_dict())
            self._known[made.id] = made
        return made

    def delete(self, id_: str) -> None:
        """Forget a glossary.

        Raises:
            ApiError: there is none of this id.
        """
        with self._lock:
            self.get(id_)
            if self._folder is not None:
                with explain_os_errors(self._folder):
                    (self._folder / f"{id_}.json").unlink(missing_ok=True)
            del self._known[id_]

    def together(self, ids: Sequence[str], source: str, target: str) -> Glossary:
        """Return the terms of several glossaries; of two that have a term, the first counts.

        Args:
            ids: of the glossaries.
            source: language code of the texts that they are for.
            target: language code of the translations.

        Raises:
            ApiError: there is none of an id, or it is for other languages.
        """
        terms: dict[str, Term] = {}
        for glossary in map(self.get, ids):
            if not (same_language(glossary.source, source) and same_language(glossary.target, target)):
                direction = f"{glossary.source}-{glossary.target}"
                raise ApiError(400, f"glossary_id: that glossary is for {direction}, not for {source}-{target}")
            for term in glossary.terms.terms:
                terms.setdefault(folded(term.source), term)
        return Glossary(tuple(terms.values()))


def _entries(text: str, form: str) -> tuple[tuple[str, str], ...]:
    if form not in FORMATS:
        raise ApiError(400, "entries_format: give tsv or csv", param="entries_format")
    found: dict[str, tuple[str, str]] = {}
    try:
        rows: list[list[str]] = (
            [line.split("\t") for line in text.splitlines()]
            if form == "tsv"
            else list(csv.reader(io.StringIO(text, newline=""), strict=True))
        )
    except csv.Error as error:
        raise ApiError(400, f"entries: this is no CSV ({error})", param="entries") from error
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        # DeepL's own CSV has the two languages behind the terms.
        if len(cells) not in ((2,) if form == "tsv" else (2, 3, 4)) or not cells[0] or not cells[1]:
            raise ApiError(400, f"entries: line {number} is no term and its translation", param="entries")
        if any(len(cell) > MAX_TERM or not cell.isprintable() for cell in cells[:2]):
            raise ApiError(
                400,
                f"entries: line {number} has a term of more than {MAX_TERM} characters, or one that cannot be shown",
                param="entries",
            )
        key = folded(cells[0])
        if key in found:
            raise ApiError(400, f"entries: the term of line {number} stands there twice", param="entries")
        found[key] = (cells[0], cells[1])
    if not found:
        raise ApiError(400, "entries: there are none", param="entries")
    return tuple(found.values())


def _read(path: Path) -> ServedGlossary:
    """Return the glossary of a file.

    Raises:
        DataError: it holds none.
    """
    with explain_os_errors(path):
        raw = path.read_bytes()
    try:
        values = json.loads(raw)
        if values["schema"] != SCHEMA or values["id"] != path.stem or str(uuid.UUID(path.stem)) != path.stem:
            raise ValueError("another schema or id")
        entries = tuple((str(one), str(two)) for one, two in values["entries"])
        name, source, target, created = (values[key] for key in ("name", "source", "target", "created"))
        if not (entries and language_tag(source) and language_tag(target) and isinstance(name, str)):
            raise ValueError("no entries, or no languages")
        datetime.fromisoformat(created)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is no glossary of a server; remove it from the folder, or name another") from error
    return ServedGlossary(id=path.stem, name=name, source=source, target=target, entries=entries, created=created)
