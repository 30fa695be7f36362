"""Metric `esa`: a judge marks the errors of a translation and gives it 0 to 100, as in error span annotation.

The two steps are those of GEMBA-ESA, which Kocmi et al. asked of GPT-4; the words are this project's own, for theirs
have a licence that would bind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from lingraft.core.hashing import content_hash
from lingraft.data.records import Generation, Message, Pair, Request, Sampling
from lingraft.language.codes import language_name
from lingraft.metrics.judged import JudgedMetric

AGAIN = 0.7
"""Temperature of a score that is asked for again: a greedy judge would write the same again."""
_SPANS = """\
You annotate errors in translations. Below are a {source_name} text and its translation into {target_name}.

{source_name} source:
{source}

{target_name} translation:
{translation}

Mark every part of the translation that is wrong: meaning that was changed, added or left out, text that was left \
untranslated, wrong grammar, spelling or punctuation, wrong terms, style that does not fit. An error is major if it \
changes the meaning or makes the text hard to use, otherwise minor. Do not mark what is merely another way to say it.

Write one line for each error: "major" or "minor", a colon, the marked words in double quotes, and a few words on what \
is wrong. If there is no error, write "no errors". Write nothing else."""
_SCORE = """\
Considering these errors, how good is the translation as a whole, from 0 to 100?

0: nothing of the source's meaning is kept. 33: some of the meaning is kept, much is lost or cannot be understood. \
66: most of the meaning is kept, with few mistakes. 100: meaning and grammar are perfect.

Answer with one whole number and nothing else."""
_ONE_NUMBER = re.compile(
    r"[*\s]*(?:score|answer)?[:*\s]*(\d{1,3})(?:[.,]0+)?\s*(?:/\s*100|%|points?)?[.*\s]*", re.IGNORECASE
)


class Esa(JudgedMetric):
    """Mean of the scores that a judge gives translations, 0 to 100, after it has marked their errors.

    References are not looked at. The annotation is greedy and taken as it is written; a score that is not one number
    from 0 to 100 is asked for again, sampled. An empty translation has 0. How far a judge agrees with people is the
    judge's: a small model is none.
    """

    name: ClassVar[str] = "esa"
    summary: ClassVar[str] = "errors marked and 0 to 100 given by a judge, as in error span annotation (GEMBA-ESA)"
    paper: ClassVar[str] = (
        "Kocmi et al. 2024, Error Span Annotation, arXiv 2406.11580; Kocmi and Federmann 2023, GEMBA, arXiv 2302.14520"
    )
    label: str = "ESA by a judge"
    decimals: int | None = 1
    unit: str = "0-100"
    cite: tuple[str, ...] = ("kocmi-2024-esa", "kocmi-2023-gemba")

    def ask(self, key: str, pair: Pair, text: str, verdicts: Mapping[str, Generation]) -> Request | None:
        spans = f"{key}/spans"
        tokens = self.params.verdict_tokens
        messages: tuple[Message, ...] = (Message("user", _question(pair, text)),)
        if spans not in verdicts:
            return Request(spans, messages, Sampling(max_new_tokens=tokens, temperature=0.0))
        attempts = _attempts(key, verdicts)
        if len(attempts) > self.params.retries or any(read_score(one) is not None for one in attempts):
            return None
        messages += (Message("assistant", verdicts[spans].text.strip() or "no errors"), Message("user", _SCORE))
        number = len(attempts) + 1
        sampling = Sampling(max_new_tokens=min(tokens, 16), temperature=AGAIN if attempts else 0.0, seed=number)
        return Request(f"{key}/{number}", messages, sampling)

    def read(self, key: str, verdicts: Mapping[str, Generation]) -> float | None:
        return next((score for one in _attempts(key, verdicts) if (score := read_score(one)) is not None), None)

    def prompts(self) -> str:
        return f"own-{content_hash([_SPANS, _SCORE])[:8]}"


def read_score(answer: str) -> float | None:
    """Return the score of an answer that is one whole number from 0 to 100, as it may be dressed; else None."""
    found = _ONE_NUMBER.fullmatch(answer)
    score = int(found[1]) if found else -1
    return float(score) if 0 <= score <= 100 else None


def _question(pair: Pair, text: str) -> str:
    names = {"source_name": language_name(pair.source_lang), "target_name": language_name(pair.target_lang)}
    return _SPANS.format(**names, source=pair.source, translation=text)


def _attempts(key: str, verdicts: Mapping[str, Generation]) -> list[str]:
    texts: list[str] = []
    while (one := verdicts.get(f"{key}/{len(texts) + 1}")) is not None:
        texts.append(one.text)
    return texts
