"""Queries with their candidate passages, as sets for reranking publish them: one row a query.

{"query", "positive", "negative"} (MTEB reranking) or {"query", "pos", "neg"} (BGE, FlagEmbedding), each a text or a
list of texts; "id" (or "_id") and "lang" where they are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import Ids
from lingraft.core.record import Record
from lingraft.data.files import RawRows, locate, stem
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.hub import parquet_rows
from lingraft.data.records import Rejected
from lingraft.language.characters import is_blank
from lingraft.language.codes import language

_FORMATS = {"jsonl": jsonl_rows, "json": json_rows, "parquet": parquet_rows}
_POSITIVE, _NEGATIVE = ("positive", "positives", "pos"), ("negative", "negatives", "neg")


@dataclass(frozen=True)
class QueryCandidates(Record):
    """A query with the passages that answer it and others that do not; `lang` is the query's BCP-47 code."""

    id: str
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    lang: str = "en"

    @property
    def passages(self) -> tuple[str, ...]:
        """All candidates, those that answer it first."""
        return (*self.positives, *self.negatives)


def read_candidates(path: str, root: Path = Path(), *, lang: str = "en") -> Iterator[QueryCandidates]:
    """Yield the queries of a file.

    Args:
        path: JSON Lines, JSON or Parquet.
        root: folder to which a relative path is relative.
        lang: of rows that do not say their own.

    Raises:
        UsageError: the file is of another format.
        DataError: it is missing, empty or unreadable, or a row is not a query with a passage that answers it.
    """
    place = locate(path, "auto", root)
    if place.format not in _FORMATS:
        raise UsageError(
            f"{path}: queries with passages are read from {', '.join(_FORMATS)}; save them in one of these forms"
        )
    rows: RawRows = _FORMATS[place.format](place)
    ids, empty = Ids(stem(path)), True
    for row in rows:
        empty = False
        if isinstance(row, Rejected):
            raise DataError(f"{place.shown}:{row.line}: {row.reason} {row.detail}".rstrip() + "; mend or drop the row")
        values, where = row.record, f"{place.shown}:{row.line}"
        query = values.get("query")
        if not isinstance(query, str) or is_blank(query):
            raise DataError(f"{where}: there is no text under 'query'; give each row a query and its passages")
        positives = _texts(values, _POSITIVE, where)
        if not positives:
            raise DataError(f"{where}: no passage answers the query; give it one under 'positive'")
        negatives = _texts(values, _NEGATIVE, where)
        if both := {*positives} & {*negatives}:
            raise DataError(f"{where}: a passage is under 'positive' and 'negative' both: {min(both)[:60]!r}")
        own = values.get("lang")
        code = language(own) if isinstance(own, str) and own else lang
        id_ = ids.unique(values.get("id", values.get("_id")), row.line)
        yield QueryCandidates(id_, query.strip(), positives, negatives, code)
    if empty:
        raise DataError(f"{place.shown}: has no rows; it needs at least one")


def _texts(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the passages under one of several names, each once."""
    given: Any = next((values[name] for name in names if values.get(name) is not None), [])
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and not is_blank(text) for text in texts):
        raise DataError(f"{where}: what stands under {names[0]!r} is neither a text nor a list of texts")
    return tuple(dict.fromkeys(text.strip() for text in texts))
