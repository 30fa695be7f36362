"""What is no language in a text, and a translation must keep: variables (`%s`, `{0}`, `${name}`), tags, addresses."""

from __future__ import annotations

import re

VARIABLES = (
    r"\{\{[^{}]*\}\}"  # {{x}}
    r"|\$?\{[^{}\s]*\}"  # {name}, {0}, ${x}
    r"|(?<![0-9A-Za-z_%])%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?[sdiufgexXc@](?![A-Za-z])"  # %s, %1$d, %(name)s
)
"""Regular expression of a variable."""

TAGS = r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>"
"""Regular expression of a tag: `<b>`, `<a href="...">`, `</a>`."""
ADDRESSES = (
    r"(?:https?://|ftp://|www\.)[^\s<>\"'“”«»（）()\[\]{}]+"
    r"|(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+"  # the first part once a word: a long one costs no more
)
"""Regular expression of a web or mail address, in any case."""

_VARIABLE = re.compile(VARIABLES)
_NO_LANGUAGE = re.compile(f"{TAGS}|{ADDRESSES}|{VARIABLES}", re.IGNORECASE)


def is_variable(text: str) -> bool:
    """Say whether a text is one variable and nothing else."""
    return _VARIABLE.fullmatch(text.strip()) is not None


def prose(text: str) -> str:
    """Return a text without tags, addresses and variables, whose letters say nothing of its language."""
    return _NO_LANGUAGE.sub(" ", text)
