"""Documents with summaries in another language as two data sets publish them: CrossSum and WikiLingua.

CrossSum (Bhattacharjee et al. 2023, arXiv 2112.08804): a file for each direction; a row has the article's `text`, the
`summary` in the other language, `source_url` and `target_url`. WikiLingua (Ladhak et al. 2020, arXiv 2010.03093): a
file for each language; a row is an article of several sections, each with `document`, `summary` and the English article
and section that it goes with (`english_url`, `english_section_name`), which the English file calls `url` and
`section_name`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lingraft.core.errors import DataError
from lingraft.data import reasons
from lingraft.data.files import RawRows, Row
from lingraft.data.records import Rejected
from lingraft.language.codes import base_language

FORMATS = ("crosssum", "wikilingua")
"""Names of these layouts; the files are JSON Lines, JSON or Parquet."""

MAX_SECTIONS = 1000
"""Sections of one article; there are a dozen at most."""


def crosssum_rows(rows: RawRows) -> RawRows:
    """Yield each article of a file of CrossSum as source, and its summary in the other language as target."""
    for row in rows:
        values = row.record if isinstance(row, Row) else {}
        if isinstance(row, Row) and {"text", "summary"} <= values.keys():
            kept = {key: values[key] for key in ("id",) if values.get(key)}
            yield Row(row.line, {**kept, "source": values["text"], "target": values["summary"]})
        else:
            yield row


@dataclass(frozen=True, slots=True)
class _Section:
    key: tuple[str, str]
    document: Any
    summary: Any


def wikilingua_rows(rows: RawRows, others: RawRows, source: str, target: str, shown: tuple[str, str]) -> RawRows:
    """Yield each section of an article as source, with the summary of the same section in the other language.

    Sections that the other file lacks are left out. All summaries of that file are held in memory.

    Args:
        rows: of the file of the source language.
        others: of the file of the target language.
        source: its language code.
        target: its language code.
        shown: both files, for messages.

    Raises:
        DataError: at the end, if no section is in both files.
    """
    summaries: dict[tuple[str, str], Any] = {}
    for row in others:
        if isinstance(row, Row):
            summaries |= {one.key: one.summary for one in _sections(row.record, target) or ()}
    read = found = 0
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        sections, read = _sections(row.record, source), read + 1
        if sections is None:
            yield Rejected(shown[0], row.line, reasons.MALFORMED, "no article of WikiLingua: `url` and `article`")
            continue
        url = row.record["url"]
        for number, one in enumerate(sections, start=1):
            if one.key in summaries:
                found += 1
                name = f"{url.rstrip('/').rpartition('/')[2]}#{number}"
                both = {"source": one.document, "target": summaries[one.key]}
                yield Row(row.line, {"id": name, "document": url, **both})
    if read and not found:
        raise DataError(
            f"{shown[0]}: none of its sections is in {shown[1]} as well; give the files of both languages as "
            f"WikiLingua publishes them, and declare which is which"
        )


def _sections(values: Mapping[str, Any], lang: str) -> list[_Section] | None:
    """Return the sections of an article, or None where it is none."""
    url, article = values.get("url"), values.get("article")
    if not isinstance(url, str):
        return None
    sections = []
    for one in _as_objects(article):
        if base_language(lang) == "en":
            key = url, one.get("section_name")
        else:
            key = one.get("english_url"), one.get("english_section_name")  # type: ignore[assignment]
        if all(isinstance(part, str) for part in key):
            sections.append(_Section((str(key[0]), str(key[1])), one.get("document"), one.get("summary")))
    return sections or None


def _as_objects(article: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the sections of an article: of an object by their names, of a list, or of an object of columns."""
    if isinstance(article, list):
        yield from (one for one in article[:MAX_SECTIONS] if isinstance(one, Mapping))
    elif isinstance(article, Mapping) and isinstance(article.get("section_name"), list):
        names = [name for name, column in article.items() if isinstance(column, list)]
        for values in list(zip(*(article[name] for name in names), strict=False))[:MAX_SECTIONS]:
            yield dict(zip(names, values, strict=True))
    elif isinstance(article, Mapping):
        for name, one in list(article.items())[:MAX_SECTIONS]:
            if isinstance(one, Mapping):
                yield {"section_name": name, **one}
