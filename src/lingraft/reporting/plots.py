"""Plots as SVG text: the gain-versus-retention frontier and the loss curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lingraft.core.figures import number
from lingraft.evaluation.scorecard import Interval
from lingraft.reporting.drawing import (
    CROWD,
    DASHES,
    MARKERS,
    MUTED,
    PAPER,
    SERIES_COLOURS,
    drawing,
    label_text,
    new_figure,
    place_labels,
    short,
    style_of,
    svg_text,
)

MAX_POINTS = 150
"""Longer loss curves are averaged into this many buckets: the file stays small and the line readable."""

LOSS_LABEL = "Loss, nats per token"


@dataclass(frozen=True)
class FrontierPoint:
    """One system: gain in points of the headline metric, retention in percent of the base, 95 % intervals.

    `series` picks the style. `group`: the system of which this is another scale (`scale`) or, without one, another
    seed, or the sweep that it belongs to (`swept`); a line joins them. `dominated`: another system gains and keeps
    more, so this one is dimmed.
    """

    system: str
    gain: float
    retention: float
    gain_ci95: Interval | None = None
    retention_ci95: Interval | None = None
    series: int = 1
    group: str = ""
    scale: float | None = None
    dominated: bool = False
    swept: bool = False


@dataclass(frozen=True)
class LossCurve:
    """The losses of one system over cumulative tokens; the two sequences have one length."""

    system: str
    tokens: Sequence[int]
    losses: Sequence[float]
    series: int = 1


def frontier_svg(
    points: Sequence[FrontierPoint], metric: str = "", *, width: int = 720, height: int = 420, name: str = "frontier"
) -> str:
    """Draw gain (x) against retention (y) with interval bars; the base is at (0, 100).

    Args:
        points: trained systems, in any number; those with a value that is not finite are left out.
        metric: headline metric for the x axis.
        width: of the view box, in CSS pixels.
        height: of the view box, in CSS pixels.
        name: prefix of the element ids; two drawings on one page need different ones.
    """
    shown = [p for p in points if math.isfinite(p.gain) and math.isfinite(p.retention)]
    with drawing():
        figure, axes = new_figure(width, height)
        axes.axhline(100, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for path in _joined(shown):
            _draw_path(axes, path)
        for point in shown:
            _draw_point(axes, point, pale=0.15 if len(shown) > CROWD else 0.35)
        axes.plot([0], [100], marker=MARKERS[0], markersize=9, color=SERIES_COLOURS[0], markeredgecolor=PAPER, zorder=4)
        _limits(axes, shown)
        axes.set_xlabel(label_text(f"Gain over base{f', {metric}' if metric else ''}", 60))
        axes.set_ylabel("Retention, % of base")
        axes.xaxis.set_major_locator(MaxNLocator(6 if width > 500 else 4))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.text(0.985, 0.975, "better ↗", transform=axes.transAxes, ha="right", va="top", color=MUTED, fontsize=11)
        labels = [(0.0, 100.0, "base", SERIES_COLOURS[0])]
        labels += [
            (p.gain, p.retention, label_text(p.system), MUTED if p.dominated else SERIES_COLOURS[style_of(p.series)])
            for p in sorted(shown, key=lambda p: p.dominated)
        ]
        place_labels(axes, labels)
        described = "; ".join(
            f"{p.system}: gain {number(p.gain, signed=True)}, retention {number(p.retention)} %" for p in shown
        )
        return svg_text(
            figure,
            name,
            "Gain against retention",
            f"Base at gain 0, retention 100 %. {described or 'No trained system has both numbers.'}",
        )


def loss_svg(
    curves: Sequence[LossCurve],
    title: str = "Training loss",
    *,
    label: str = LOSS_LABEL,
    width: int = 420,
    height: int = 290,
    name: str = "loss",
) -> str:
    """Draw loss over cumulative tokens, one line a system; curves longer than `MAX_POINTS` are averaged in buckets.

    Args:
        curves: systems, in any number; losses that are not finite leave a gap.
        title: what the losses are of, for the accessible title.
        label: of the vertical axis, where the values are no losses.
        width: of the view box, in CSS pixels.
        height: of the view box, in CSS pixels.
        name: prefix of the element ids; two drawings on one page need different ones.
    """
    # The legend stands above the axes, where no line can lie under it; each further row makes the figure higher.
    longest = max((len(label_text(curve.system)) for curve in curves), default=0)
    columns = max(1, min(len(curves), int((width - 60) / (7.4 * longest + 48))))
    with drawing():
        figure, axes = new_figure(width, height + 18 * (math.ceil(len(curves) / columns) - 1))
        handles = []
        for curve in curves:
            tokens, losses = thinned(curve.tokens, curve.losses)
            if not np.isfinite(losses).any():
                continue
            style = style_of(curve.series)
            axes.plot(tokens, losses, color=SERIES_COLOURS[style], linestyle=DASHES[style], linewidth=1.7)
            handles.append(
                (Line2D([], [], color=SERIES_COLOURS[style], linestyle=DASHES[style]), label_text(curve.system))
            )
        axes.set_xlabel("Tokens seen")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(short))
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        if handles:
            # Placeholders, because a legend ignores or interprets some texts given as labels.
            legend = figure.legend(
                [h for h, _ in handles],
                ["x"] * len(handles),
                loc="outside upper right",
                frameon=False,
                ncols=columns,
            )
            for text, (_, system) in zip(legend.get_texts(), handles, strict=True):
                text.set_text(system)
        else:
            axes.text(0.5, 0.5, "no finite losses", transform=axes.transAxes, ha="center", color=MUTED)
        described = "; ".join(system for _, system in handles) or "no data"
        return svg_text(figure, name, title, f"{label.partition(',')[0]} over tokens seen: {described}.")


def thinned(tokens: Sequence[int], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and losses, each of at most `MAX_POINTS` points: the means of equal buckets of steps."""
    x, y = np.asarray(tokens, dtype=float), np.asarray(losses, dtype=float)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} token counts but {len(y)} losses")
    if len(x) <= MAX_POINTS:
        return x, y
    buckets = np.array_split(np.arange(len(x)), MAX_POINTS)
    return np.array([x[b].mean() for b in buckets]), np.array([y[b].mean() for b in buckets])


def _draw_point(axes: Axes, point: FrontierPoint, pale: float) -> None:
    style = style_of(point.series)
    shade = 0.35 if point.dominated else 1.0
    bar = pale if point.dominated else 1.0
    bars: dict[str, Any] = {"color": SERIES_COLOURS[style], "linewidth": 1.8, "zorder": 3, "alpha": bar}
    bars["solid_capstyle"] = "round"
    if point.gain_ci95:
        axes.plot(point.gain_ci95, [point.retention] * 2, **bars)
    if point.retention_ci95:
        axes.plot([point.gain] * 2, point.retention_ci95, **bars)
    axes.plot(
        [point.gain],
        [point.retention],
        MARKERS[style],
        color=SERIES_COLOURS[style],
        markersize=9,
        markeredgecolor=PAPER,
        alpha=shade,
        zorder=4,
    )


def _joined(points: Sequence[FrontierPoint]) -> list[tuple[FrontierPoint | None, ...]]:
    """Return what a line joins: a graft's scales in order, from the base (None); a system and each of its seeds; the
    systems of a sweep in their order."""
    paths: list[tuple[FrontierPoint | None, ...]] = []
    for own in points:
        others = [p for p in points if p.group == own.system and p is not own]
        scales = sorted((p for p in others if p.scale is not None), key=lambda p: p.scale or 0.0)
        if scales:
            below, above = ([p for p in scales if (p.scale or 0.0) < 1], [p for p in scales if (p.scale or 0.0) >= 1])
            paths.append((None, *below, own, *above))
        paths += [(own, p) for p in others if p.scale is None]
    sweeps = dict.fromkeys(point.group for point in points if point.swept)
    paths += [tuple(p for p in points if p.swept and p.group == sweep) for sweep in sweeps]
    return [path for path in paths if len(path) > 1]


def _draw_path(axes: Axes, path: Sequence[FrontierPoint | None]) -> None:
    series = next(style_of(p.series) for p in path if p)
    axes.plot(
        [p.gain if p else 0.0 for p in path],
        [p.retention if p else 100.0 for p in path],
        color=SERIES_COLOURS[series],
        linewidth=1.3,
        linestyle="-" if path[0] is None or path[0].swept else ":",
        zorder=2,
    )


def _limits(axes: Axes, points: Sequence[FrontierPoint]) -> None:
    """Show the base, all points and their bars, with room for labels."""
    xs = [0.0, *(x for p in points for x in (p.gain, *(p.gain_ci95 or ())))]
    ys = [100.0, *(y for p in points for y in (p.retention, *(p.retention_ci95 or ())))]
    for values, setter, least in ((xs, axes.set_xlim, 1.0), (ys, axes.set_ylim, 5.0)):
        room = max(0.14 * (max(values) - min(values)), 0.2 * least)
        setter(min(values) - room, max(values) + room)
