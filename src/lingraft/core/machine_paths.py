"""Paths of this machine in what is handed on: of each, only its last part stays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

_PART = r"[^\s/\\'\"`|,;<>(){}\[\]]"
_REST = rf"{_PART}+(?:/{_PART}*)*"
_PATH = re.compile(
    "|".join(
        (
            r"(?P<quote>['\"])(?:file:/+|~[\w.-]*/|/(?!/))[^'\"\n]+(?P=quote)",  # it may hold blanks
            rf"\bfile:/+{_REST}",
            rf"(?<![\w/.~])~(?:[A-Za-z_][\w.-]*)?/{_REST}",
            rf"(?<![\w/.~)\]}}*+-])/(?!/){_PART}+(?:/{_PART}*)+",  # two parts or more; no address has this beginning
            r"(?<!\w)[A-Za-z]:\\[^\s'\"`|,;<>(){}\[\]]+",
        )
    )
)
_COMMAND = re.compile(r"[\n\r\t]|\s[-'\"/{~]")
_ALONE = re.compile(rf"/{_PART}+")


def without_paths(text: str, known: Iterable[str] = ()) -> str:
    """Return a text in which of each absolute path only the last part stays.

    Args:
        text: of any kind; addresses of the web and names such as `org/model` are no paths.
        known: paths that may stand in it, with blanks as well, which do not tell where such a path ends.
    """
    if known:
        text = _named(frozenset(known)).sub(lambda found: _last(found[0]), text)
    if _ALONE.fullmatch(text):
        return _last(text)
    return _PATH.sub(_shortened, text)


@lru_cache(maxsize=64)
def _named(known: frozenset[str]) -> re.Pattern[str]:
    """Return what finds some paths, and paths below them."""
    longest = sorted(known, key=lambda path: (-len(path), path))  # one may begin with another
    return re.compile(rf"(?:{'|'.join(map(re.escape, longest))})(?!{_PART})(?:/{_PART}*)*")


def _shortened(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{quote}{_last(found[0].strip(quote) if quote else found[0])}{quote}"


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def values_without_paths(value: Any, known: Iterable[str] = ()) -> Any:
    """Return a JSON-ready value whose texts, keys among them, are as `without_paths` has them."""
    known = tuple(known)
    if isinstance(value, Mapping):
        return {without_paths(str(key), known): values_without_paths(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [values_without_paths(item, known) for item in value]
    return without_paths(value, known) if isinstance(value, str) else value


def paths_in(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON-ready value that are absolute paths of more than one part; no command with one."""
    if isinstance(value, str):
        if os.path.isabs(value) and value.count("/") > 1 and not _COMMAND.search(value):
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from paths_in(item)
