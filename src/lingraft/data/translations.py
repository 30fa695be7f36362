"""Translations of a test set that others have made: a file of one line a segment, or of JSON Lines with ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.errors import DataError
from lingraft.data import packed
from lingraft.data.files import locate, text_lines
from lingraft.data.formats import jsonl_rows
from lingraft.data.records import Rejected
from lingraft.language.characters import is_blank


@dataclass(frozen=True)
class Translations:
    """What a file of translations holds.

    Attributes:
        path: as the user wrote it.
        texts: in the order of the file.
        ids: of the segments that they translate, in the same order; None: the file has one line a segment.
    """

    path: str
    texts: Sequence[str]
    ids: Sequence[str] | None = None

    def of(self, segments: Sequence[str], test_set: str, rows: Sequence[str | None] | None = None) -> dict[str, str]:
        """Return the translation of each segment, by its id.

        Args:
            segments: ids of the test set's segments, in its order.
            test_set: its name, for messages.
            rows: what each row of the test set's file became: the id of a segment, or None for one that is not used;
                a file of lines may translate all of these rows. None: they are the segments.

        Raises:
            DataError: the lines are not as many as the segments, or an id is unknown or missing.
        """
        if self.ids is not None:
            found = dict(zip(self.ids, self.texts, strict=True))
            known = set(segments)
            if unknown := [id_ for id_ in self.ids if id_ not in known]:
                raise DataError(
                    f"{self.path}: the test set {test_set!r} has no segment {unknown[0]!r}; its ids are "
                    f"like {segments[0]!r}"
                )
            if missing := [id_ for id_ in segments if id_ not in found]:
                raise DataError(
                    f"{self.path}: {len(missing):,} of {len(segments):,} segments of the test set {test_set!r} have no "
                    f"translation, the first {missing[0]!r}; give one for each"
                )
            return found
        if len(self.texts) == len(segments):
            return dict(zip(segments, self.texts, strict=True))
        if rows is not None and len(self.texts) == len(rows):
            wanted = set(segments)
            return {id_: text for id_, text in zip(rows, self.texts, strict=True) if id_ is not None and id_ in wanted}
        raise DataError(
            f"{self.path}: has {len(self.texts):,} lines, but the test set {test_set!r} has {len(segments):,} "
            f"segments; give one line a segment, in the same order"
        )


def read_translations(path: str) -> Translations:
    """Read a file of translations: JSON Lines with `id` and `text` where its name says so, else one line a segment.

    An empty line, or text, is an empty translation.

    Args:
        path: of a local file, which may be compressed.

    Raises:
        DataError: the file is missing, empty or unreadable, a line is no translation, or an id comes twice.
    """
    name = path.removesuffix(packed.suffix(path))
    by_id = Path(name).suffix.lower() in (".jsonl", ".ndjson")
    place = locate(path, "jsonl" if by_id else "text", Path())
    if place.format not in ("jsonl", "text"):
        raise DataError(f"{path}: translations are read from a local file; name one")
    texts: list[str] = []
    ids: dict[str, None] = {}
    for item in jsonl_rows(place) if by_id else text_lines(place):
        if isinstance(item, Rejected):
            raise DataError(f"{path}, line {item.line:,}: {item.detail or item.reason}; mend the line")
        if isinstance(item.record, str):
            texts.append(item.record)
            continue
        id_, text = item.record.get("id"), item.record.get("text")
        if not isinstance(id_, str) or not isinstance(text, str):
            raise DataError(
                f'{path}, line {item.line:,}: needs the texts `id` and `text`, as {{"id": "test:1", "text": "..."}}'
            )
        if id_ in ids:
            raise DataError(f"{path}, line {item.line:,}: the id {id_!r} comes twice; give one translation a segment")
        ids[id_] = None
        texts.append(text)
    if all(map(is_blank, texts)):
        raise DataError(f"{path}: there is no translation in the file; give one line a segment")
    return Translations(path, texts, list(ids) if by_id else None)
