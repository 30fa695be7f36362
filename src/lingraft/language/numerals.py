"""The numbers of a text by their value, however they are written: grouped and marked as anywhere, in any digits, with
scales (5万, 1,2 Mio., 50 тыс.), as Chinese or Roman numerals, as times of day, in decades, and a few as words.

A number of one text is looked for among all readings of another: "1.500" may be fifteen hundred or one and a half.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from lingraft.language.codes import base_language
from lingraft.language.numeral_words import ENGLISH_SCALES, HALF, HALF_TO, JOINED_SCALES, QUARTER, SCALES, SMALL, TWELVE

Value = Fraction | tuple[str, int]
"""A number, or something that a number is said by, such as the minutes of a time of day."""

Reading = tuple[Fraction, ...]
"""One way to read digits and marks: a number, or several."""

_SPACES = " \u00a0\u202f\u2009"
_MARKS = ".,'\u2019\u066b\u066c"
_SPACED = rf"(?<![\d{_MARKS}])\d{{1,3}}(?:(?P<space>[{_SPACES}])\d{{3}}(?:(?P=space)\d{{3}})*)(?:[.,\u066b]\d+)?(?!\d)"
_DIGITS = re.compile(rf"{_SPACED}|\d+(?:[{_MARKS}]\d+)*")
_WIDE = str.maketrans("．，", ".,")

Words = list[tuple[re.Pattern[str], tuple[int, ...]]]


def _behind(scales: Sequence[tuple[str, tuple[int, ...]]], joined: bool = False) -> Words:
    """Return what matches a scale behind a number, with its values."""
    end, between = ("", r"\s?") if joined else (r"(?!\w)", r"[\s\-\u2010]*(?:de\s+)?")
    return [(re.compile(rf"{between}(?:{words}){end}", re.IGNORECASE), values) for words, values in scales]


_JOINED = _behind(JOINED_SCALES, joined=True)
_ANY = [*_behind(SCALES), *_JOINED]
_NAMED = [*_behind(SCALES[1:]), *_JOINED]  # without the hundreds: in some languages "cent" and "sto" are other words
_ENGLISH = _behind(ENGLISH_SCALES)
_ALONE: Words = [(re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), values) for words, values in SCALES]
_ALONE += [(re.compile(words), values) for words, values in JOINED_SCALES]
_SUFFIX = re.compile(r"\s?(k|m|mm|b|bn|tn)(?!\w)", re.IGNORECASE)
_SUFFIXES = {"k": 10**3, "m": 10**6, "mm": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}


def _word(words: str) -> re.Pattern[str]:
    """Return what matches one of some words, as a whole where its script puts spaces between words."""
    joined = re.compile("[\u0e00-\u0e7f\u3040-\u9fff\uac00-\ud7af]")
    parts = (word if joined.search(word) else rf"(?<!\w){word}(?!\w)" for word in words.split("|"))
    return re.compile("|".join(parts), re.IGNORECASE)


_SMALL = [(_word(words), value) for words, value in SMALL]
_OF_DAY = {"half": _word(HALF), "half_to": _word(HALF_TO), "quarter": _word(QUARTER), "twelve": _word(TWELVE)}
_CLOCK = re.compile(
    r"(?<![\d.,:])(?:(\d{1,2})(?:[:.](\d{2}))?\s?([ap])\.?\s?m\b|(\d{1,2}):(\d{2}))(?![\d:])", re.IGNORECASE
)
_TWO_NUMBERS = re.compile(r"(?<![\d.,:])(?=(\d{1,2})\D{1,12}?(\d{1,2})(?!\d))")
_DATE = re.compile(r"(?<![\d./\-])(\d{1,4})([./\-])(\d{1,2})\2(\d{2,4})(?![\d/\-])")
_DAY_AND_MONTH = re.compile(r"(?<![\d.,])(\d{1,2})\.(\d{1,2})\.(?=\s*[^\W\d_]|\s*\d)")
_DECADE = re.compile(r"['\u2019]?s\b|er\w{0,2}\b|[\-\u2010](?:х|те|ти)\b|\s?年代|년대")

_ROMAN = re.compile(
    r"(?<![\w'\u2019])([IVXLCDM\u0406\u0425\u0421\u041c\u2160-\u216f]+)(?:er?|ème|ième|th|st|nd|rd|[º°ªᵉ])?(?!\w)"
)
_ROMAN_LETTERS = str.maketrans("\u0406\u0425\u0421\u041c", "IXCM")  # Cyrillic letters that look like them
_VALID_ROMAN = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

_HAN_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000, "십": 10, "백": 100, "천": 1000}
_HAN_SCALES = {**dict.fromkeys("万萬만", 10**4), **dict.fromkeys("億亿억", 10**8), **dict.fromkeys("兆조", 10**12)}
_HAN = re.compile(
    r"(?:\d[\d,.]*)?[零〇一二三四五六七八九两兩十百千万萬億亿兆][\d,.零〇一二三四五六七八九两兩十百千万萬億亿兆]*"
    r"|\d[\d,.]*(?:\s?[십백천만억조]+(?:\d[\d,.]*|\s\d[\d,.]*(?=\s?[십백천만억조]))?)+"
)
_PIECES = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\d,.\s]")
_THAI = re.compile("[\u0e00-\u0e7f]")
_BUDDHIST = 543
"""Years that the Thai calendar is ahead."""


@dataclass(frozen=True)
class Mention:
    """A number in a text.

    Attributes:
        alternatives: what it may mean, each as the values that must all be found; two that mean the same are equal.
        shown: as it is written.
        single: whether it is a whole number of one digit, which is often written as a word.
    """

    alternatives: tuple[frozenset[Value], ...]
    shown: str = field(compare=False)
    single: bool = field(default=False, compare=False)


def mentions(text: str, lang: str = "") -> list[Mention]:
    """Return the numbers that are written in digits, in order.

    Args:
        text: digits may be of any script.
        lang: language of the text; "" if not known. In English the comma groups and the point is decimal; elsewhere all
            readings count.
    """
    text, english = _plain(text), bool(lang) and base_language(lang) == "en"
    found: list[tuple[int, Mention]] = []
    taken: set[int] = set()
    for pattern, meant in ((_CLOCK, _time), (_DATE, _date)):
        for match in pattern.finditer(text):
            if not taken.intersection(range(*match.span())) and (several := meant(match)):
                found += [(match.start(), mention) for mention in several]
                taken.update(range(*match.span()))
    for token in _DIGITS.finditer(text):
        if token.start() not in taken:
            found += [(token.start(), mention) for mention in _numbers(text, token, english)]
    return [mention for _, mention in sorted(found, key=lambda each: each[0])]


class Numerals:
    """All that the numbers of a text may mean, and how often it says so.

    Args:
        text: in any language.
    """

    def __init__(self, text: str) -> None:
        self._counts: Counter[Value] = Counter()
        for values in _said(_plain(text)):
            self._counts.update(values)

    def count(self, mention: Mention) -> int:
        """Return how often the text has a number."""
        return max(min(self._counts[value] for value in values) for values in mention.alternatives)


def _plain(text: str) -> str:
    """Return the text with the digits of all scripts as ASCII ones."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c, c)) for c in text.translate(_WIDE))


def _number(*values: Value) -> frozenset[Value]:
    return frozenset(values)


def _numbers(text: str, token: re.Match[str], english: bool) -> list[Mention]:
    """Return what a run of digits and marks mentions: a number that may be read in several ways, or several numbers."""
    readings = _readings(token.group(), english)
    if len(readings) == 1 and len(readings[0]) > 1:  # a version, a list
        return [Mention((_number(value),), str(value), value < 10) for value in readings[0]]
    scales = _scales(text, token.end(), _ENGLISH if english else _NAMED)
    ways = [frozenset[Value](reading) for reading in readings if not scales or len(reading) > 1]
    whole = [reading[0] for reading in readings if len(reading) == 1]
    for scale in scales:
        ways += [_number(value * scale) for value in whole]
        ways.append(_number(("scale", scale)))  # the number before it as a word
    if not scales:
        if suffix := _SUFFIX.match(text, token.end()):  # 50 m are metres or millions
            ways += [_number(value * _SUFFIXES[suffix.group(1).lower()]) for value in whole]
        if _DECADE.match(text, token.end()):
            ways += [_number(year) for value in whole for year in _other_decades(value)]
    single = not scales and all(value < 10 and value.denominator == 1 for value in whole)
    return [Mention(tuple(dict.fromkeys(ways)), token.group(), single and bool(whole))]


def _other_decades(value: Fraction) -> list[Fraction]:
    if value % 10 or value.denominator != 1:
        return []
    return [1900 + value, 2000 + value] if value < 100 else [value % 100] if value % 100 else []


def _readings(token: str, english: bool = False) -> list[Reading]:
    """Return the ways to read digits and marks: with each mark as the one that groups, and as the decimal one."""
    if token.isdigit():
        return [(Fraction(token),)]
    marks = "".join(dict.fromkeys(c for c in token if not c.isdigit()))
    found: list[Reading] = []
    for group in marks + "!":
        for decimal in marks + "!":
            if group == decimal or (english and (group in ".\u066b" or decimal in ",\u066c")):
                continue
            if (group in "\u066b") or (decimal in "'\u2019\u066c" + _SPACES):
                continue
            g, d = re.escape(group), re.escape(decimal)
            shape = rf"(?:\d{{1,3}}(?:{g}\d{{3}})+|\d{{1,2}}(?:{g}\d{{2}})+{g}\d{{3}}|\d+)(?:{d}\d+)?"
            if re.fullmatch(shape, token):
                found.append((Fraction(token.replace(group, "").replace(decimal, ".")),))
    parts = tuple(Fraction(part) for part in re.split(r"\D+", token))
    spaced = any(mark in _SPACES for mark in marks)
    if not found and english:
        return _readings(token)
    return list(dict.fromkeys([*found, *([parts] if spaced or not found else [])]))


def _scales(text: str, end: int, words: Words) -> list[int]:
    """Return by what the words behind a number may multiply it; nothing where there are none."""
    scales: list[int] = []
    for _ in range(3):
        step = next(((match, values) for pattern, values in words if (match := pattern.match(text, end))), None)
        if step is None:
            break
        scales = [one * value for one in scales or [1] for value in step[1]]
        end = step[0].end()
    return scales


def _time(match: re.Match[str]) -> list[Mention]:
    """Return a time of day, by the clock of twelve or of twenty-four hours, or as a half or quarter of an hour."""
    hour, minute, half = int(match[1] or match[4]), int(match[2] or match[5] or 0), (match[3] or "").lower()
    if hour > 24 or minute > 59 or (half and hour > 12):
        return []
    hours = (
        {hour, hour % 12} | ({hour % 12 + 12} if half == "p" else set()) | ({24} if hour % 24 == 0 or half else set())
    )
    if hour % 12:
        hours -= {24}
    ways = [_number(("time", 60 * one + minute)) for one in sorted(hours)]
    word = {0: "", 30: "half", 15: "quarter", 45: "quarter"}.get(minute)
    small = 0 < hour % 12 < 10  # and may be a word
    if word == "":
        ways += [_number(Fraction(one)) for one in sorted(hours)]
        ways += [_number(("twelve", 0))] if hour % 12 == 0 else []
    elif word:
        names = ((word, 0), ("half_to" if word == "half" else word, 1))
        ways += [_number(Fraction(one + more), (name, 0)) for one in sorted(hours) for name, more in names]
        ways += [_number((name, 0)) for name, _ in names] if small else []
    if small and minute:
        ways.append(_number(Fraction(minute)))
    return [Mention(tuple(dict.fromkeys(ways)), match.group(), small and not minute)]


def _date(match: re.Match[str]) -> list[Mention]:
    """Return day and year of a date in numbers; the month may become a word."""
    first, second, third = (Fraction(match[number]) for number in (1, 3, 4))
    year, one, other = (first, third, second) if first > 31 else (third, first, second)
    if max(one, other) > 31 or min(one, other) > 12 or min(one, other) < 1:
        return []
    days = [one] if first > 31 else [day for day in (one, other) if max(one, other) <= 12 or day > 12]
    ways = tuple(_number(day) for day in dict.fromkeys(days))
    return [Mention(ways, str(days[0]), all(day < 10 for day in days)), Mention((_number(year),), str(year))]


def _said(text: str) -> Iterator[set[Value]]:
    """Yield, for each number of a text in any form, all that it may mean."""
    thai = _THAI.search(text) is not None
    behind: set[int] = set()  # where a scale belongs to the number before it
    numbered: dict[int, set[Value]] = {}
    for token in _DIGITS.finditer(text):
        values: set[Value] = set()
        for reading in _readings(token.group()):
            values.update(reading)
            if len(reading) == 1:
                values.update(reading[0] * scale for scale in _scales(text, token.end(), _ANY))
                if suffix := _SUFFIX.match(text, token.end()):
                    values.add(reading[0] * _SUFFIXES[suffix.group(1).lower()])
                if thai and 2300 < reading[0] < 2700:
                    values.add(reading[0] - _BUDDHIST)
        behind.update(range(token.end(), token.end() + 4))
        numbered[token.start()] = values
    inside: set[int] = set()  # where a scale is a part of Chinese numerals
    for match in _HAN.finditer(text):
        inside.update(range(*match.span()))
        if match.start() in numbered:
            numbered[match.start()].add(_han(match.group()))
        else:
            yield {_han(match.group())}
    yield from numbered.values()
    for match in _DAY_AND_MONTH.finditer(text):
        yield {Fraction(match[1]), Fraction(match[2])}
    for match in _TWO_NUMBERS.finditer(text):
        if int(match[1]) <= 24 and int(match[2]) < 60:
            yield {("time", 60 * int(match[1]) + int(match[2]))}
    for match in _ROMAN.finditer(text):
        if value := _roman(match[1]):
            yield {Fraction(value)}
    for pattern, values_alone in _ALONE:
        for match in pattern.finditer(text):
            if match.start() not in behind:
                more = _scales(text, match.end(), _ANY)
                scales = {*values_alone, *(one * other for one in values_alone for other in more)}
                alone = set() if match.start() in inside else set(map(Fraction, scales))
                yield {*alone, *(("scale", one) for one in scales)}
    for pattern, value in _SMALL:
        for _ in pattern.finditer(text):
            yield {Fraction(value)}
    for kind, pattern in _OF_DAY.items():
        for _ in pattern.finditer(text):
            yield {(kind, 0)}


def _han(text: str) -> Fraction:
    """Return the value of Chinese numerals, or of digits with Chinese, Japanese or Korean units."""
    if len(text) > 1 and all(c in _HAN_DIGITS for c in text):  # a year
        return Fraction("".join(str(_HAN_DIGITS[c]) for c in text))
    total = section = Fraction(0)
    number: Fraction | None = None
    for piece in _PIECES.findall(text):
        if piece in _HAN_SCALES:
            section += number or 0
            total, section, number = total + (section or 1) * _HAN_SCALES[piece], Fraction(0), None
        elif piece in _HAN_UNITS:
            section, number = section + (1 if number is None else number) * _HAN_UNITS[piece], None
        elif piece in _HAN_DIGITS:
            number = 10 * (number or Fraction(0)) + _HAN_DIGITS[piece]
        else:
            number = Fraction(piece.replace(",", ""))
    return total + section + (number or 0)


def _roman(text: str) -> int:
    """Return the value of a Roman numeral; 0 where it is none, or a letter that is more often one."""
    letters = unicodedata.normalize("NFKC", text.translate(_ROMAN_LETTERS)).upper()
    if not _VALID_ROMAN.fullmatch(letters) or (len(letters) == 1 and letters == text and letters != "X"):
        return 0
    values = [_ROMAN_VALUES[letter] for letter in letters]
    return sum(-one if one < after else one for one, after in zip(values, [*values[1:], 0], strict=True))
