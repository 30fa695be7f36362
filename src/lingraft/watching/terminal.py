"""A watched run or bench in a terminal, or as plain text, in the width that there is."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from lingraft.core.figures import duration, number
from lingraft.core.printable import printable
from lingraft.watching.drawings import COLOURS, frontier, spark
from lingraft.watching.pieces import Filtered, Status, WatchedPart, WatchedText, WatchedTraining
from lingraft.watching.texts import MARKED

Block = list[Text | Padding]
"""Lines that belong together."""
WIDTH = 80
"""Of plain text, in characters."""
_MARKS = {"done": ("✓", "green"), "running": ("▶", "bold yellow"), "to come": ("·", "dim")}
_STATUS = {"running": "green", "finished": "green", "failed": "red", "stopped": "red"}
_DONE, _TO_COME = 4, 8
"""Parts of a kind that are shown one by one; of more, the others are counted."""
_TEXT_LINES = 4
_FILTERED = 4
_PLOT_LINES = 7
_PLACE = 40


def text_of(blocks: Sequence[Block], width: int = WIDTH) -> str:
    """Return blocks as plain text, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, force_jupyter=False)
    console.print(Group(*fitting(blocks, width)))
    file: io.StringIO = console.file  # type: ignore[assignment]
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def fitting(blocks: Sequence[Block], width: int, height: int | None = None) -> Block:
    """Return the lines of the first blocks that have room, with an empty line between two.

    Args:
        blocks: most important first; the first is always shown.
        width: of the terminal, in characters.
        height: in lines; None: as much as there is.
    """
    found: Block = []
    left = height
    for number_, block in enumerate(blocks):
        needed = sum(_height(one, width) for one in block) + bool(number_)
        if left is not None:
            if number_ and needed > left:
                continue
            left -= needed
        found += [Text(""), *block] if number_ else block
    return found


def _height(one: Text | Padding, width: int) -> int:
    if isinstance(one, Padding):
        return _TEXT_LINES
    return max(1, -(-cell_len(one.plain) // width))


def title(name: str, folder: Path) -> Text:
    """Return the line that says what is watched."""
    return Text.assemble((printable(name, WIDTH), "bold"), "  ", (printable(folder), "dim"))


def standing(status: Status, said: str, seconds: float | None, left: float | None) -> list[Text]:
    """Return lines on whether a process works, since when, and how long it still does."""
    lines = [Text(f"{printable(said, 1000)}.", _STATUS.get(status, ""))]
    if status in ("running", "unknown") and seconds is not None:
        about = f", about {duration(left)} to go" if left else ""
        lines.append(Text(f"{duration(seconds)} so far{about}."))
    elif status == "finished" and seconds:
        lines.append(Text(f"Its stages took {duration(seconds)}."))
    return lines


def plain(lines: Sequence[str], style: str = "") -> Block:
    """Return lines as they are."""
    return [Text(printable(line), style) for line in lines]


def parts(them: Sequence[WatchedPart], width: int) -> Block:
    """Return a line for each part; of very many, those far from what goes on are counted."""
    return list(_parts(them, width)) if them else []


def _end(text: str) -> str:
    """Return the end of a path, where it says most."""
    return text if len(text) <= _PLACE else f"…{text[1 - _PLACE :]}"


def _cut(text: str, room: int) -> str:
    """Return a text in so many characters of a terminal."""
    return text if cell_len(text) <= room else set_cell_size(text, room - 1).rstrip() + "…"


def training(them: Sequence[WatchedTraining], width: int) -> Block:
    """Return the losses of the training that goes on, or of the last one."""
    current = next((one for one in reversed(them) if one.running), them[-1] if them else None)
    return [] if current is None else list(_training(current, width))


def way(them: Sequence[WatchedTraining], width: int) -> Block:
    """Return a plot of what the development set says of all trainings."""
    plot = frontier(them, min(width, 72), _PLOT_LINES)
    return (
        [Text("Development set: chrF gained to the right, divergence from the base down", "bold"), *plot]
        if plot
        else []
    )


def _parts(parts: Sequence[WatchedPart], width: int) -> Iterator[Text]:
    done = [part for part in parts if part.state == "done"]
    coming = [part for part in parts if part.state == "to come"]
    name = min(28, max(len(part.title) for part in parts))
    if len(done) > _DONE + 1:
        yield _counted("✓", done[:-_DONE], "done in", sum(part.seconds or 0.0 for part in done[:-_DONE]))
        done = done[-_DONE:]
    hidden = coming[_TO_COME:] if len(coming) > _TO_COME + 1 else []
    for part in parts:
        if part in done or part.state == "running" or (part.state == "to come" and part not in hidden):
            yield _part(part, name, width)
    if hidden:
        yield _counted("·", hidden, "to come, about", sum(part.left or 0.0 for part in hidden))


def _counted(mark: str, parts: Sequence[WatchedPart], said: str, seconds: float) -> Text:
    return Text(f"{mark} {len(parts)} more {said} {duration(seconds)}", "dim")


def _part(part: WatchedPart, name: int, width: int) -> Text:
    mark, style = _MARKS[part.state]
    title = set_cell_size(printable(part.title, None), name)
    taken = duration(part.seconds) if part.seconds is not None and part.state != "to come" else ""
    left = f"~{duration(part.left)}" if part.left else ""
    line = Text.assemble((f"{mark} ", style), (title, "bold" if part.state == "running" else ""), f" {taken:>7}")
    line.append(f" {left:>8}" if part.state != "done" else " " * 9, "dim")
    room = width - cell_len(line.plain) - 2
    detail = printable(part.detail, None)
    if detail and room > 8:
        line.append(
            "  " + (detail if cell_len(detail) <= room else set_cell_size(detail, room - 1).rstrip() + "…"), "dim"
        )
    return line


def _training(one: WatchedTraining, width: int) -> Iterator[Text]:
    point = one.points[-1]
    steps = f" of {one.steps:,}" if one.steps else ""
    rate = f"learning rate {point.learning_rate:.2e}"
    yield Text.assemble((f"Training {printable(one.name, 40)}", "bold"), f": step {point.step:,}{steps}, {rate}")
    rows = [("loss", [each.loss for each in one.points])]
    rows += [
        (role.replace("_", " "), [each.by_role.get(role, float("nan")) for each in one.points]) for role in one.roles
    ]
    label = max(len(printable(name, 20)) for name, _ in rows)
    for number_, (name, values) in enumerate(rows):
        last = next((value for value in reversed(values) if not math.isnan(value)), None)
        head = f"  {printable(name, 20):{label}} {number(last, 3):>7} "
        yield Text.assemble(head, (spark(values, width - cell_len(head) - 1), COLOURS[number_ % len(COLOURS)]))
    rates = [each.learning_rate for each in one.points]
    head = f"  {'rate':{label}} {'':>7} "
    if len(set(rates)) > 1:
        yield Text.assemble(head, (spark(rates, width - cell_len(head) - 1), "dim"))


def written(text: WatchedText) -> Block:
    """Return the beginning of a text that a model wrote."""
    head = {"example": "Training example"}.get(text.title, f"Last {text.title}")
    origin = ", ".join(printable(each, 60) for each in (text.of, text.id) if each)
    found: Block = [Text.assemble((head, "bold"), f" ({origin})")]
    for label, piece in text.pieces:
        shown = Text(f"{label}: " if label else "", "bold")
        shown.append_text(_marked(piece))
        found.append(Padding(shown, (0, 0, 0, 2)))
    return found


def _marked(piece: str) -> Text:
    """Return a piece of text on few lines, supervised text in another style."""
    most = 240
    words = " ".join(piece.split()) or "(nothing)"
    words = words if len(words) <= most else words[: most - 1] + "…"
    found, style = Text(), ""
    for char in words:
        if char in MARKED:
            style = "green" if char == MARKED[0] else ""
        else:
            found.append(printable(char, None), style)
    return found


def filtered(rows: Sequence[Filtered], width: int) -> Block:
    """Return how many rows are left out, and the commonest reasons."""
    return list(_filtered(rows, width)) if rows else []


def _filtered(rows: Sequence[Filtered], width: int) -> Iterator[Text]:
    total = sum(one.rows for one in rows)
    yield Text.assemble(("Rows filtered so far", "bold"), f": {total:,}")
    ordered = sorted(rows, key=lambda one: -one.rows)
    for one in ordered[:_FILTERED]:
        line = f"  {one.rows:>8,}  {printable(one.reason, 40)}  ({_end(printable(one.place, None))})"
        yield Text(_cut(line, width))
    if len(ordered) > _FILTERED:
        yield Text(f"  {sum(one.rows for one in ordered[_FILTERED:]):>8,}  for {len(ordered) - _FILTERED} more reasons")
