"""Variables in texts of programs, which a translation must keep: `%s`, `{0}`, `${name}`."""

from __future__ import annotations

import re

VARIABLES = (
    r"\{\{[^{}]*\}\}"  # {{x}}
    r"|\$?\{[^{}\s]*\}"  # {name}, {0}, ${x}
    r"|(?<![\w%])%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?[sdiufgexXc@](?![A-Za-z])"  # %s, %1$d, %(name)s
)
"""Regular expression of a variable."""

_VARIABLE = re.compile(VARIABLES)


def is_variable(text: str) -> bool:
    """Say whether a text is one variable and nothing else."""
    return _VARIABLE.fullmatch(text.strip()) is not None
