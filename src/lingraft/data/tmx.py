"""Translation memories (TMX 1.4b, GALA/LISA), streaming; what is broken costs its unit, and entities are refused."""

from __future__ import annotations

from collections import Counter
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from lingraft.core.errors import DataError, setting
from lingraft.data import reasons
from lingraft.data.files import RawRows, Row, SourcePlace, open_bytes
from lingraft.data.inline_codes import Codes, name_of, preserves_space, segment_text
from lingraft.data.records import Rejected
from lingraft.data.remarks import Remarks
from lingraft.data.row_shapes import RowProblem, further_variants, missing, sides_by_language
from lingraft.data.tmx_units import BROKEN, Unit, units

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
MOST_LANGUAGES = 20
"""Languages of a file that are named in a message."""


def tmx_rows(
    place: SourcePlace, source: str, target: str, codes: Codes = "drop", remarks: Remarks | None = None
) -> RawRows:
    """Yield each translation unit as {"source", "target"} and, if it has a `tuid`, "id"; `line` counts units.

    The codes of the file are read as those of any other format are (`lingraft.language.codes.match_language`).

    Args:
        place: the file.
        source: declared source language code.
        target: declared target language code.
        codes: what becomes of inline codes (see `inline_codes.segment_text`).
        remarks: counts them, and the variants of a unit that are left out, since it has another of the language.

    Raises:
        DataError: not a TMX file, or XML that declares entities; at the end, if no unit has both languages.
    """
    reading = _Reading(source, target, codes, Remarks() if remarks is None else remarks)
    found = False
    with open_bytes(place) as opened:
        for number, unit in enumerate(units(opened, place.shown), start=1):
            try:
                values = reading.values(_parsed(unit))
            except RowProblem as problem:
                yield Rejected(place.shown, number, problem.reason, problem.detail)
            else:
                found = True
                yield Row(number, values)
    if reading.languages and not found:
        known = ", ".join(reading.languages)
        raise DataError(
            f"{place.shown}: no unit has both {source} and {target}; the languages of this TMX file are {known}"
            + (f" ({reading.remark})" if reading.remark else "")
            + f"; declare two of them: {setting('source')} and {setting('target')}"
        )


def _parsed(unit: Unit) -> Element:
    """Return the element of a unit.

    Raises:
        RowProblem: it is broken.
    """
    if unit.problem == BROKEN:
        raise RowProblem(reasons.NOT_UTF8, f"line {unit.line}: bytes that are not in the file's encoding")
    problem = unit.problem
    if not problem:
        try:
            element: Element = fromstring(unit.xml, forbid_dtd=True)[0]
            return element
        except ParseError as error:
            row, _ = error.position
            problem = f"{str(error.msg).partition(':')[0]} in line {unit.line + row - 1}"
        except (DefusedXmlException, ValueError, IndexError) as error:
            problem = str(error)
    raise RowProblem(reasons.MALFORMED, f"line {unit.line}: not a whole translation unit ({problem})")


class _Reading:
    """What is read of the units of a file: how, and which languages there are.

    `remark`: why a language is not found though it is there.
    """

    def __init__(self, source: str, target: str, codes: Codes, remarks: Remarks) -> None:
        self._source, self._target, self._codes, self._remarks = source, target, codes, remarks
        self.languages: dict[str, None] = {}
        self.remark = ""

    def values(self, unit: Element) -> dict[str, Any]:
        """Return the sides of a unit.

        Raises:
            RowProblem: one is missing, or there are several for it.
        """
        texts: dict[str, str] = {}
        again: Counter[str] = Counter()
        for variant in unit:
            code = variant.get(_XML_LANG) or variant.get("lang")
            segment = next((child for child in variant if name_of(child) == "seg"), None)
            if name_of(variant) == "tuv" and code and segment is not None:
                preserve = preserves_space(unit, variant, segment)
                if code in texts:
                    again[code] += 1
                else:
                    texts[code] = segment_text(segment, self._codes, self._remarks.codes, preserve)
                if len(self.languages) < MOST_LANGUAGES:
                    self.languages.setdefault(code)
        try:
            keys = sides_by_language(texts, self._source, self._target)
            if keys is None:
                raise missing(texts, "languages of the unit", self._source, self._target)
        except RowProblem as problem:
            said = problem.detail if problem.reason == reasons.AMBIGUOUS_LANGUAGE else problem.hint
            self.remark = self.remark or said
            raise
        for side, key in zip(("source", "target"), keys, strict=True):
            left_out = further_variants(tuple(texts), side, key)
            self._remarks.variants.update((*left_out, *[(side, key, key)] * again[key]))
        values: dict[str, Any] = {"source": texts[keys[0]], "target": texts[keys[1]]}
        values |= {"source_lang": keys[0], "target_lang": keys[1]}
        if unit.get("tuid"):
            values["id"] = unit.get("tuid")
        return values
