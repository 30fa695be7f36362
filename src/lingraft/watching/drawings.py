"""Losses and the frontier in the characters of a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from lingraft.core.figures import number
from lingraft.core.printable import printable
from lingraft.watching.pieces import WatchedTraining

BARS = "▁▂▃▄▅▆▇█"
COLOURS = ("yellow", "cyan", "magenta", "red", "green")
"""Of systems, in their order."""
_WAY, _NOW, _KEPT = "·", "●", "◆"


def spark(values: Sequence[float], width: int) -> str:
    """Return values as bars of at most `width` characters, the means of equal stretches; a gap where none is finite."""
    if not values:
        return ""
    count = min(width, len(values))
    stretches = [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]
    means = [_mean(each) for each in stretches]
    known = [value for value in means if value is not None]
    if not known:
        return " " * count
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if value is None else BARS[round((value - low) * scale)] for value in means)


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def frontier(trainings: Sequence[WatchedTraining], width: int, height: int) -> list[Text]:
    """Return lines of a plot: chrF gained on the development set to the right, divergence from the base downwards.

    Points stand on the way of each training; the larger one is where it is now, or what was kept of it.

    Args:
        trainings: those without both measures are left out.
        width: of the lines, in characters.
        height: of the plot, in lines.
    """
    ways = [(series, training, points) for series, training in enumerate(trainings) if (points := _points(training))]
    if not any(len(points) > 1 for _, _, points in ways):
        return []
    xs = [x for _, _, points in ways for x, _, _ in points]
    most = max([y for _, _, points in ways for _, y, _ in points] + [1e-9])
    left, right = min(xs), max(xs)
    right = right if right > left else left + 1.0
    margin = max(cell_len(number(0, 3)), cell_len(number(most, 3))) + 1
    wide = max(8, width - margin - 1)
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    names = []
    for series, training, points in ways:
        colour = COLOURS[series % len(COLOURS)]
        places = [
            (round((x - left) / (right - left) * (wide - 1)), round(y / most * (height - 1))) for x, y, _ in points
        ]
        for place in places:
            cells.setdefault(place, (_WAY, colour))
        shown = next((i for i, (_, _, step) in enumerate(points) if step == training.kept), len(points) - 1)
        cells[places[shown]] = (_NOW if training.running else _KEPT, colour)
        x, y, step = points[shown]
        said = "now at" if training.running else "kept:" if training.kept is not None else "last:"
        names.append(
            Text.assemble(
                " " * margin,
                (f"{_NOW if training.running else _KEPT} {printable(training.name, 30)}", colour),
                f" {said} step {step:,}, chrF {number(x, signed=True)}, KL {number(y, 3)} nats/token",
            )
        )
    lines = []
    for row in range(height):
        value = number(most * row / (height - 1), 3) if row in (0, height - 1) else ""
        line = Text(value.rjust(margin - 1) + " │")
        for column in range(wide):
            char, colour = cells.get((column, row), (" ", ""))
            line.append(char, colour)
        lines.append(line)
    lines.append(Text(" " * margin + "└" + "─" * wide))
    ends = (number(left, signed=True), number(right, signed=True))
    middle = "chrF gained".center(max(0, wide - cell_len(ends[0]) - cell_len(ends[1])))
    lines.append(Text(set_cell_size(f"{' ' * margin} {ends[0]}{middle}{ends[1]}", width)))
    return [*lines, *names]


def _points(training: WatchedTraining) -> list[tuple[float, float, int]]:
    """Return chrF gained since the first measurement, divergence, and step of those that have both."""
    found = [
        (one.chrf, one.kl, one.step)
        for one in training.dev
        if one.chrf is not None and one.kl is not None and math.isfinite(one.chrf) and math.isfinite(one.kl)
    ]
    return [(chrf - found[0][0], kl, step) for chrf, kl, step in found]
