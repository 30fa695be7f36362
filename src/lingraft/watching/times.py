"""How long the parts of a run have taken and will take: what was reckoned, corrected by what others have taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lingraft.store.progress_file import PartNote, StageNote, TaskNote
from lingraft.watching.pieces import WatchedPart

_LEAST_SECONDS = 5.0
"""Of finished parts together, from which they say how far off the estimates are."""
_LEAST_SHARE = 0.1
"""Of a task, from which what it has taken says what it will take."""
_ONE_TASK = ("train", "answer", "decode")
"""Kinds of parts that are nearly one task."""


def corrections(taken: Sequence[tuple[PartNote, float]]) -> dict[str, float]:
    """Return by how much the estimates of each kind of part are off; "" is that of all kinds that compute.

    Args:
        taken: parts, and the seconds that they took, or will have taken.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for part, seconds in taken:
        if part.estimate and not part.reused:  # where nothing had to be made, nothing is learnt of it
            for kind in (part.kind, *([""] if part.kind in (*_ONE_TASK, "examples", "row") else [])):
                pairs.setdefault(kind, []).append((seconds, part.estimate))
    sums = {kind: (sum(each for each, _ in known), sum(each for _, each in known)) for kind, known in pairs.items()}
    return {kind: seconds / estimate for kind, (seconds, estimate) in sums.items() if seconds >= _LEAST_SECONDS}


def watched_parts(
    parts: Sequence[PartNote], stages: Sequence[StageNote], task: TaskNote | None, number: int, now: float
) -> list[WatchedPart]:
    """Return the parts with what they have taken and about what they will.

    Args:
        parts: of the run.
        stages: artefacts so far.
        task: innermost work under way.
        number: of the part that goes on, from 1; 0: none does.
        now: in seconds since 1970.
    """
    taken = [(part, part.seconds) for part in parts if part.seconds is not None]
    running, factors = None, corrections(taken)
    if 0 < number <= len(parts) and parts[number - 1].seconds is None:
        part = parts[number - 1]
        so_far = max(0.0, now - part.began) if part.began is not None else 0.0
        running = _running(part, _reckoned(part, factors), stages, task, number, so_far)
        if running.left is not None and (running.share or 0) >= _LEAST_SHARE:
            factors = corrections([*taken, (part, so_far + running.left)])
    found = []
    for place, part in enumerate(parts, 1):
        if part.seconds is not None:
            detail = "made before" if part.reused else ""
            found.append(WatchedPart(title=part.title, state="done", seconds=part.seconds, detail=detail, share=1.0))
        elif place == number and running is not None:
            found.append(running)
        elif part.kind == "row" and part.began is not None:  # several may go on at once
            found.append(_running(part, _reckoned(part, factors), (), None, 0, max(0.0, now - part.began)))
        else:
            found.append(WatchedPart(title=part.title, state="to come", left=_reckoned(part, factors)))
    return found


def _reckoned(part: PartNote, factors: Mapping[str, float]) -> float | None:
    return None if part.estimate is None else part.estimate * factors.get(part.kind, factors.get("", 1.0))


def _running(
    part: PartNote,
    reckoned: float | None,
    stages: Sequence[StageNote],
    task: TaskNote | None,
    place: int,
    so_far: float,
) -> WatchedPart:
    left = None if reckoned is None else max(0.0, reckoned - so_far)
    share = None
    if task is not None and task.total > 0:
        share = min(1.0, max(0.0, task.done / task.total))
        if share >= _LEAST_SHARE:
            of_task = task.seconds * (1 - share) / share
            left = of_task if part.kind in _ONE_TASK else max(left or 0.0, of_task)
    detail = detail_of(stages, task, place)
    return WatchedPart(title=part.title, state="running", seconds=so_far, left=left, detail=detail, share=share)


def detail_of(stages: Sequence[StageNote], task: TaskNote | None, place: int) -> str:
    """Return what goes on, in words: the artefact that is built, and how much of it is done."""
    building = [one.folder.rpartition("-")[0] for one in stages if one.part == place and not one.done]
    what = building[-1] if building else ""
    if task is None:
        return what
    counted = f"{task.done:,}/{task.total:,}" if task.total else f"{task.done:,}" if task.done else ""
    title = "" if task.title == what or task.title.startswith("Trying ") else task.title
    return ", ".join(text for text in (what, title, counted, task.detail) if text)


def total_left(parts: Sequence[WatchedPart]) -> float | None:
    """Return about how many seconds all parts together still take; None where one of them is not known."""
    left = [part.left for part in parts if part.state != "done"]
    return None if any(each is None for each in left) else sum(each or 0.0 for each in left)
