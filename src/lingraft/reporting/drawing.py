"""What all plots share: SVG that is inlined in a page, in the page's colours and fonts, and labels beside points.

Colours and fonts are CSS variables of the page (`--series-0`, `--plot-ink`, ...) with fallbacks: one drawing is
readable in light and in dark mode. Text stays text; equal input gives equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SERIES = 6
"""Distinct styles; series 0 is the base. Later systems use styles 1 to 5 again."""

MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES: tuple[Any, ...] = ("-", "--", "-", (0, (5, 1, 1, 1)), ":", "-.")
# Matplotlib knows no CSS variables: each role is drawn in a colour of its own, which is then replaced.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {
    INK: "var(--plot-ink, #16191d)",
    MUTED: "var(--plot-muted, #5b6470)",
    GRID: "var(--plot-grid, #dde1e6)",
    PAPER: "var(--plot-paper, #ffffff)",
}
_FALLBACKS = ("#6b7280", "#b4530a", "#0b6e75", "#6d3fc0", "#b0246b", "#3d7a1c")
SERIES_COLOURS = tuple(f"#0500{index:02x}" for index in range(SERIES))
_VARIABLES |= {SERIES_COLOURS[i]: f"var(--series-{i}, {_FALLBACKS[i]})" for i in range(SERIES)}
_FONT = "var(--plot-font, system-ui, sans-serif)"

# Typed loosely: the literal key type of `rc_context` differs between Matplotlib versions.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lingraft",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,  # but for a new figure, once
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.axisbelow": True,
}


def style_of(series: int) -> int:
    """Return the style, 0 to 5, of the system at this position; only the base has style 0."""
    return 0 if series == 0 else 1 + (series - 1) % (SERIES - 1)


def label_text(text: str, limit: int = 32) -> str:
    """Return `text` on one line, without characters that XML forbids, cut to `limit` characters."""
    clean = re.sub(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the style; a label in a script that Matplotlib's font lacks is only measured with it, never drawn."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def short(value: float, _: int | None = None) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def new_figure(width: int, height: int) -> tuple[Figure, Axes]:
    # 72 units an inch: sizes in points are sizes in the view box.
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)  # measures texts as they are written
    axes = figure.add_subplot()
    axes.tick_params(length=0, pad=5)
    return figure, axes


CROWD = 10
"""Labels of which each is written, come what may."""


def place_labels(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each label beside its point, at the first of four corners that is inside and hits no label and no point.

    Where there are more than `CROWD` of them, one that would lie on another is left out: those that matter come first.
    """
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
        over = any(
            left < x1 and x0 < left + wide and bottom < y1 and y0 < bottom + high
            for x0, y0, x1, y1 in taken[len(labels) :]
        )
        if over and len(labels) > CROWD:
            continue
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


def svg_text(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the figure as an SVG element for inlining: scalable, themed, with title and description."""
    buffer = io.StringIO()
    # Laid out here, once: to save a figure that has a layout, Matplotlib draws it twice.
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)
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
