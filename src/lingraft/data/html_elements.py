"""Elements of HTML as whatever translates pages takes them: what stands within a sentence, and what is no prose."""

from __future__ import annotations

# fmt: off
PHRASING = frozenset((
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i", "ins", "label",
    "mark", "q", "rb", "rp", "rt", "ruby", "s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u",
))
"""Elements within a sentence that hold a part of it; an element that is in none of these sets ends it."""

WORDS = frozenset(("code", "kbd", "math", "samp", "svg", "var"))
"""Elements that are no prose, and stand in a sentence as a word."""

KEPT = WORDS | frozenset((
    "iframe", "noembed", "object", "pre", "script", "style", "template", "textarea",
))
"""Elements whose content is no prose: they are copied as a whole."""

VOID = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
))
"""Elements without an end tag."""

ALONE = frozenset(("img", "input", "wbr"))
"""Those of them that stand within a sentence. A `br` does where a text is short, and ends a line of a page."""
# fmt: on
