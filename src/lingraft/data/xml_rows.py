"""Pairs in XML of other tools: XLIFF 1.2 and 2.0, and the test sets of WMT; streaming, without a DOCTYPE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from lingraft.core.errors import DataError, setting
from lingraft.data.files import RawRows, Row, SourcePlace, open_bytes
from lingraft.data.inline_codes import Codes, name_of, preserves_space, segment_text
from lingraft.data.records import Rejected
from lingraft.data.remarks import Remarks
from lingraft.data.row_shapes import RowProblem, missing, sides_by_language

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
MOST_DEPTH = 500
"""Deepest nesting."""


def xliff_rows(
    place: SourcePlace, source: str, target: str, codes: Codes = "drop", remarks: Remarks | None = None
) -> RawRows:
    """Yield each unit (1.2) or segment (2.0) as {"source", "target", "id"}; `line` counts them.

    One without a target has an empty one, for which it is rejected.

    Args:
        place: the file.
        source: declared source language code; a file of the other direction is turned.
        target: declared target language code.
        codes: what becomes of inline codes (see `inline_codes.segment_text`).
        remarks: counts them.

    Raises:
        DataError: no XLIFF, not well-formed, or no unit is of both languages.
    """
    remarks = Remarks() if remarks is None else remarks
    number, found, named = 0, False, dict[str, None]()
    languages, unit_id, version = ("", ""), "", ""
    with open_bytes(place) as stream:
        for event, element in _events(stream, place.shown, "xliff"):
            name = name_of(element)
            if event == "start":
                if name == "xliff":
                    version = element.get("version", "")[:1]
                    languages = element.get("srcLang", ""), element.get("trgLang", "")
                elif name == "file" and version == "1":
                    languages = element.get("source-language", ""), element.get("target-language", "")
                elif name == "unit":
                    unit_id = element.get("id", "")
                continue
            if name not in ("trans-unit", "segment"):
                continue
            number += 1
            sides = {key: next((one for one in element if name_of(one) == key), None) for key in ("source", "target")}
            own = languages[0] or source, languages[1] or target
            for code in own:
                named.setdefault(code)
            values: dict[str, Any] = {}
            for code, (_, side) in zip(own, sides.items(), strict=True):
                kept = side is not None and preserves_space(element, side)
                values[code] = "" if side is None else segment_text(side, codes, remarks.codes, kept)
            ids = (unit_id, element.get("id", "")) if name == "segment" else (element.get("id", ""),)
            element.clear()
            row = _row(place, number, values, source, target, "/".join(filter(None, ids)))
            found = found or isinstance(row, Row)
            yield row
    _refuse_other_languages(place, found, named, source, target)


def wmt_rows(place: SourcePlace, source: str, target: str) -> RawRows:
    """Yield each segment of a test set of WMT (XML since 2021) with its references, document and id.

    Args:
        place: the file.
        source: declared source language code.
        target: declared target language code.

    Raises:
        DataError: no such set, not well-formed, or no document has both languages.
    """
    number, found, named = 0, False, dict[str, None]()
    with open_bytes(place) as stream:
        for event, document in _events(stream, place.shown, "dataset"):
            if event == "start" or name_of(document) != "doc":
                continue
            texts: dict[str, list[dict[str, str]]] = {}
            for part in document:
                code = part.get("lang") or part.get(_XML_LANG) or ""
                if name_of(part) in ("src", "ref") and code:
                    segments = {one.get("id", ""): " ".join("".join(one.itertext()).split()) for one in _segments(part)}
                    texts.setdefault(code, []).append(segments)
            for code in texts:
                named.setdefault(code)
            name = document.get("id", "")
            document.clear()
            try:
                keys = sides_by_language(texts, source, target)
            except RowProblem as problem:
                number += 1
                yield Rejected(place.shown, number, problem.reason, problem.detail)
                continue
            if keys is None:
                continue
            found = True
            for key, text in texts[keys[0]][0].items():
                number += 1
                references = [one[key] for one in texts[keys[1]] if one.get(key)]
                values: dict[str, Any] = {"source": text, "target": references[0] if references else ""}
                values |= {"references": references[1:]} if references[1:] else {}
                values |= {"source_lang": keys[0], "target_lang": keys[1], "document": name, "id": f"{name}:{key}"}
                yield Row(number, values)
    _refuse_other_languages(place, found, named, source, target)


def _segments(part: Element) -> Iterator[Element]:
    return (one for one in part.iter() if name_of(one) == "seg")


def _row(
    place: SourcePlace, number: int, texts: dict[str, Any], source: str, target: str, name: str
) -> Row[dict[str, Any]] | Rejected:
    try:
        keys = sides_by_language(texts, source, target)
        if keys is None:
            raise missing(texts, "languages of the unit", source, target)
    except RowProblem as problem:
        return Rejected(place.shown, number, problem.reason, problem.detail)
    values = {"source": texts[keys[0]], "target": texts[keys[1]], "source_lang": keys[0], "target_lang": keys[1]}
    return Row(number, {**values, **({"id": name} if name else {})})


def _events(stream: BinaryIO, shown: str, root: str) -> Iterator[tuple[str, Element]]:
    """Yield the beginnings and ends of elements.

    Raises:
        DataError: another root, a DOCTYPE, or XML that is not well-formed; names the line.
    """
    depth = 0
    try:
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            if depth == 0 and name_of(element) != root:
                raise DataError(f"{shown}: is no such file: it begins with <{name_of(element)}>, not <{root}>")
            depth += 1 if event == "start" else -1
            if depth > MOST_DEPTH:
                raise DataError(f"{shown}: nests elements more than {MOST_DEPTH} deep; is it broken?")
            yield event, element
    except ParseError as error:
        what = str(error.msg).partition(":")[0]
        raise DataError(f"{shown}: is not well-formed XML (line {error.position[0]}: {what}); correct it") from error
    except DefusedXmlException as error:
        raise DataError(f"{shown}: has a DOCTYPE, which may declare entities and is refused; remove it") from error
    except (ValueError, LookupError) as error:
        raise DataError(f"{shown}: is in an encoding that is not known; save it as UTF-8") from error


def _refuse_other_languages(place: SourcePlace, found: bool, named: dict[str, None], source: str, target: str) -> None:
    if named and not found:
        raise DataError(
            f"{place.shown}: nothing in it is in both {source} and {target}; its languages are {', '.join(named)}; "
            f"declare two of them: {setting('source')} and {setting('target')}"
        )
