"""Calls of a function as a model writes them: what is read as one, and how many do not fit the function.

Read are JSON lists of arguments, JSON objects by the names of parameters, a list of either, and calls with Python
literals (`f(1, [2])`): one a line, in a block of code or not, over several lines, and unfinished at the end.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from lingraft.language.code_calls import declared

_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError)
_MARKER = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?")
_REST = re.compile(r"[ \t]*[,;]?[ \t]*(?:(?:#|//)[^\n]*)?(?=\n|\Z)")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACE = re.compile(r"\s*")
_DEEPEST = 20


@dataclass(frozen=True)
class WrittenCalls:
    """`calls`: arguments of each, all parameters in order, as JSON has them, each once; `left_out`: how many did not
    fit the function, or are no values."""

    calls: tuple[list[Any], ...]
    left_out: int = 0


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refused)


def defaults(code: str, name: str) -> dict[str, Any]:
    """Return by name the defaults of a function's parameters, as far as they are values of JSON written out."""
    found: dict[str, Any] = {}
    for _, parameter, default in declared(code, name):
        value = _evaluated(default)
        if (value is not None or default in ("None", "null")) and _plain(value):
            found[parameter] = value
    return found


def read_calls(text: str, name: str, parameters: Sequence[str], left: Mapping[str, Any]) -> WrittenCalls:
    """Return the calls of an answer.

    A list alone in the answer that is written over several lines is a list of calls if each of its items can be one;
    on one line it is one call if it has as many items as there are parameters.

    Args:
        text: the answer, without thoughts.
        name: of the function.
        parameters: their names, in order.
        left: the values of those that can be left out.
    """
    calls: list[list[Any]] = []
    missed = 0
    for value, over_lines in _values(text, name, parameters):
        for call in _calls(value, over_lines, parameters, left):
            if call is None:
                missed += 1
            elif json.dumps(call) not in map(json.dumps, calls):  # 1, 1.0 and true are equal in Python
                calls.append(call)
    return WrittenCalls(tuple(calls), missed)


def _values(text: str, name: str, parameters: Sequence[str]) -> Iterator[tuple[Any, bool]]:
    """Yield what stands where a call may stand, and whether over several lines; None for what cannot be read."""
    place = 0
    while place < len(text):
        begin = _skipped(_MARKER, text, place)
        end = _line_end(text, place)
        if text.startswith(f"{name}(", begin):
            yield _called(text[begin:end], name, parameters), False
        elif text[begin : begin + 1] in ("[", "{"):
            found = list(_row(text, begin))
            if found:
                yield from ((value, "\n" in text[begin:stop]) for value, stop in found)
                end = _line_end(text, found[-1][1])
            elif isinstance(literal := _evaluated(text[begin:end].rstrip(" \t\r,;")), list | dict):
                yield literal, False
            else:
                items, stop = _finished(text, begin)
                yield from ((item, False) for item in items)
                yield None, False
                end = _behind(text, stop)
        place = end + 1


def _row(text: str, place: int) -> Iterator[tuple[Any, int]]:
    """Yield the JSON values from here to the end of a line, and where each ends; none if there is anything else."""
    found = []
    while True:
        try:
            value, place = _DECODER.raw_decode(text, place)
        except _UNREADABLE:
            return
        found.append((value, place))
        if _REST.match(text, place):
            yield from found
            return
        behind = _skipped(_COMMA, text, place)
        if behind == place:
            return
        place = behind


def _finished(text: str, place: int) -> tuple[list[Any], int]:
    """Return the finished items of a list without end, and where the first that is not begins.

    None where something stands behind a whole value, or where the list is the arguments of one call: not all of its
    items can be calls.
    """
    begin = place
    items: list[Any] = []
    while text[begin] == "[":
        place = _skipped(_SPACE, text, place + 1)
        try:
            item, stop = _DECODER.raw_decode(text, place)
        except _UNREADABLE:
            break
        items.append(item)
        place = _skipped(_SPACE, text, stop)
        if text[place : place + 1] != ",":
            break
    whole = text[place : place + 1] == "]" or not all(isinstance(one, list | dict) for one in items)
    return ([], begin) if whole else (items, place)


def _skipped(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _behind(text: str, place: int) -> int:
    """Return the end of the last line that belongs to what begins here: those below it are indented more."""
    begin = text.rfind("\n", 0, place) + 1
    indent = len(text[begin:place]) - len(text[begin:place].lstrip())
    end = _line_end(text, place)
    while end < len(text):
        line = text[end + 1 : _line_end(text, end + 1)]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        end = _line_end(text, end + 1)
    return end


def _evaluated(text: str) -> Any:
    """Return the value that is written, in JSON or as a Python literal; None where it is neither."""
    try:
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    except _UNREADABLE:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in what the model wrote
            return ast.literal_eval(text)
    except _UNREADABLE:
        return None


def _called(line: str, name: str, parameters: Sequence[str]) -> Any:
    """Return the arguments of a call with Python literals: a list, or an object if some are named; None if none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call = ast.parse(line.strip().rstrip(" ,;"), mode="eval").body
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name):
                return None
            given = [ast.literal_eval(one) for one in call.args]
            named = {one.arg or "": ast.literal_eval(one.value) for one in call.keywords}
    except _UNREADABLE:
        return None
    if not named:
        return given
    if len(given) > len(parameters) or set(named) - set(parameters[len(given) :]):
        return None
    return {**dict(zip(parameters, given, strict=False)), **named}


def _calls(
    value: Any, over_lines: bool, parameters: Sequence[str], left: Mapping[str, Any]
) -> Sequence[list[Any] | None]:
    """Return the calls that a value stands for, None for each that does not fit."""
    whole = _bound(value, parameters, left)
    if not (isinstance(value, list) and value and all(isinstance(one, list | dict) for one in value)):
        return [whole]
    within = [_bound(one, parameters, left) for one in value]
    if any(isinstance(one, dict) and set(one) & set(parameters) for one in value):
        return within
    if whole is None or (over_lines and None not in within):
        return within
    return [whole]


def _bound(value: Any, parameters: Sequence[str], left: Mapping[str, Any]) -> list[Any] | None:
    """Return all arguments in order, None where the value does not fit the parameters.

    What an object has beside all parameters (a result that the model expects) does not count.
    """
    if not _plain(value):
        return None
    if isinstance(value, list):
        rest = parameters[len(value) :]
        fits = len(value) <= len(parameters) and all(name in left for name in rest)
        return [*value, *(left[name] for name in rest)] if fits else None
    if not isinstance(value, dict) or not parameters:
        return None
    absent = [name for name in parameters if name not in value]
    if any(name not in left for name in absent) or (absent and set(value) - set(parameters)) or not value:
        return None
    return [value[name] if name in value else left[name] for name in parameters]


def _plain(value: Any, depth: int = 0) -> bool:
    """Say whether a value is one that JSON and all the languages have."""
    if isinstance(value, list | dict):
        items = value if isinstance(value, list) else value.values()
        keys = () if isinstance(value, list) else value
        whole = all(isinstance(key, str) for key in keys) and all(_plain(one, depth + 1) for one in items)
        return depth < _DEEPEST and whole
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, str)
