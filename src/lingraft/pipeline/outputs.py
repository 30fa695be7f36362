"""What all systems wrote, item by item, for `outputs.jsonl` and the report; and what went wrong with translations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lingraft.data.records import Message, Pair, SideBySide
from lingraft.language.measures import is_looping
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.prepare import Data, PreparedTestSet
from lingraft.pipeline.suites import OpenSuite
from lingraft.reporting.contents import Breakdown
from lingraft.store.files import line_writer
from lingraft.translation.direct import Translation, one_line

OUTPUTS = "outputs.jsonl"
MOST_SHOWN = 2000
"""Items of one test set or suite that the report's browser holds; `outputs.jsonl` has all of them."""


def translations(test: PreparedTestSet, decoded: Sequence[SystemAnswers]) -> Iterator[SideBySide]:
    """Yield the segments of a test set with all systems' translations."""
    for pair in test.pairs:
        found = {
            system.name: system.translations[test.key][pair.id] for system in decoded if test.key in system.translations
        }
        outputs = {name: one.text for name, one in found.items()}
        steps = {name: written for name, one in found.items() if (written := _steps(one))}
        yield SideBySide(f"{test.name}/{pair.id}", _direction(pair), pair.source, pair.target, outputs, steps)


def _steps(translation: Translation) -> dict[str, str]:
    """Return what the steps of a decoder wrote, and what it chose from."""
    candidates = {f"candidate {number}": text for number, text in enumerate(translation.candidates, start=1)}
    return {**translation.steps, **candidates}


def answers(suite: OpenSuite, decoded: Sequence[SystemAnswers]) -> Iterator[SideBySide]:
    """Yield every question of a suite with all systems' answers: what is asked of all, then the follow-ups.

    The turns before a follow-up hold each system's own answers; only the user's turns are shown as its source.
    """
    first = {request.id for request in suite.requests()}
    items: dict[str, tuple[str, dict[str, str]]] = {}
    for system in (one for one in decoded if not one.system.weights):
        own = next((one for one in system.suites if one.name == suite.name), suite)
        for request in own.asked(system.answers):
            shown = [message for message in request.messages if request.id in first or message.role != "assistant"]
            _, texts = items.setdefault(request.id, (_shown(shown), {}))
            texts[system.name] = system.answers.generations[request.id].text
    for id_, (source, texts) in items.items():
        yield SideBySide(id_, suite.name, source, "", texts)


def side_by_side(
    data: Data, suites: Sequence[OpenSuite], decoded: Sequence[SystemAnswers]
) -> Iterator[tuple[str, list[SideBySide]]]:
    """Yield the name and the items of every test set (each direction apart) and every suite."""
    for test in data.tests:
        parts: dict[str, list[SideBySide]] = {}
        for item in translations(test, decoded):
            parts.setdefault(item.group, []).append(item)
        yield from ((f"{test.name}, {direction}", items) for direction, items in parts.items())
    for suite in suites:
        yield suite.name, list(answers(suite, decoded))


def write_outputs(
    path: Path, data: Data, suites: Sequence[OpenSuite], decoded: Sequence[SystemAnswers]
) -> tuple[list[SideBySide], list[str]]:
    """Write every item; return those that the report holds, and a sentence for each set of which it holds a part."""
    shown: list[SideBySide] = []
    notes = []
    with line_writer(path) as write:
        for name, items in side_by_side(data, suites, decoded):
            for item in items:
                write(item.to_json())
            shown += items[:MOST_SHOWN]
            if len(items) > MOST_SHOWN:
                notes.append(
                    f"{name}: Outputs holds the first {MOST_SHOWN:,} of {len(items):,} items; all are in {path.name}."
                )
    return shown, notes


def breakdowns(data: Data, decoded: Sequence[SystemAnswers]) -> list[Breakdown]:
    """Count what went wrong with the translations, by test set, direction and system.

    Kinds: what `extract` names (such as empty, unfinished), thoughts before a translation, texts that repeat
    themselves, and the source copied instead of translated (equal up to white space and case).
    """
    found = []
    for test in data.tests:
        for direction in dict.fromkeys(_direction(pair) for pair in test.pairs):
            pairs = [pair for pair in test.pairs if _direction(pair) == direction]
            counts = {
                system.name: Counter(
                    kind for pair in pairs for kind in _faults(pair.source, system.translations[test.key][pair.id])
                )
                for system in decoded
                if test.key in system.translations
            }
            found.append(Breakdown(test.name, direction, len(pairs), counts))
    return found


def outcomes(decoded: Sequence[SystemAnswers]) -> dict[str, Counter[str]]:
    """Count what decoders say that they did with a segment."""
    found = {}
    for system in decoded:
        texts = (item for listed in system.translations.values() for item in listed.values())
        if counts := Counter(item.outcome for item in texts if item.outcome):
            found[system.name] = counts
    return found


def _faults(source: str, translation: Translation) -> Iterator[str]:
    if translation.failure:
        yield translation.failure
    elif translation.thought:
        yield "thought"
    if translation.text and is_looping(translation.text):
        yield "looping"
    if translation.text and one_line(translation.text).casefold() == one_line(source).casefold():
        yield "copied_source"


def _direction(pair: Pair) -> str:
    return f"{pair.source_lang}-{pair.target_lang}"


def _shown(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)
