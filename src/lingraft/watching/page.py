"""A watched run or bench as a page: one HTML file that loads nothing but itself, anew until there is no more to see."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lingraft.core.figures import MISSING, duration
from lingraft.core.printable import printable
from lingraft.reporting.contents import CoursePoint
from lingraft.reporting.course import Course, course_svg
from lingraft.reporting.pages import page_environment, script_hash
from lingraft.reporting.plots import LossCurve, loss_svg
from lingraft.watching.pieces import WatchedText, WatchedTraining
from lingraft.watching.run_folder import moment
from lingraft.watching.states import WatchedBench, WatchedRun
from lingraft.watching.texts import MARKED

_MARKS = {"running": "differs", "done": "met", "finished": "met", "failed": "missed", "stopped": "missed"}
"""States, and the colours of a report that they are shown in."""
_LONGEST = 4000
"""Characters of a text that are shown."""
_STALE_SECONDS = 30


@dataclass(frozen=True)
class _Shown:
    """A text as the page lays it out."""

    head: str
    origin: str
    pieces: Sequence[tuple[str, Markup]]


def render_watch(state: WatchedRun | WatchedBench, every: float) -> str:
    """Return the page: a complete HTML document in UTF-8 that loads nothing from outside.

    Args:
        state: what is shown.
        every: seconds after which it loads itself anew, unless there is nothing more to wait for.
    """
    environment = page_environment()
    bench = isinstance(state, WatchedBench)
    run = state.run if isinstance(state, WatchedBench) else state
    trainings = run.trainings if run else ()
    texts = [text for text in (run.rationale, run.chain, run.example) if text] if run else []
    again, now = 0.0 if state.over else every, time.time()
    script = environment.get_template("watch.js.j2").render(every=f"{again:g}")
    return environment.get_template("watch.html.j2").render(
        state=state,
        run=run,
        rows=state.rows if isinstance(state, WatchedBench) else (),
        facts=_facts(state, now),
        notes=[*state.notes, *(run.notes if run and bench else ())],
        plots=_plots(trainings),
        training=_training_words(trainings),
        texts=[_shown(text) for text in texts],
        marks={name: _MARKS.get(name, "-") for name in ("done", "to come", "not started", "unknown", *_MARKS)},
        time=lambda seconds: MISSING if seconds is None else duration(seconds),
        every=f"{again:g}" if again else "",
        seen=f"{now:.0f}",
        most=f"{_STALE_SECONDS + 5 * every:.0f}",
        script=Markup(script),
        script_hash=script_hash(script),
    )


def _facts(state: WatchedRun | WatchedBench, now: float) -> list[tuple[str, str]]:
    found = [("Folder", printable(state.folder))]
    if state.seconds is not None:
        found.append(("All stages took" if state.status == "finished" else "So far", duration(state.seconds)))
    if state.left:
        found.append(("To go, about", duration(state.left)))
    return [*found, ("As of", moment(now))]


def _current(trainings: Sequence[WatchedTraining]) -> WatchedTraining | None:
    return next((one for one in reversed(trainings) if one.running), trainings[-1] if trainings else None)


def _training_words(trainings: Sequence[WatchedTraining]) -> str:
    current = _current(trainings)
    if current is None:
        return ""
    point = current.points[-1]
    steps = f" of {current.steps:,}" if current.steps else ""
    return (
        f"{printable(current.name)}: step {point.step:,}{steps}, learning rate {point.learning_rate:.2e}, "
        f"{point.tokens:,} tokens read."
    )


def _plots(trainings: Sequence[WatchedTraining]) -> list[tuple[str, Markup]]:
    current = _current(trainings)
    if current is None:
        return []
    tokens = [point.tokens for point in current.points]
    roles = [
        LossCurve(
            role.replace("_", " "),
            [point.tokens for point in current.points if role in point.by_role],
            [point.by_role[role] for point in current.points if role in point.by_role],
            number,
        )
        for number, role in enumerate(current.roles, 1)
    ]
    whole = LossCurve("all", tokens, [point.loss for point in current.points], 0)
    name = printable(current.name, 60)
    rates = LossCurve(current.name, tokens, [point.learning_rate for point in current.points])
    plots = [
        (f"Loss of {name}, by role", loss_svg([whole, *roles], f"Loss of {name}", name="roles")),
        (f"Learning rate of {name}", loss_svg([rates], "Learning rate", label="Learning rate", name="rate")),
    ]
    if len(trainings) > 1:
        curves = [
            LossCurve(one.name, [p.tokens for p in one.points], [p.loss for p in one.points], number)
            for number, one in enumerate(trainings, 1)
        ]
        plots.append(("Loss of all trainings", loss_svg(curves, name="losses")))
    if ways := _ways(trainings):
        plots.insert(0, ("Where it is between gain and divergence", course_svg(ways, name="way")))
    return [(caption, Markup(svg)) for caption, svg in plots]


def _ways(trainings: Sequence[WatchedTraining]) -> list[Course]:
    found = []
    for number, one in enumerate(trainings, 1):
        points = [
            CoursePoint(point.step, point.loss, point.chrf, point.kl, kept=point.step == one.kept)
            for point in one.dev
            if point.chrf is not None and point.kl is not None
        ]
        if len(points) > 1:
            found.append(Course(one.name, points, number, running=one.running))
    return found


def _shown(text: WatchedText) -> _Shown:
    head = {"example": "Training example"}.get(text.title, f"Last {text.title}")
    origin = ", ".join(printable(each, 100) for each in (text.of, text.id) if each)
    return _Shown(head, origin, [(label, _marked(piece)) for label, piece in text.pieces])


def _marked(piece: str) -> Markup:
    """Return a piece of text as HTML, what is supervised in it marked."""
    piece = piece.strip()
    piece = piece if len(piece) <= _LONGEST else f"{piece[: _LONGEST - 1]}…"
    found = Markup()
    for number, stretch in enumerate(piece.split(MARKED[0])):
        marked, _, plain = stretch.partition(MARKED[1]) if number else ("", "", stretch)
        if marked:
            found += Markup("<mark>") + escape(printable(marked, None, lines=True)) + Markup("</mark>")
        found += escape(printable(plain, None, lines=True))
    return found or Markup("(nothing)")
