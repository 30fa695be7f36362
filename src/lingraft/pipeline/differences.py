"""What compared systems differ in beside their methods, in sentences for the report: derived from what was trained and
asked, so that nothing is called equal that is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.recipe.asking import Chat, methods_of, wordings_of
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.stages import Stage
from lingraft.translation.wording import TranslationSystem

_CHATS = {"direct": "directly", "tcot": "through the translation chain of thought"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One system of a run, as far as it may differ from another.

    Attributes:
        name: of the system.
        translating: how it is asked for translations.
        chat: how it holds conversations.
        stages: in which it was trained; none for the base, and for a graft that was given.
        vocabulary: whether it has the recipe's extended vocabulary.
        tokens: real tokens of all its trainings.
        steps: optimiser steps of all its trainings.
        given: whether it is a graft that was trained elsewhere.
    """

    name: str
    translating: TranslationSystem
    chat: Chat = "direct"
    stages: tuple[Stage, ...] = ()
    vocabulary: bool = False
    tokens: int = 0
    steps: int = 0
    given: bool = False


def difference_notes(own: Subject, others: Sequence[Subject]) -> list[str]:
    """Return what the systems have in common, and a sentence for each that differs from `own` beside its method.

    Args:
        own: the system that the run is about.
        others: the base among them.
    """
    trained = [one for one in (own, *others) if one.stages]
    notes = []
    if len(trained) > 1:
        blind = [one.name for one in trained if not any(_uses_pairs(stage) for stage in one.stages)]
        same = not any(True for other in trained for _ in _training(own, other))
        seen = f"every system but {_listed(blind)} sees the same pairs" if blind else "every system sees the same pairs"
        notes.append(f"Training: {seen}{' with the same settings' if same else ''}.")
        if len({(one.tokens, one.steps) for one in trained}) > 1:
            took = ", ".join(f"{one.name} {one.tokens:,} tokens in {_counted(one.steps, 'step')}" for one in trained)
            notes.append(
                f"Longer examples are more tokens and, at the same tokens a step, more steps (see Cost): {took}."
            )
    asked = [list(_asking(own, other)) for other in others]
    if others and not any(asked):
        notes.append(
            "Asking: all systems are asked for translations in the same words and with the same stop strings, and "
            f"hold conversations {_CHATS[own.chat]}."
        )
    for other, in_asking in zip(others, asked, strict=True):
        found = [*(_training(own, other) if own.stages and other.stages else ()), *in_asking]
        if own.stages and other.given:
            found.insert(0, "it was trained elsewhere, which may differ in anything")
        if found:
            beside = "beside the training" if not other.stages else "beside the methods"
            notes.append(f"{other.name} differs from {own.name}, {beside}: {'; '.join(found)}.")
    return notes


def _uses_pairs(stage: Stage) -> bool:
    return any(method.consumes == "pairs" for method in methods_of(stage))


def _training(own: Subject, other: Subject) -> Iterator[str]:
    """Yield in which settings the trainings differ, first the other's value and then one's own."""
    for mine, stage in _aligned(own.stages, other.stages):
        if stage is None or mine is None:
            yield f"it lacks the stage {mine.label!r}" if mine else f"it has a stage {stage and stage.label!r} more"
            continue
        place = "" if mine is own.stages[-1] else f"{mine.label}: "
        changes = _changed(mine.train.model_dump(), stage.train.model_dump(), "train.")
        changes += _changed({"kind": mine.tuner.kind, **mine.tuner.params},
                            {"kind": stage.tuner.kind, **stage.tuner.params}, "tuner.")  # fmt: skip
        changes += _changed({"fresh": mine.fresh}, {"fresh": stage.fresh}, "")
        changes += _changed(_objectives(mine), _objectives(stage), "objective ")
        yield from (place + change for change in changes)
    words, known = wordings_of(other.stages), wordings_of(own.stages)
    if words and known and words != known:
        yield f"it is trained on {_counted(len(words), 'wording')} of the request ({_counted(len(known), 'wording')})"
    if other.vocabulary != own.vocabulary:
        yield "it has the base's vocabulary" if own.vocabulary else "it has an extended vocabulary"


def _objectives(stage: Stage) -> dict[str, str]:
    return {one.name: str(one).removeprefix(one.name).strip() for one in objectives_of(stage)}


def _aligned(own: Sequence[Stage], other: Sequence[Stage]) -> Iterator[tuple[Stage | None, Stage | None]]:
    """Yield the stages of two systems side by side: those of one name, and the last ones."""
    left = {stage.label: stage for stage in own}
    for stage in other:
        mine = left.pop(stage.label, None)
        if mine is None and stage is other[-1]:
            mine = left.pop(own[-1].label, None)
        yield mine, stage
    yield from ((mine, None) for mine in left.values())


def _asking(own: Subject, other: Subject) -> Iterator[str]:
    """Yield in what the systems are asked differently."""
    mine, theirs = own.translating, other.translating
    if theirs.instruction != mine.instruction:
        yield f"it is asked for translations by {theirs.instruction!r} ({mine.instruction!r})"
    if theirs.stop != mine.stop:
        yield f"its translations end {_ends(theirs.stop)} ({_ends(mine.stop)})"
    if other.chat != own.chat:
        yield f"it answers conversations {_CHATS[other.chat]} ({_CHATS[own.chat]})"


def _changed(mine: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str) -> list[str]:
    names = dict.fromkeys((*mine, *theirs))
    return [
        f"{prefix}{name} {_value(theirs.get(name))} ({_value(mine.get(name))})"
        for name in names
        if mine.get(name) != theirs.get(name)
    ]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ends(stop: Sequence[str]) -> str:
    return f"at {' or '.join(map(repr, stop))}" if stop else "with the turn"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
