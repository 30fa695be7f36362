"""What a whole file of pairs looks like: its first rows, swapped columns or languages, columns that hold no text.

A short sentence tells little of its language; many of them together, judged between the two declared languages alone,
tell which way round a file is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lingraft.core.errors import setting
from lingraft.data.files import Row
from lingraft.data.records import Pair
from lingraft.language.characters import is_blank
from lingraft.language.codes import language_name, script
from lingraft.language.identification import identifier_label, log_odds
from lingraft.language.measures import in_script_of

SHOWN = 2
"""Rows that are kept to be shown."""

CERTAIN = 1.0
"""Natural log-odds of a pair from which it counts as the right or the wrong way round."""

SWAPPED_SHARE = 0.25
"""Share of the pairs judged that may look swapped: single pairs of near languages are misjudged."""

FIRST, EVERY = 2000, 16
"""Of a long file, the first pairs and every so many further ones are judged."""


class Overview:
    """The pairs of one file, looked at together.

    Attributes:
        rows: the first ones, as they were read.
    """

    def __init__(self) -> None:
        self.rows: list[Row[Pair]] = []
        self._seen = 0
        self._counts: Counter[str] = Counter()
        self._evidence = 0.0
        self._languages: tuple[str, str] | None = None

    def add(self, rows: Sequence[Row[Pair]], judge: bool = True) -> None:
        """Take in further rows, all of one direction; `judge` False: only to show the first ones."""
        self.rows += rows[: SHOWN - len(self.rows)]
        start, self._seen = self._seen, self._seen + len(rows)
        heard = [row.record for n, row in enumerate(rows, start) if n < FIRST or n % EVERY == 0]
        if not (judge and heard):
            return
        self._languages = source, target = heard[0].source_lang, heard[0].target_lang
        sides = [[pair.source for pair in heard], [pair.target for pair in heard]]
        for pair, left, right in zip(heard, *(_odds(texts, source, target) for texts in sides), strict=True):
            self._counts["all"] += 1
            self._counts["source without letters"] += _letterless(pair.source)
            self._counts["target without letters"] += _letterless(pair.target)
            if abs(left - right) >= CERTAIN:
                self._counts["judged"] += 1
                self._counts["swapped"] += left < right
                self._evidence += left - right
            self._counts["source twice"] += min(left, right) >= 2 * CERTAIN
            self._counts["target twice"] += max(left, right) <= -2 * CERTAIN

    def problem(self) -> str:
        """Return what is wrong with the file as a whole, and what to do; "" where nothing is."""
        counts, rows = self._counts, self._counts["all"]
        if self._languages is None:
            return ""
        source, target = self._languages
        fields = setting("fields", "{source: ..., target: ...}")
        for side in ("source", "target"):
            number = counts[f"{side} without letters"]
            if number > 2 and number > rows / 2:
                return f"{number:,} of {rows:,} {side}s have no letter; is it a column of numbers? name it: {fields}"
        swapped, judged = counts["swapped"], counts["judged"]
        if swapped > judged / 2 and self._evidence < -3 * CERTAIN:
            return (
                f"{swapped:,} of {rows:,} rows look swapped ({target} first, then {source}): "
                f"{setting('source')} and {setting('target')} the other way round, or the columns?"
            )
        if swapped > 2 and swapped > SWAPPED_SHARE * judged:
            return (
                f"{swapped:,} of {rows:,} rows look swapped ({target} first, then {source}); "
                f"give a file in which each row has {source} first"
            )
        for side, code in (("source", source), ("target", target)):
            number = counts[f"{side} twice"]
            if number > 2 and number > rows / 2:
                language = language_name(code)
                return f"{number:,} of {rows:,} rows look like {language} on both sides; name the columns: {fields}"
        return ""


def _letterless(text: str) -> bool:
    return not is_blank(text) and not any(map(str.isalpha, text))


def _odds(texts: Sequence[str], source: str, target: str) -> list[float]:
    """Return how much likelier each text is in the source language, from its words or else from its script."""
    if script(source) == script(target) or (identifier_label(source) and identifier_label(target)):
        return log_odds(texts, source, target)
    # A text in the script of one language alone is as good as sure.
    return [5.0 * (in_script_of(text, source) - in_script_of(text, target)) for text in texts]
