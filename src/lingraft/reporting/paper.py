"""A "Methods" paragraph for a paper, with its citations, written from the scorecard alone.

The text is built once, with citations as `[@key]`, and then written in two forms: plain text with author and year, and
LaTeX with `\\citep`. The BibTeX entries are those of `references.bib` that are cited.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lingraft.core.printable import latex
from lingraft.evaluation.scorecard import Delta, GeneralScore, Scorecard, TranslationScore
from lingraft.language.codes import language_name
from lingraft.reporting.numbers import count, metric_style
from lingraft.reporting.tables import grouped

METHODS = {
    "radis": "wu-2025-radis",
    **dict.fromkeys(("recovery", "translation_pretraining", "tcot", "native_sft"), "geng-2024-transllm"),
}
TUNERS = {"lora": "hu-2022-lora", "full": "howard-2018-universal"}
TESTS = {
    "paired bootstrap": "koehn-2004-statistical",
    "approximate randomi[sz]ation": "riezler-2005-pitfalls",
    "mcnemar": "mcnemar-1947-note",
}
METRICS = {
    r"bleu": ("papineni-2002-bleu", "post-2018-call"),
    r"spbleu.*": ("goyal-2022-flores", "post-2018-call"),
    r"chrf": ("popovic-2015-chrf",),
    r"chrf\+\+": ("popovic-2017-chrfpp",),
    r"ter": ("snover-2006-study",),
    r".*kiwi.*": ("rei-2022-cometkiwi",),
    r".*xcomet.*": ("guerreiro-2024-xcomet",),
    r"comet.*|.*wmt22-comet.*": ("rei-2022-comet",),
    r"kl_from_base.*": ("shenfeld-2025-razor",),
    r"refusal_rate.*": ("zou-2023-universal",),
}
TASKS = {
    "hellaswag": "zellers-2019-hellaswag",
    r"(^|[^a-z])arc([^a-z]|$)": "clark-2018-arc",
    "piqa": "bisk-2020-piqa",
    "winogrande": "sakaguchi-2020-winogrande",
    "boolq": "clark-2019-boolq",
    "mmlu": "hendrycks-2021-mmlu",
    "truthful": "lin-2022-truthfulqa",
    "gsm8k": "cobbe-2021-gsm8k",
    "mgsm": "shi-2023-mgsm",
    "xcopa": "ponti-2020-xcopa",
    "ifeval": "zhou-2023-ifeval",
    "mt_bench|mt-bench": "zheng-2023-judging",
    "alpaca_?eval": "dubois-2024-length",
    "multijail": "deng-2024-multilingual",
    "advbench": "zou-2023-universal",
    r"lm[-_]eval|harness": "gao-2024-harness",
}
"""Suites are known by name, metric and signature."""

_TWO_CODES = re.compile(r"[a-z]{2,3}-[a-z]{2,3}")


@dataclass(frozen=True)
class Methods:
    """The paragraph in plain text and in LaTeX, and the BibTeX entries of what it cites."""

    plain: str
    latex: str
    bibtex: str


def methods(scorecard: Scorecard) -> Methods:
    """Return the paragraph that says what was compared, on what, with which metrics and tests."""
    sentences = [
        *_systems(scorecard),
        *_translation(scorecard),
        *_general(scorecard),
        *_statistics(scorecard),
        *_overlap(scorecard),
    ]
    marked = " ".join(sentences)
    keys = sorted(dict.fromkeys(key for found in re.findall(r"\[@([^\]]+)\]", marked) for key in found.split(";")))
    return Methods(_plain(marked), _latex(marked), "\n\n".join(_entries()[key] for key in keys))


def _systems(scorecard: Scorecard) -> list[str]:
    base = _quoted(scorecard.base.id)
    described = []
    for system in scorecard.systems[1:]:
        if system.name == "translate-test" or (system.group and system.group != system.name):
            continue
        by = f"method {_quoted(system.method)}{_cite(METHODS, system.method)}" if system.method else "training"
        tuner = f" with {_quoted(system.tuner)}{_cite(TUNERS, system.tuner)}" if system.tuner else ""
        described.append(f"{_quoted(system.name)} ({by}{tuner})")
    sentences = [f"The base model is {base} (SHA-256 of weights and tokenizer {scorecard.base.sha256[:16]})."]
    if described:
        sentences.append(f"It is compared with {_listed(described)}, trained from it.")
    if any(system.name == "translate-test" for system in scorecard.systems):
        sentences.append(
            f"For {_quoted('translate-test')} the untouched base answers in English; a translator carries questions "
            f"to English, and answers back."
        )
    seeds = {name: len(scores) for name, scores in _seed_counts(scorecard).items()}
    if seeds:
        parts = [f"{_quoted(name)} with {number} seeds" for name, number in seeds.items()]
        sentences.append(f"Training was repeated for {_listed(parts)}; each seed is reported, none is averaged away.")
    scaled = [system for system in scorecard.systems if system.scale is not None]
    if scaled:
        factors = _listed([f"{factor:g}" for factor in sorted({s.scale for s in scaled if s.scale is not None})])
        sentences.append(
            f"Adapters were also evaluated with their weights multiplied by {factors}, without retraining."
        )
    versions = [f"{_quoted(name)} {version}" for name, version in scorecard.versions.items()]
    if versions:
        sentences.append(f"Software: {', '.join(versions)}.")
    return sentences


def _translation(scorecard: Scorecard) -> list[str]:
    if not scorecard.translation:
        return []
    sets = []
    for (test_set, direction), rows in grouped(scorecard.translation, lambda s: (s.test_set, s.direction)):
        # A code with a region has a hyphen of its own.
        names = [language_name(code) for code in direction.split("-")] if _TWO_CODES.fullmatch(direction) else []
        pair = " to ".join(names) or _quoted(direction)
        sets.append(f"{_quoted(test_set)} ({pair}, {count(rows[0].n)} segments)")
    metrics = []
    for metric, rows in grouped(scorecard.translation, lambda s: s.metric):
        signatures = list(dict.fromkeys(row.signature for row in rows if row.signature))
        shown = f" ({'; '.join(map(_quoted, signatures))})" if signatures else ""
        metrics.append(f"{_quoted(metric_style(metric).label)}{_cites(_metric_keys(metric, signatures))}{shown}")
    return [
        f"Translation is measured on {_listed(sets)}. Every system translates the same segments by greedy decoding, "
        "and one rule extracts the translations of all.",
        f"Metrics: {_listed(metrics)}.",
    ]


def _general(scorecard: Scorecard) -> list[str]:
    if not scorecard.general:
        return []
    suites = []
    for suite, rows in grouped(scorecard.general, lambda s: s.suite):
        known = " ".join([suite, *(f"{row.metric} {row.signature}" for row in rows)]).lower()
        keys = [key for pattern, key in TASKS.items() if re.search(pattern, known)]
        keys += [key for row in rows for key in _metric_keys(row.metric)]
        labels = dict.fromkeys(metric_style(row.metric).label for row in rows)
        items = " or ".join(count(n) for n in sorted({row.n for row in rows}))
        suites.append(f"{_quoted(suite)}{_cites(keys)} ({', '.join(map(_quoted, labels))}; {items} items)")
    return [
        f"General ability is measured by {_listed(suites)}.",
        "Retention is 100 times the score of a system over that of the base on the same items, inverted for "
        "error-like metrics; where chance scores something (multiple choice, agreement with the base) both count from "
        "there.",
    ]


def _statistics(scorecard: Scorecard) -> list[str]:
    rows: list[TranslationScore | GeneralScore] = [*scorecard.translation, *scorecard.general]
    if not rows:
        return []
    resamples = re.search(r"\|(?:bs|n_boot):(\d+)", "|" + "|".join(row.signature for row in rows))
    number = f" of {count(int(resamples[1]))} resamples" if resamples else ""
    sentences = [
        f"Intervals are 95% percentile bootstrap intervals{number} over items [@efron-1993-bootstrap], with the same "
        f"resamples for all systems (seed {scorecard.seed})."
    ]
    deltas = [delta for row in rows for delta in _deltas(row.delta, row.versus.values())]
    tests = [f"{_quoted(test)}{_cite_test(test)}" for test in dict.fromkeys(delta.test for delta in deltas)]
    if tests:
        sentences.append(f"Differences are tested in pairs on the same items, two-sided, by {_listed(tests)}.")
    if any(delta.p_holm is not None for delta in deltas):
        sentences.append("The p-values of a system are corrected for the number of comparisons [@holm-1979-simple].")
    if scorecard.seeds:
        sentences.append(
            "The intervals cover the choice of items; the spread between training seeds is stated beside them."
        )
    return sentences


def _overlap(scorecard: Scorecard) -> list[str]:
    names = [_quoted(name) for name in scorecard.unchecked]
    unchecked = [f"The training data of {_listed(names)} were not searched for test items."] if names else []
    if not scorecard.contamination:
        return unchecked
    found = [
        f"{count(row.shared)} of {count(row.n)} items of {_quoted(row.where)} ({row.kind})"
        for row in scorecard.contamination
        if row.shared
    ]
    ngrams = " [@brown-2020-few]" if any(row.kind == "ngram" for row in scorecard.contamination) else ""
    verdict = f"it was found for {_listed(found)}" if found else "none was found"
    return [f"Test items were searched for overlap with the training data{ngrams}; {verdict}.", *unchecked]


def _deltas(own: Delta | None, others: Iterable[Delta]) -> list[Delta]:
    return [delta for delta in (own, *others) if delta]


def _seed_counts(scorecard: Scorecard) -> dict[str, set[str]]:
    seeds: dict[str, set[str]] = {}
    for spread in scorecard.seeds:
        seeds.setdefault(spread.system, set()).update(spread.scores)
    return seeds


def _metric_keys(metric: str, signatures: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what a metric is cited by; which COMET it is, its signature says."""
    known = " ".join([metric, *signatures]) if "comet" in metric.lower() else metric
    return next((keys for pattern, keys in METRICS.items() if re.fullmatch(pattern, known, re.IGNORECASE)), ())


def _cite(known: dict[str, str], name: str | None) -> str:
    """Return the citations of every part of `name`, such as "radis + recovery"."""
    parts = re.split(r"[^A-Za-z0-9_-]+", name or "")
    return _cites([known[part.lower()] for part in parts if part.lower() in known])


def _cite_test(test: str) -> str:
    return _cites([key for pattern, key in TESTS.items() if re.search(pattern, test, re.IGNORECASE)])


def _cites(keys: Sequence[str]) -> str:
    return f" [@{';'.join(dict.fromkeys(keys))}]" if keys else ""


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _quoted(text: str) -> str:
    """Return a user's text on one line, without what could be taken for a citation."""
    return " ".join(text.split()).replace("[@", "[ @")


@cache
def _entries() -> dict[str, str]:
    text = files("lingraft.reporting").joinpath("references.bib").read_text("utf-8")
    entries = [entry.strip() for entry in re.split(r"\n(?=@)", text)]
    return {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in entries}


def _author_year(key: str) -> str:
    """Return "Post, 2018", "Riezler and Maxwell, 2005" or "Snover et al., 2006"."""
    entry = _entries()[key]
    fields = dict(re.findall(r"^  (author|year) = {(.*)},?$", entry, re.MULTILINE))
    people = [_ACCENT.sub(_accented, person.partition(",")[0]) for person in fields["author"].split(" and ")]
    first = f"{people[0]} and {people[1]}" if len(people) == 2 else people[0] + (" et al." if len(people) > 2 else "")
    return f"{first}, {fields['year']}"


_ACCENT = re.compile(r"\{\\(['v])\{?(\w)\}?\}")


def _accented(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match[2] + {"'": "\u0301", "v": "\u030c"}[match[1]])


def _plain(marked: str) -> str:
    return re.sub(r"\[@([^\]]+)\]", lambda m: f"({'; '.join(map(_author_year, m[1].split(';')))})", marked)


def _latex(marked: str) -> str:
    pieces = re.split(r" ?\[@([^\]]+)\]", marked)
    return "".join(
        f"~\\citep{{{piece.replace(';', ',')}}}" if position % 2 else latex(piece)
        for position, piece in enumerate(pieces)
    )
