"""Grades that a model gives to an answer: how they are asked for, and how they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lingraft.data.records import Generation, Message, Pair
from lingraft.language.codes import language_name
from lingraft.language.thinking import said

LOWEST, HIGHEST = 1, 10
"""The grades, as in ChatGLM-Math."""

TOP = 20
"""Probabilities recorded for each token of a grade, where its expectation is taken: what servers give at most."""

_GRADE = "Answer with one whole number from 1 (useless) to 10 (perfect), and with nothing else."
_NUMBER = re.compile(r"(?<![\d.,])(10|[1-9])(?:\.0+)?(?:\s*/\s*10)?(?![\d]|[.,]\d)")


def grade_translation(pair: Pair, translation: str, *, reference: bool) -> tuple[Message, ...]:
    """Return the request to grade a translation.

    Args:
        pair: with the source, and the reference.
        translation: to be graded.
        reference: whether the critic is shown the reference.
    """
    parts = [
        f"Grade a translation from {language_name(pair.source_lang)} into {language_name(pair.target_lang)}. It is "
        f"good if it says all that the source says and nothing else, and reads like text that was written in "
        f"{language_name(pair.target_lang)}.",
        f"Source:\n{pair.source.strip()}",
        *([f"A correct translation:\n{pair.target.strip()}"] if reference else []),
        f"Translation to grade:\n{translation}",
        _GRADE,
    ]
    return (Message("user", "\n\n".join(parts)),)


def grade_answer(question: str, answer: str, reference: str | None) -> tuple[Message, ...]:
    """Return the request to grade an answer.

    Args:
        question: all that was asked.
        answer: to be graded.
        reference: a good answer that the critic is shown; None: it is shown none.
    """
    parts = [
        "Grade the answer to a question. It is good if it does what is asked, is correct, and is clearly written.",
        f"Question:\n{question.strip()}",
        *([f"A good answer:\n{reference.strip()}"] if reference else []),
        f"Answer to grade:\n{answer}",
        _GRADE,
    ]
    return (Message("user", "\n\n".join(parts)),)


def written_grade(generation: Generation, given: str = "") -> float | None:
    """Return the first grade that a critic has written, None if there is none.

    Args:
        generation: what it wrote; thoughts before it do not count.
        given: what it was asked.
    """
    found = _NUMBER.search(said(generation.text, given).text)
    return float(found.group(1)) if found else None


def expected_grade(generation: Generation, numbers: Mapping[int, int]) -> float | None:
    """Return the mean grade under the distribution from which a critic took its first number; None if that is not
    known.

    Where 10 is two tokens, "1" may begin it: if it was written, the next token's distribution divides its probability
    between 1 and 10, and else it tells nothing and is left out.

    Args:
        generation: with log-probabilities.
        numbers: token ids of the critic's tokenizer that are whole numbers from 0 to 10, with these.
    """
    if not generation.logprobs:
        return None
    at = next((at for at, token in enumerate(generation.token_ids) if numbers.get(token, 0) >= LOWEST), None)
    if at is None or at >= len(generation.logprobs):
        return None
    mass = _mass(generation.logprobs[at], numbers)
    mass.pop(0, None)
    if HIGHEST not in numbers.values() and (one := mass.pop(LOWEST, 0.0)):
        if numbers[generation.token_ids[at]] == LOWEST and at + 1 < len(generation.logprobs):
            ten = _mass(generation.logprobs[at + 1], numbers).get(0, 0.0)
            mass |= {LOWEST: one * (1 - ten), HIGHEST: one * ten}
        elif not mass:
            return None
    total = sum(mass.values())
    return sum(number * share for number, share in mass.items()) / total if total else None


def _mass(best: tuple[tuple[int, float], ...], numbers: Mapping[int, int]) -> dict[int, float]:
    """Return the probability of each number; it may be written in several ways."""
    found: dict[int, float] = {}
    for token, logprob in best:
        if token in numbers:
            found[numbers[token]] = found.get(numbers[token], 0.0) + math.exp(logprob)
    return found
