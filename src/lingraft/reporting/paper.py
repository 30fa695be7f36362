"""A "Methods" paragraph for a paper, with its citations, written from the scorecard alone.

Metrics, suites, methods and tuners say themselves what they are cited by; see `citations.py` for how a text cites.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lingraft.core.tasks import Task
from lingraft.evaluation.scorecard import Delta, GeneralScore, Scorecard, TranslationScore
from lingraft.language.codes import language_name
from lingraft.reporting.citations import Citations
from lingraft.reporting.contents import TrainedStage
from lingraft.reporting.decoding import decoder_sentences
from lingraft.reporting.numbers import count
from lingraft.reporting.origins import in_words
from lingraft.reporting.tables import grouped, signatures_of

TESTS = {
    "paired bootstrap": "koehn-2004-statistical",
    "approximate randomi[sz]ation": "riezler-2005-pitfalls",
    "mcnemar": "mcnemar-1947-note",
}
_TWO_CODES = re.compile(r"[a-z]{2,3}-[a-z]{2,3}")


@dataclass(frozen=True)
class Methods:
    """The paragraph in plain text and in LaTeX, and the BibTeX entries of what it cites."""

    plain: str
    latex: str
    bibtex: str


def methods(scorecard: Scorecard, stages: Sequence[TrainedStage] = (), pairs: int = 0) -> Methods:
    """Return the paragraph that says what was compared, how it was trained, on what, with which metrics and tests.

    Args:
        scorecard: of the finished run.
        stages: of the trained systems; further seeds and scales of a system are left out.
        pairs: trained on.
    """
    cited = Citations()
    sentences = [
        *_systems(scorecard, cited),
        *_training(scorecard, stages, pairs, cited),
        *_translation(scorecard, cited),
        *_general(scorecard, cited),
        *_statistics(scorecard, cited),
        *_overlap(scorecard, cited),
    ]
    marked = " ".join(sentences)
    return Methods(cited.plain(marked), cited.latex(marked), cited.bibtex(marked))


def _systems(scorecard: Scorecard, cited: Citations) -> list[str]:
    base = _quoted(scorecard.base.id)
    described = []
    for system in scorecard.systems[1:]:
        if system.how or system.merged or (system.group and system.group != system.name):
            continue
        method, tuned = cited.mark(system.cite_method), cited.mark(system.cite_tuner)
        by = f"method {_quoted(system.method)}{method}" if system.method else "training"
        tuner = f" with {_quoted(system.tuner)}{tuned}" if system.tuner else ""
        described.append(f"{_quoted(system.name)} ({by}{tuner})")
    sentences = [f"The base model is {base} (SHA-256 of weights and tokenizer {scorecard.base.sha256[:16]})."]
    if described:
        sentences.append(f"It is compared with {_listed(described)}, trained from it.")
    sentences += [f"For {_quoted(system.name)} {_quoted(system.how)}." for system in scorecard.systems if system.how]
    sentences += _merged(scorecard, cited)
    sentences += decoder_sentences(scorecard, cited)
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


def _merged(scorecard: Scorecard, cited: Citations) -> list[str]:
    """Say what was made of the weights of others; the systems of a sweep in one sentence."""
    sentences = []
    merges = [system for system in scorecard.systems if system.merged]
    for name, systems in grouped(merges, lambda system: system.group or system.name):
        first = systems[0]
        by = f"{_quoted(first.method or '')}{cited.mark(first.cite_method)}"
        values = _listed(
            [
                ", ".join(f"{_quoted(key)} {_quoted(in_words(value))}" for key, value in one.swept.items())
                for one in systems
            ]
        )
        swept = f", with {values}" if first.swept else ""
        sentences.append(
            f"{_quoted(name)} was merged without training by {by} from {_listed(list(map(_quoted, first.merged)))}"
            f"{swept}."
        )
    return sentences


def _training(scorecard: Scorecard, stages: Sequence[TrainedStage], pairs: int, cited: Citations) -> list[str]:
    """Say what a reviewer asks first: pairs, rank, rate, epochs, steps."""
    own = {system.name for system in scorecard.systems if not system.group or system.group == system.name}
    shown = [stage for stage in stages if stage.system in own]
    if not shown:
        return []
    sentences = [f"Training data: {count(pairs)} pairs, each direction counted."] if pairs else []
    for stage in shown:
        name = f"{_quoted(stage.system)}{f', stage {_quoted(stage.stage)}' if stage.stage else ''}"
        tuner = ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in stage.tuner.items()
            if key != "kind" and value is not None
        )
        settings = [
            _quoted(f"{stage.tuner['kind']}{f' ({tuner})' if tuner else ''}"),
            f"learning rate {stage.learning_rate:g} ({stage.schedule})",
            f"{stage.epochs:g} epoch{'' if stage.epochs == 1 else 's'}",
            f"{count(stage.steps)} steps over {count(stage.tokens)} tokens",
            *(f"objective {_quoted(words)}{cited.mark(cite)}" for words, cite in stage.objectives.items()),
            *([f"with another adapter merged into the base (SHA-256 {stage.upon[:16]})"] if stage.upon else []),
        ]
        sentences.append(f"Training of {name}: {', '.join(settings)}.")
    return sentences


def _translation(scorecard: Scorecard, cited: Citations) -> list[str]:
    by_task = grouped(scorecard.translation, lambda s: s.task)
    return [sentence for task, scores in by_task for sentence in _of_task(task, scores, cited)]


_TASKS = {
    "translation": (
        "Translation is measured on",
        "segments",
        "Every system translates the same segments by greedy decoding, and one rule extracts the translations of all.",
        "Metrics",
    ),
    "summary": (
        "Summarising in another language is measured on",
        "documents",
        "Every system summarises the same documents by greedy decoding, and one rule extracts the summaries of all.",
        "Metrics of summaries",
    ),
    "code": (
        "Translation of programs is measured on",
        "programs",
        "Every system translates the same programs.",
        "Metrics of programs",
    ),
}


def _of_task(task: Task, scores: Sequence[TranslationScore], cited: Citations) -> list[str]:
    measured, noun, same, heading = _TASKS[task]
    sets = []
    for (test_set, direction), rows in grouped(scores, lambda s: (s.test_set, s.direction)):
        # A code with a region has a hyphen of its own.
        names = [language_name(code) for code in direction.split("-")] if _TWO_CODES.fullmatch(direction) else []
        pair = " to ".join(names) or _quoted(direction)
        sets.append(f"{_quoted(test_set)} ({pair}, {count(rows[0].n)} {noun})")
    metrics = []
    for _, rows in grouped(scores, lambda s: s.metric):
        signatures = signatures_of(rows)
        shown = f" ({'; '.join(map(_quoted, signatures))})" if signatures else ""
        facts = rows[0].facts
        metrics.append(f"{_quoted(facts.title)}{cited.mark(facts.cite)}{shown}")
    return [f"{measured} {_listed(sets)}. {same}", f"{heading}: {_listed(metrics)}."]


def _general(scorecard: Scorecard, cited: Citations) -> list[str]:
    if not scorecard.general:
        return []
    suites = []
    for suite, rows in grouped(scorecard.general, lambda s: s.suite):
        facts = [row.facts for row in rows]
        sources = cited.mark(source for each in facts for source in each.cite)
        labels = dict.fromkeys(each.title for each in facts)
        items = " or ".join(count(n) for n in sorted({row.n for row in rows}))
        suites.append(f"{_quoted(suite)}{sources} ({', '.join(map(_quoted, labels))}; {items} items)")
    return [
        f"General ability is measured by {_listed(suites)}.",
        "Retention is 100 times the score of a system over that of the base on the same items, inverted for "
        "error-like metrics; where chance scores something (multiple choice, agreement with the base) both count from "
        "there.",
        *(
            ["Items that changed from right to wrong and back are counted net of guessing [@harmon-2025-mapping]."]
            if any(row.changed for row in scorecard.general)
            else []
        ),
    ]


def _statistics(scorecard: Scorecard, cited: Citations) -> list[str]:
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
    tests = [f"{_quoted(test)}{cited.mark(_test_keys(test))}" for test in dict.fromkeys(delta.test for delta in deltas)]
    if tests:
        sentences.append(f"Differences are tested in pairs on the same items, two-sided, by {_listed(tests)}.")
    if any(delta.p_holm is not None for delta in deltas):
        sentences.append("The p-values of a system are corrected for the number of comparisons [@holm-1979-simple].")
    if scorecard.seeds:
        sentences.append(
            "The intervals cover the choice of items; the spread between training seeds is stated beside them."
        )
    return sentences


def _overlap(scorecard: Scorecard, cited: Citations) -> list[str]:
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


def _test_keys(test: str) -> list[str]:
    return [key for pattern, key in TESTS.items() if re.search(pattern, test, re.IGNORECASE)]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _quoted(text: str) -> str:
    """Return a user's text on one line, without what could be taken for a citation."""
    return " ".join(text.split()).replace("[@", "[ @")
