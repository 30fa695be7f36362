"""Checks of pairs, streaming: what is not fit for training is rejected with a reason, the rest is left unchanged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict, Field

from lingraft.core.errors import DataError, setting
from lingraft.core.hashing import HashSet, text_hash
from lingraft.core.validation import Needs, Settings
from lingraft.data import reasons
from lingraft.data.files import Row, read_ahead
from lingraft.data.overlap import OverlapIndex
from lingraft.data.overview import Overview
from lingraft.data.records import Pair, Rejected
from lingraft.language.characters import columns, is_blank
from lingraft.language.codes import base_language, script
from lingraft.language.identification import identifier_label, identifier_scripts, identify_many, may_be
from lingraft.language.measures import in_script_of, normalise
from lingraft.language.placeholders import prose

MIN_COLUMNS = 10
"""Shorter sides count as this long in the length ratio: "Nein." may translate a short sentence."""

CHUNK = 256
"""Rows judged together."""

CountTokens = Callable[[Sequence[str]], Sequence[int]]
Problem = tuple[str, str]
"""Reason and detail."""

MIN_LETTERS = 40
MIN_LETTERS_OTHER_SCRIPTS = 15
"""Letters from which a text's language is judged, in Latin script and in others (which tell more by themselves)."""

# Cc but tab, LF and CR; the replacement character and lone surrogates, which are left by wrong decoding.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")


class CheckLimits(Settings):
    """When a pair is rejected, and when too many are."""

    model_config = ConfigDict(frozen=True)
    needs: ClassVar[Needs] = {"min_language_probability": ("`language_check: true`", lambda own: own.language_check)}

    max_length_ratio: float = Field(
        default=4.0,
        gt=1,
        description="Longest to shortest side, in characters (full-width ones count twice, combining marks not, "
        "a side under 10 as 10).",
    )
    max_tokens: int = Field(default=512, ge=1, description="Longest source or target in tokens of the model.")
    max_rejected_share: float = Field(
        default=0.05, ge=0, le=1, description="The work stops when a larger share of a file's rows is rejected."
    )
    language_check: bool = Field(default=True, description="Reject sides that are surely in another language.")
    min_language_probability: float = Field(
        default=0.9, gt=0, le=1, description="How sure the identifier must be of the other language."
    )


class Duplicates:
    """Remembers pairs by a 64-bit hash; share one between files to find duplicates across them."""

    def __init__(self) -> None:
        self._seen = HashSet()

    def add(self, pair: Pair) -> bool:
        """Add a pair and return whether its normalised sides, in this direction, are new."""
        return self._seen.add(
            text_hash(
                base_language(pair.source_lang),
                normalise(pair.source),
                base_language(pair.target_lang),
                normalise(pair.target),
            )
        )


def check_pairs(
    rows: Iterable[Row[Pair] | Rejected],
    limits: CheckLimits,
    *,
    file: str,
    count_tokens: CountTokens | None = None,
    overlap: OverlapIndex | None = None,
    seen: Duplicates | None = None,
    overview: Overview | None = None,
) -> Iterator[Pair | Rejected]:
    """Yield each good pair unchanged, and for each other row the first reason against it; rows already rejected pass.

    Rows are read ahead and judged `CHUNK` at a time, since tokens and languages of many texts are cheaper together.

    Args:
        rows: what `read_pairs` yields.
        limits: the limits.
        file: named in the rejected rows, as the user wrote it.
        count_tokens: numbers of tokens of texts; without it, lengths in tokens are not checked.
        overlap: test pairs that must not be trained on.
        seen: pairs that occurred before; one per call by default.
        overview: takes in all pairs that could be read, so that the file can be judged as a whole.
    """
    seen = seen if seen is not None else Duplicates()
    for chunk in read_ahead(rows, lambda: CHUNK):
        if overview is not None:
            overview.add([row for row in chunk if isinstance(row, Row)], limits.language_check)
        problems = _problems(chunk, limits, count_tokens)
        for number, row in enumerate(chunk):
            if isinstance(row, Rejected):
                yield row
                continue
            problem = problems.get(number)
            if problem is None and overlap is not None and (found := overlap.match(row.record)) is not None:
                problem = (reasons.OVERLAP_WITH_TEST, found)
            if problem is None and not seen.add(row.record):
                problem = (reasons.DUPLICATE, "")
            yield row.record if problem is None else Rejected(file, row.line, *problem)


def _text_problem(pair: Pair) -> Problem | None:
    for side, text, reason in (
        ("source", pair.source, reasons.EMPTY_SOURCE),
        ("target", pair.target, reasons.EMPTY_TARGET),
    ):
        if is_blank(text):
            return reason, ""
        if control := CONTROL.search(text):
            return reasons.CONTROL_CHARACTERS, f"U+{ord(control[0]):04X} in the {side}"
    if pair.source.strip() == pair.target.strip():
        return reasons.IDENTICAL_SIDES, ""
    return None


def _length_problem(pair: Pair, limits: CheckLimits) -> Problem | None:
    short, long = sorted(columns(text) for text in (pair.source, pair.target))
    if long > limits.max_length_ratio * max(short, MIN_COLUMNS):
        return reasons.LENGTH_RATIO, f"{long} against {short} columns"
    return None


def _problems(
    chunk: Sequence[Row[Pair] | Rejected], limits: CheckLimits, count_tokens: CountTokens | None
) -> dict[int, Problem]:
    """Return the first problem that each pair has by itself, by the number of its row."""
    problems: dict[int, Problem] = {}
    pairs = {number: row.record for number, row in enumerate(chunk) if isinstance(row, Row)}
    for number, pair in pairs.items():
        problem = _text_problem(pair) or _length_problem(pair, limits)
        if problem is not None:
            problems[number] = problem
    for found in (_token_problems, _language_problems):
        fit = {number: pair for number, pair in pairs.items() if number not in problems}
        problems |= found(fit, limits, count_tokens) if fit else {}
    return problems


def _token_problems(
    pairs: Mapping[int, Pair], limits: CheckLimits, count_tokens: CountTokens | None
) -> dict[int, Problem]:
    problems: dict[int, Problem] = {}
    if count_tokens is None:
        return problems
    for side in ("source", "target"):
        counts = count_tokens([getattr(pair, side) for pair in pairs.values()])
        for number, tokens in zip(pairs, counts, strict=True):
            if tokens > limits.max_tokens:
                detail = f"the {side} has {tokens} tokens, the limit is {limits.max_tokens}"
                problems.setdefault(number, (reasons.TOO_LONG, detail))
    return problems


def language_problems(rows: Sequence[Pair], limits: CheckLimits) -> dict[int, Problem]:
    """Return which pairs are surely in other languages than declared, by their number."""
    return _language_problems(dict(enumerate(rows)), limits, None)


def _language_problems(
    pairs: Mapping[int, Pair], limits: CheckLimits, count_tokens: CountTokens | None
) -> dict[int, Problem]:
    problems: dict[int, Problem] = {}
    if not limits.language_check:
        return problems
    by_languages: dict[tuple[str, str], list[int]] = {}
    for number, pair in pairs.items():
        by_languages.setdefault((pair.source_lang, pair.target_lang), []).append(number)
    for both, numbers in by_languages.items():
        for side, code, reason in (
            ("source", both[0], reasons.WRONG_LANGUAGE_SOURCE),
            ("target", both[1], reasons.WRONG_LANGUAGE_TARGET),
        ):
            texts = {number: getattr(pairs[number], side) for number in numbers if number not in problems}
            found = in_other_languages(texts, code, both, limits.min_language_probability)
            problems |= {number: (reason, detail) for number, detail in found.items()}
    return problems


def in_other_languages(
    texts: Mapping[int, str], code: str, expected: Sequence[str], min_probability: float
) -> dict[int, str]:
    """Return which texts are surely not in a language, each with what it looks like.

    Those are judged that have enough letters outside of tags, addresses and variables: by the identifier, if it knows
    the language in this script, and by their script (fewer than a tenth of the letters are of the language's).

    Args:
        texts: by number.
        code: the language declared.
        expected: with it, the languages of which a text may be.
        min_probability: of another language.
    """
    judged = {
        number: text for number, text in zip(texts, map(prose, texts.values()), strict=True) if _enough_letters(text)
    }
    details: dict[int, str] = {}
    in_doubt = dict(judged)
    if identifier_label(code) is not None:
        by_script = len(identifier_scripts(code)) == 1  # else the identifier would know it in another one, too
        for number, (found, probability) in zip(judged, identify_many(list(judged.values()), expected), strict=True):
            if may_be(found, code):
                if by_script:
                    del in_doubt[number]
            elif probability >= min_probability:
                details[number] = f"looks like {found} ({probability:.2f}), declared is {code}"
    for number, text in in_doubt.items():
        if number not in details and not in_script_of(text, code, share=0.1):
            details[number] = f"is not in the script {script(code)}, in which {code} is written"
    return details


def _enough_letters(text: str) -> bool:
    if len(text) < MIN_LETTERS_OTHER_SCRIPTS:
        return False
    latin = len(_LATIN.findall(text))
    if latin >= MIN_LETTERS:
        return True
    other = sum(map(str.isalpha, text)) - latin
    return other > latin and other + latin >= MIN_LETTERS_OTHER_SCRIPTS


@dataclass
class CheckTally:
    """Counts of accepted rows and of rejected rows by reason; `overview`: the file as a whole, for `check_pairs`."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    overview: Overview = field(default_factory=Overview)

    def add(self, item: Pair | Rejected) -> None:
        """Count one item of `check_pairs`."""
        if isinstance(item, Rejected):
            self.rejected[item.reason] += 1
        else:
            self.accepted += 1

    @property
    def rows(self) -> int:
        """All rows read."""
        return self.accepted + self.rejected.total()

    @property
    def rejected_share(self) -> float:
        """Rejected rows as a share of all, 0 when there are none."""
        return self.rejected.total() / self.rows if self.rows else 0.0


def enforce_limit(tally: CheckTally, limits: CheckLimits, file: str, rejected_file: str = "rejected.jsonl") -> None:
    """Refuse a file of which too much was rejected, or that looks wrong as a whole.

    Args:
        tally: what was accepted and rejected.
        limits: of which `max_rejected_share` counts.
        file: name of the file, for messages.
        rejected_file: name of the file with the rejected rows, for messages.

    Raises:
        DataError: the share is above `max_rejected_share`, or no row is left; or as `Overview.problem` says.
    """
    if problem := tally.overview.problem():
        raise DataError(f"{file}: {problem}")
    enforce_share(tally.rejected, tally.accepted, limits.max_rejected_share, file, rejected_file)


def enforce_share(
    rejected: Counter[str], accepted: int, max_share: float, file: str, rejected_file: str = "rejected.jsonl"
) -> None:
    """Refuse a file of which too many rows were rejected.

    Args:
        rejected: rows by reason.
        accepted: rows that are not rejected.
        max_share: of all rows that may be rejected, from 0 to 1.
        file: name of the file, for messages.
        rejected_file: name of the file with the rejected rows, for messages.

    Raises:
        DataError: more were, or no row is left.
    """
    count = rejected.total()
    common = " and ".join(f"{reason} ({number:,})" for reason, number in rejected.most_common(2))
    if count and not accepted:
        raise DataError(f"{file}: all {count:,} rows are rejected, mostly {common}; see {rejected_file}")
    rows = count + accepted
    if rows and count / rows > max_share:
        raise DataError(
            f"{file}: {count:,} of {rows:,} rows ({count / rows:.1%}) are rejected, mostly {common}, "
            f"more than the {max_share:.1%} allowed; see {rejected_file} and correct the file, "
            f"or raise {setting('max_rejected_share')}"
        )
