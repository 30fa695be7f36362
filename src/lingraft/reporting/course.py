"""The way of each system through training: gain on the development set against divergence from the base, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from lingraft.core.figures import number
from lingraft.reporting.contents import CoursePoint
from lingraft.reporting.drawing import (
    DASHES,
    MARKERS,
    MUTED,
    PAPER,
    SERIES_COLOURS,
    drawing,
    label_text,
    new_figure,
    place_labels,
    style_of,
    svg_text,
)
from lingraft.reporting.tables import Cell, Group, Names, Table


@dataclass(frozen=True)
class Course:
    """The way of one system; `series` picks the style. Points have both chrF and divergence, in the order of steps.

    `running`: its training goes on, and the last point is where it is.
    """

    system: str
    points: Sequence[CoursePoint]
    series: int = 1
    running: bool = False


def courses(measured: Mapping[str, Sequence[CoursePoint]], names: Names) -> list[Course]:
    """Return the ways that can be drawn: those of which at least two points have both numbers."""
    found = []
    for system, points in measured.items():
        whole = [point for point in points if _known(point.chrf) and _known(point.kl)]
        if len(whole) > 1:
            found.append(Course(system, whole, names.cell(system).series))
    return found


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def course_svg(ways: Sequence[Course], *, width: int = 360, height: int = 320, name: str = "course") -> str:
    """Draw chrF gained since the beginning (x) against divergence from the base (y, growing downwards).

    A line joins the measurements of a system in their order; the larger marker is the one whose weights were kept, or
    where a training is that goes on.

    Args:
        ways: systems, in any number.
        width: of the view box, in CSS pixels.
        height: of the view box, in CSS pixels.
        name: prefix of the element ids; two drawings on one page need different ones.
    """
    with drawing():
        figure, axes = new_figure(width, height)
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        labels, told = [], []
        for way in ways:
            style = style_of(way.series)
            xs = [_gain(way, point) for point in way.points]
            ys = [point.kl or 0.0 for point in way.points]
            colour = SERIES_COLOURS[style]
            axes.plot(xs, ys, color=colour, linestyle=DASHES[style], linewidth=1.5, zorder=2)
            axes.plot(xs, ys, "o", color=colour, markersize=3.6, zorder=3)
            for point, x, y in zip(way.points, xs, ys, strict=True):
                now = way.running and point is way.points[-1]
                if point.kept or now:
                    axes.plot([x], [y], MARKERS[style], color=colour, markersize=10, markeredgecolor=PAPER, zorder=4)
                    place, state = ("now at ", "the last") if now else ("", "kept")
                    labels.append((x, y, label_text(f"{way.system}, {place}step {point.step:,}", 40), colour))
                    told.append(
                        f"{way.system}: step {point.step:,} is {state}, chrF {number(x, signed=True)}, "
                        f"{number(y, 3)} nats per token"
                    )
        every = [(_gain(way, point), point.kl or 0.0) for way in ways for point in way.points]
        left, right = min(x for x, _ in every), max(x for x, _ in every)
        most = max(y for _, y in every) or 1e-3
        room = max(0.16 * (right - left), 0.2)
        axes.set_xlim(min(left, 0.0) - room, max(right, 0.0) + room)
        axes.set_ylim(1.14 * most, -0.14 * most)  # upside down: what is kept is up, as in the frontier
        axes.set_xlabel("chrF gained on the development set")
        axes.set_ylabel("KL from base, nats/token")
        axes.xaxis.set_major_locator(MaxNLocator(6 if width > 500 else 4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.text(0.985, 0.975, "better ↗", transform=axes.transAxes, ha="right", va="top", color=MUTED, fontsize=11)
        place_labels(axes, labels)
        return svg_text(figure, name, "Gain against divergence while training went on", "; ".join(told))


def _gain(way: Course, point: CoursePoint) -> float:
    return (point.chrf or 0.0) - (way.points[0].chrf or 0.0)


def course_table(measured: Mapping[str, Sequence[CoursePoint]], names: Names) -> Table:
    """Every measurement in numbers, the kept ones marked."""
    columns = ["System", "Step", "Loss", "chrF", "KL, nats/token", ""]
    rows = []
    for system, points in measured.items():
        for point in points:
            cells = [
                f"{point.step:,}",
                number(point.loss, 3),
                "–" if point.chrf is None else number(point.chrf, 1),
                "–" if point.kl is None else number(point.kl, 4),
                "kept" if point.kept else "",
            ]
            rows.append([names.cell(system), *map(Cell, cells)])
    return Table("Development set while training went on", columns, [Group(rows)], frozenset(columns[1:5]))
