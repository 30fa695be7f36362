"""The languages of a translation: those that are given, else those that a graft was trained for."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.code_languages import NAMES
from lingraft.core.errors import UsageError, setting, suggestion
from lingraft.language.codes import language, other_region, same_language


def chosen_direction(trained: Sequence[tuple[str, str]] | None, source: str, target: str) -> tuple[str, str]:
    """Return the languages of a translation.

    Args:
        trained: (source, target) codes that a graft was trained for; None without a graft.
        source: code of the texts' language; "": not given.
        target: that of their translations; likewise.

    Raises:
        UsageError: an unknown code; or one is not given, and no or several directions leave it open.
    """
    source, target = (language(code) if code else "" for code in (source, target))
    if source and target:
        return source, target
    fits = [
        (one, two)
        for one, two in dict.fromkeys(trained or ())
        if (not source or same_language(one, source)) and (not target or same_language(two, target))
    ]
    if len(fits) != 1:
        both = f"{setting('source')} and {setting('target')}"
        lacking = "without a graft there is" if trained is None else "the graft was trained on no pairs, and so has"
        raise UsageError(
            f"the graft was trained on {_listed(trained)}; say which with {both}"
            if trained
            else f"give {both}: {lacking} no direction to go by"
        )
    return source or fits[0][0], target or fits[0][1]


def program_direction(source: str, target: str) -> tuple[str, str]:
    """Return the programming languages of a program and of its translation.

    Args:
        source: of the program, in any case; "": not given.
        target: of its translation; likewise.

    Raises:
        UsageError: one is not given, is none of the four, or both are the same.
    """
    source, target = source.lower(), target.lower()
    if not (source and target):
        raise UsageError(
            f"give {setting('source')} and {setting('target')}: programs are translated between {', '.join(NAMES)}"
        )
    if unknown := next((one for one in (source, target) if one not in NAMES), ""):
        raise UsageError(f"unknown programming language {unknown!r}{suggestion(unknown, NAMES)}")
    if source == target:
        raise UsageError(f"the program is to be translated from {NAMES[source]} into itself; give two languages")
    return source, target


def untrained_note(trained: Sequence[tuple[str, str]], source: str, target: str) -> str:
    """Return what to know of a graft that was trained for other directions, or other regions, alone; else ""."""
    if not trained or any(
        same_language(one, source)
        and same_language(two, target)
        and not (other_region(one, source) or other_region(two, target))
        for one, two in trained
    ):
        return ""
    return f"this graft was trained on {_listed(trained)}, not on {source}-{target}"


def _listed(trained: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{one}-{two}" for one, two in trained)
