"""Error lists of translations as a model gives them: how they are asked for, and how strictly they are read.

Categories and severities are those of MQM as TEaR uses them (arXiv 2402.16379); the words are this project's own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lingraft.data.records import Message
from lingraft.language.codes import language_name
from lingraft.language.thinking import said
from lingraft.translation.direct import Source

WEIGHTS = {"critical": 25, "major": 5, "minor": 1}
"""Severities, the gravest first, and what an error of each counts."""

SEVERITIES = (
    "critical: what is said cannot be understood, or is another thing than the source says; major: it disturbs the "
    "reading, or the meaning changes in part; minor: a small fault of form or style that hinders nobody"
)

_ESTIMATE = """\
You check a translation from {source_name} into {target_name}. Find its errors: what was added, left out, translated \
wrongly or not at all; faults of grammar, spelling, punctuation, register or consistency; a wrong term; a date, number \
or name in the wrong form; an awkward style.

{source_name} source:
{source}

{target_name} translation:
{translation}

Severities: {severities}.

Answer with one JSON object and nothing else. It has the keys "critical", "major" and "minor", each with a list of \
short texts, one for each error: the words of the translation, a colon, and what is wrong with them. A list without \
errors is empty: {{"critical": [], "major": [], "minor": []}}"""

AGAIN = (
    'That was not the JSON object that was asked for. Answer with {"critical": [...], "major": [...], "minor": [...]} '
    "and nothing else."
)

_REFINE = """\
Here is a {source_name} text with a translation into {target_name}, and errors that a reader found in it.

{source_name} source:
{source}

{target_name} translation:
{translation}

Errors:
{errors}

Severities: {severities}.

First correct these places. Then read the whole as somebody whose mother tongue is {target_name}, and make it fluent \
where it is not. Answer with the corrected {target_name} translation and nothing else."""

WORKED: tuple[tuple[Source, str, str], ...] = (
    (
        Source("", "She put the kettle on and waited for the rain to stop.", "en", "de"),
        "Sie setzte den Kessel auf und wartete bis der Regen begann.",
        '{"critical": [], "major": ["begann: means that it began, the source says that it stops"], '
        '"minor": ["wartete bis: a comma is missing"]}',
    ),
    (
        Source("", "请不要在空腹时服用此药。", "zh", "en"),
        "Please take this medicine on an empty stomach.",
        '{"critical": ["take this medicine: the negation is left out, the source forbids it"], "major": [], '
        '"minor": []}',
    ),
    (
        Source("", "Der Zug hat heute zwanzig Minuten Verspätung.", "de", "en"),
        "The train is twenty minutes late today.",
        '{"critical": [], "major": [], "minor": []}',
    ),
)
"""Worked examples: a source, a translation, and the list of its errors. They are of this project."""

_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL | re.IGNORECASE)
_NONE = {"", "none", "no error", "no-error", "no errors", "no-errors"}


@dataclass(frozen=True)
class ErrorList:
    """The errors of a translation, by their severity."""

    critical: tuple[str, ...] = ()
    major: tuple[str, ...] = ()
    minor: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """The sum of the weights of all errors."""
        return sum(weight * len(getattr(self, severity)) for severity, weight in WEIGHTS.items())

    def __str__(self) -> str:
        return "\n".join(f"- {severity}: {error}" for severity in WEIGHTS for error in getattr(self, severity))


def estimate_messages(source: Source, translation: str, examples: int = 0) -> tuple[Message, ...]:
    """Return the conversation that asks for the errors of a translation.

    Args:
        source: of the translation.
        translation: to check.
        examples: worked ones that stand before the question, as turns.
    """
    messages = []
    for shown, faulty, listed in WORKED[:examples]:
        messages += [_estimate(shown, faulty), Message("assistant", listed)]
    return (*messages, _estimate(source, translation))


def _estimate(source: Source, translation: str) -> Message:
    return Message("user", _ESTIMATE.format(**_words(source), translation=translation, severities=SEVERITIES))


def refine_messages(source: Source, translation: str, errors: ErrorList) -> tuple[Message, ...]:
    """Return the conversation that asks for a better translation."""
    text = _REFINE.format(**_words(source), translation=translation, errors=errors, severities=SEVERITIES)
    return (Message("user", text),)


def _words(source: Source) -> dict[str, str]:
    names = {"source_name": language_name(source.source_lang), "target_name": language_name(source.target_lang)}
    return {"source": source.text, **names}


def read_errors(answer: str, asked: str = "") -> ErrorList | None:
    """Return the errors of an answer, None where it is not exactly what was asked for.

    It is one JSON object, in a code fence or not, with the three keys and no other; each holds a list of texts, or a
    text alone. Thoughts before it are no part of it.

    Args:
        answer: of the model.
        asked: what it was asked: tags of thoughts in that may be quoted.
    """
    text = said(answer, asked).text
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != set(WEIGHTS):
        return None
    lists: dict[str, tuple[str, ...]] = {}
    for severity, value in found.items():
        errors = [value] if isinstance(value, str) else value
        if not isinstance(errors, list) or not all(isinstance(error, str) for error in errors):
            return None
        lists[severity] = tuple(error.strip() for error in errors if error.strip().casefold().rstrip(".") not in _NONE)
    return ErrorList(**lists)
