"""Translation memories (TMX 1.4b, GALA/LISA), streaming, with entity expansion refused."""

from __future__ import annotations

from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from lingraft.data.files import Place, RawRows, Row, open_bytes
from lingraft.data.records import Rejected
from lingraft.data.shapes import RowProblem, missing, sides_by_language
from lingraft.errors import DataError

MAX_UNIT_BYTES = 8 * 1024**2
"""Most XML between the ends of two translation units: what has to be held at once."""

MAX_DEPTH = 1000

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NATIVE_CODES = {"bpt", "ept", "ph", "it", "ut"}
"""Inline elements that hold another format's markup, not text."""


class _Bounded:
    """A stream that refuses to go on after `MAX_UNIT_BYTES` without `reset`."""

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._stream = stream
        self._shown = shown
        self._read = 0

    def reset(self) -> None:
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        if self._read > MAX_UNIT_BYTES:
            raise DataError(
                f"{self._shown}: more than {MAX_UNIT_BYTES // 1024**2} MB of XML without the end of a translation "
                f"unit (<tu>); is it a TMX file?"
            )
        return data


def tmx_rows(place: Place, source: str, target: str) -> RawRows:
    """Yield each translation unit as {"source", "target"} and, if it has a `tuid`, "id"; `line` counts units.

    The codes of the file are read as those of any other format are (`lingraft.data.languages.match_language`).

    Args:
        place: the file.
        source: declared source language code.
        target: declared target language code.

    Raises:
        DataError: not well-formed XML, or XML that declares entities.
    """
    count = within = 0
    with open_bytes(place) as opened:
        stream = _Bounded(opened, place.shown)
        path: list[Element] = []
        try:
            for event, element in iterparse(stream, events=("start", "end")):
                unit = _name(element) == "tu"
                if event == "start":
                    path.append(element)
                    within += unit
                    if len(path) > MAX_DEPTH:
                        raise DataError(f"{place.shown}: nested over {MAX_DEPTH:,} elements deep; is it a TMX file?")
                    continue
                path.pop()
                within -= unit
                if unit:
                    count += 1
                    stream.reset()
                    yield _unit(element, place.shown, count, source, target)
                if path and not within:
                    path[-1].remove(element)
        except ParseError as error:
            raise DataError(f"{place.shown}: is not well-formed XML ({error}); export the TMX file again") from error
        except DefusedXmlException as error:
            raise DataError(
                f"{place.shown}: declares XML entities, which is refused; export it without them"
            ) from error
        except (LookupError, ValueError) as error:
            raise DataError(
                f"{place.shown}: is in an encoding that XML readers do not know ({error}); save it as UTF-8"
            ) from error


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _unit(unit: Element, shown: str, number: int, source: str, target: str) -> Row[dict[str, Any]] | Rejected:
    texts: dict[str, str] = {}
    for variant in unit:
        if _name(variant) == "tuv":
            code = variant.get(_XML_LANG) or variant.get("lang")
            segment = next((child for child in variant if _name(child) == "seg"), None)
            if code and segment is not None:
                texts.setdefault(code, _text(segment))
    try:
        keys = sides_by_language(texts, source, target)
    except RowProblem as problem:
        return Rejected(shown, number, problem.reason, problem.detail)
    if keys is None:
        lacking = missing(texts, "languages of the unit", source, target)
        return Rejected(shown, number, lacking.reason, lacking.detail)
    values: dict[str, Any] = {"source": texts[keys[0]], "target": texts[keys[1]]}
    values |= {"source_lang": keys[0], "target_lang": keys[1]}
    if unit.get("tuid"):
        values["id"] = unit.get("tuid")
    return Row(number, values)


def _text(element: Element) -> str:
    parts: list[str] = []
    waiting: list[Element | str] = [element]  # no recursion: markup may be nested as deep as the stack
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        for child in reversed(item):
            waiting.append(child.tail or "")
            if _name(child) not in _NATIVE_CODES:
                waiting.append(child)
        waiting.append(item.text or "")
    return "".join(parts)
