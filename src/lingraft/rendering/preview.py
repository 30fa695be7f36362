"""Rendered examples for the terminal."""

from __future__ import annotations

from rich.text import Text

from lingraft.core.printable import printable
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered


def preview(renderer: Renderer, rendered: Rendered) -> Text:
    """Return a rendered example for the terminal: supervised text in colour by role, the rest dim.

    Control characters of the data are shown as symbols, so that a row cannot send commands to the terminal.
    """
    colours = {
        "translation": "bold green",
        "separator": "bold magenta",
        "marker": "bold magenta",
        "rationale": "cyan",
        "reply": "yellow",
        "given_reply": "yellow",
        "english_query": "cyan",
        "english_reply": "yellow",
        "native_reply": "bold green",
    }
    out = Text()
    for text, role, weight in renderer.pieces(rendered):
        out.append(printable(text, None, lines=True), style=colours.get(role, "blue") if weight > 0 else "dim")
    return out
