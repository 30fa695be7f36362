"""Rendered examples for the terminal."""

from __future__ import annotations

from rich.text import Text

from lingraft.chat import Renderer
from lingraft.rendered import Rendered

VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""Characters that a terminal would obey, with the symbols that stand for them."""


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
        "english_query": "cyan",
        "english_reply": "yellow",
        "native_reply": "bold green",
    }
    out = Text()
    for text, role, weight in renderer.pieces(rendered):
        out.append(text.translate(VISIBLE), style=colours.get(role, "blue") if weight > 0 else "dim")
    return out
