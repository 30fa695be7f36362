"""Plots as SVG text: the gain-versus-retention frontier and the loss curves.

The SVG is inlined in the report, so colours and fonts are CSS variables of the page (`--series-0`, `--plot-ink`, ...)
with fallbacks: one drawing is readable in light and in dark mode. Text stays text; equal input gives equal bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lingraft.core.figures import number
from lingraft.evaluation.scorecard import Interval

SERIES = 6
"""Distinct styles; series 0 is the base. Later systems use styles 1 to 5 again."""

MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES: tuple[Any, ...] = ("-", "--", "-", (0, (5, 1, 1, 1)), ":", "-.")
MAX_POINTS = 150
"""Longer loss curves are averaged into this many buckets: the file stays small and the line readable."""

LOSS_LABEL = "Loss, nats per token"

# Matplotlib knows no CSS variables: each role is drawn in a colour of its own, which is then replaced.
_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {
    _INK: "var(--plot-ink, #16191d)",
    _MUTED: "var(--plot-muted, #5b6470)",
    _GRID: "var(--plot-grid, #dde1e6)",
    _PAPER: "var(--plot-paper, #ffffff)",
}
_FALLBACKS = ("#6b7280", "#b4530a", "#0b6e75", "#6d3fc0", "#b0246b", "#3d7a1c")
_SERIES = tuple(f"#0500{index:02x}" for index in range(SERIES))
_VARIABLES |= {_SERIES[i]: f"var(--series-{i}, {_FALLBACKS[i]})" for i in range(SERIES)}
_FONT = "var(--plot-font, system-ui, sans-serif)"

# Typed loosely: the literal key type of `rc_context` differs between Matplotlib versions.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lingraft",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class FrontierPoint:
    """One system: gain in points of the headline metric, retention in percent of the base, 95 % intervals.

    `series` picks the style. `group`: the system of which this is another scale (`scale`) or, without one, another
    seed; a line joins them. `dominated`: another system gains and keeps more, so this one is dimmed.
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


@dataclass(frozen=True)
class LossCurve:
    """The losses of one system over cumulative tokens; the two sequences have one length."""

    system: str
    tokens: Sequence[int]
    losses: Sequence[float]
    series: int = 1


def style_of(series: int) -> int:
    """Return the style, 0 to 5, of the system at this position; only the base has style 0."""
    return 0 if series == 0 else 1 + (series - 1) % (SERIES - 1)


def label_text(text: str, limit: int = 32) -> str:
    """Return `text` on one line, without characters that XML forbids, cut to `limit` characters."""
    clean = re.sub(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


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
    with _drawing():
        figure, axes = _figure(width, height)
        axes.axhline(100, color=_MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.axvline(0, color=_MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for path in _joined(shown):
            _draw_path(axes, path)
        for point in shown:
            _draw_point(axes, point)
        axes.plot([0], [100], marker=MARKERS[0], markersize=9, color=_SERIES[0], markeredgecolor=_PAPER, zorder=4)
        _limits(axes, shown)
        axes.set_xlabel(label_text(f"Gain over base{f', {metric}' if metric else ''}", 60))
        axes.set_ylabel("Retention, % of base")
        axes.xaxis.set_major_locator(MaxNLocator(6 if width > 500 else 4))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.text(0.985, 0.975, "better ↗", transform=axes.transAxes, ha="right", va="top", color=_MUTED, fontsize=11)
        labels = [(0.0, 100.0, "base", _SERIES[0])]
        labels += [
            (p.gain, p.retention, label_text(p.system), _MUTED if p.dominated else _SERIES[style_of(p.series)])
            for p in shown
        ]
        _place_labels(axes, labels)
        described = "; ".join(
            f"{p.system}: gain {number(p.gain, signed=True)}, retention {number(p.retention)} %" for p in shown
        )
        return _svg(
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
    with _drawing():
        figure, axes = _figure(width, height + 18 * (math.ceil(len(curves) / columns) - 1))
        handles = []
        for curve in curves:
            tokens, losses = thinned(curve.tokens, curve.losses)
            if not np.isfinite(losses).any():
                continue
            style = style_of(curve.series)
            axes.plot(tokens, losses, color=_SERIES[style], linestyle=DASHES[style], linewidth=1.7)
            handles.append((Line2D([], [], color=_SERIES[style], linestyle=DASHES[style]), label_text(curve.system)))
        axes.set_xlabel("Tokens seen")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
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
            axes.text(0.5, 0.5, "no finite losses", transform=axes.transAxes, ha="center", color=_MUTED)
        described = "; ".join(system for _, system in handles) or "no data"
        return _svg(figure, name, title, f"{label.partition(',')[0]} over tokens seen: {described}.")


def thinned(tokens: Sequence[int], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and losses, each of at most `MAX_POINTS` points: the means of equal buckets of steps."""
    x, y = np.asarray(tokens, dtype=float), np.asarray(losses, dtype=float)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} token counts but {len(y)} losses")
    if len(x) <= MAX_POINTS:
        return x, y
    buckets = np.array_split(np.arange(len(x)), MAX_POINTS)
    return np.array([x[b].mean() for b in buckets]), np.array([y[b].mean() for b in buckets])


@contextmanager
def _drawing() -> Iterator[None]:
    """Apply the style; a label in a script that Matplotlib's font lacks is only measured with it, never drawn."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _short(value: float, _: int | None = None) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _figure(width: int, height: int) -> tuple[Figure, Axes]:
    # 72 units an inch: sizes in points are sizes in the view box.
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(length=0, pad=5)
    return figure, axes


def _draw_point(axes: Axes, point: FrontierPoint) -> None:
    style = style_of(point.series)
    shade = 0.35 if point.dominated else 1.0
    bars: dict[str, Any] = {"color": _SERIES[style], "linewidth": 1.8, "zorder": 3, "alpha": shade}
    bars["solid_capstyle"] = "round"
    if point.gain_ci95:
        axes.plot(point.gain_ci95, [point.retention] * 2, **bars)
    if point.retention_ci95:
        axes.plot([point.gain] * 2, point.retention_ci95, **bars)
    axes.plot(
        [point.gain],
        [point.retention],
        MARKERS[style],
        color=_SERIES[style],
        markersize=9,
        markeredgecolor=_PAPER,
        alpha=shade,
        zorder=4,
    )


def _joined(points: Sequence[FrontierPoint]) -> list[tuple[FrontierPoint | None, ...]]:
    """Return what a line joins: a graft's scales in order, from the base (None); a system and each of its seeds."""
    paths: list[tuple[FrontierPoint | None, ...]] = []
    for own in points:
        others = [p for p in points if p.group == own.system and p is not own]
        scales = sorted((p for p in others if p.scale is not None), key=lambda p: p.scale or 0.0)
        if scales:
            below, above = ([p for p in scales if (p.scale or 0.0) < 1], [p for p in scales if (p.scale or 0.0) >= 1])
            paths.append((None, *below, own, *above))
        paths += [(own, p) for p in others if p.scale is None]
    return paths


def _draw_path(axes: Axes, path: Sequence[FrontierPoint | None]) -> None:
    series = next(style_of(p.series) for p in path if p)
    axes.plot(
        [p.gain if p else 0.0 for p in path],
        [p.retention if p else 100.0 for p in path],
        color=_SERIES[series],
        linewidth=1.3,
        linestyle="-" if path[0] is None else ":",
        zorder=2,
    )


def _limits(axes: Axes, points: Sequence[FrontierPoint]) -> None:
    """Show the base, all points and their bars, with room for labels."""
    xs = [0.0, *(x for p in points for x in (p.gain, *(p.gain_ci95 or ())))]
    ys = [100.0, *(y for p in points for y in (p.retention, *(p.retention_ci95 or ())))]
    for values, setter, least in ((xs, axes.set_xlim, 1.0), (ys, axes.set_ylim, 5.0)):
        room = max(0.14 * (max(values) - min(values)), 0.2 * least)
        setter(min(values) - room, max(values) + room)


def _place_labels(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each label beside its point, at the first of four corners that is inside and hits no label and no point."""
    figure = axes.figure
    figure.canvas.draw()  # settles the layout, so that data coordinates are final
    frame = axes.get_window_extent()
    unit = figure.dpi / 72
    places = [axes.transData.transform((x, y)) for x, y, _, _ in labels]
    mark = 6 * unit
    taken = [(px - mark, py - mark, px + mark, py + mark) for px, py in places]
    for (x, y, text, colour), (px, py) in zip(labels, places, strict=True):
        wide, high, off = 7.4 * unit * len(text), 15 * unit, 9 * unit
        corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        boxes = [
            (px + (off if dx > 0 else -off - wide), py + (off / 2 if dy > 0 else -off / 2 - high)) for dx, dy in corners
        ]

        def conflicts(corner: tuple[float, float], wide: float = wide, high: float = high) -> float:
            left, bottom = corner
            hits = sum(
                left < x1 and x0 < left + wide and bottom < y1 and y0 < bottom + high for x0, y0, x1, y1 in taken
            )
            outside = left < frame.x0 or left + wide > frame.x1 or bottom < frame.y0 or bottom + high > frame.y1
            return hits + 2 * outside

        best = min(range(4), key=lambda i: conflicts(boxes[i]))
        left, bottom = boxes[best]
        taken.append((left, bottom, left + wide, bottom + high))
        dx, dy = corners[best]
        axes.annotate(
            text,
            (x, y),
            xytext=(9 * dx, 5 * dy),
            textcoords="offset points",
            ha="left" if dx > 0 else "right",
            va="bottom" if dy > 0 else "top",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
            zorder=5,
        )


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the figure as an SVG element for inlining: scalable, themed, with title and description."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # The style sheet inside would apply to the whole page; its one rule goes to the root instead.
            if _local(child.tag) in {"style", "metadata"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(_local(key), value, name) for key, value in element.attrib.items()}
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.attrib["viewBox"],
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        node = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        node.text = label_text(text, 2000)
        root.insert(position, node)
    return ElementTree.tostring(root, encoding="unicode")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-")
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}", lambda match: _VARIABLES.get(match[0], match[0]), value)
        value = re.sub(r"'DejaVu Sans'(, [^;]*)?", _FONT, value)
    return value
