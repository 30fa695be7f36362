"""As much of Go's text/template as Ollama's templates of ours use, with the variables that Ollama gives."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from lingraft.data.records import Message

_ACTION = re.compile(r"\{\{ (.*?) \}\}")


def rendered(template: str, messages: Sequence[Message]) -> str:
    """Return what Ollama makes of a conversation: system messages are joined, and part of the messages as well."""
    system = "\n\n".join(one.content for one in messages if one.role == "system")
    return _Run(template, {"System": system, "Messages": list(messages)}).text()


class _Run:
    def __init__(self, template: str, data: dict[str, Any]) -> None:
        first, *rest = _ACTION.split(template)
        self._parts = [first, *rest]  # text, action, text, action, ..., text
        self._data: dict[str, Any] = data
        self._names: dict[str, Any] = {}

    def text(self) -> str:
        out, at = self._block(0, True)
        assert at >= len(self._parts), "an end is one too many"
        return out

    def _block(self, at: int, on: bool) -> tuple[str, int]:
        """Return what a block writes and the number of the action that ends it."""
        out = ""
        while at < len(self._parts):
            out += self._parts[at] if on else ""
            at += 1
            if at >= len(self._parts):
                break
            action = self._parts[at]
            if action == "end" or action.startswith("else"):
                return out, at
            if action.startswith("if "):
                more, at = self._if(at, on)
                out += more
            elif action.startswith("range "):
                more, at = self._range(at, on)
                out += more
            elif found := re.fullmatch(r"(\$\w+) := (.*)", action):
                if on:
                    self._names[found[1]] = self._value(found[2])
            elif on:
                out += str(self._value(action))
            at += 1
        return out, at

    def _if(self, at: int, on: bool) -> tuple[str, int]:
        taken = on and bool(self._value(self._parts[at].removeprefix("if ")))
        out, at = self._block(at + 1, taken)
        while self._parts[at].startswith("else"):
            condition = self._parts[at].removeprefix("else").strip().removeprefix("if ")
            now = on and not taken and (not condition or bool(self._value(condition)))
            more, at = self._block(at + 1, now)
            out, taken = out + more, taken or now
        return out, at

    def _range(self, at: int, on: bool) -> tuple[str, int]:
        found = re.fullmatch(r"range (\$\w+), (\$\w+) := (.*)", self._parts[at])
        assert found is not None, self._parts[at]
        out, end = "", self._block(at + 1, False)[1]
        for number, item in enumerate(self._value(found[3]) if on else []):
            self._names |= {found[1]: number, found[2]: item}
            more, end = self._block(at + 1, True)
            out += more
        return out, end

    def _value(self, expression: str) -> Any:
        words = re.findall(r'"(?:\\.|[^"\\])*"|[()]|[^\s()]+', expression)
        value, left = self._call(words)
        assert not left, f"left of {expression!r}: {left}"
        return value

    def _call(self, words: list[str]) -> tuple[Any, list[str]]:
        name, rest = words[0], words[1:]
        if name not in ("eq", "ne", "not", "and", "len", "slice"):
            return self._operand(words)
        values = []
        while rest and rest[0] != ")":
            value, rest = self._operand(rest)
            values.append(value)
        functions: dict[str, Any] = {
            "eq": lambda a, b: a == b,
            "ne": lambda a, b: a != b,
            "not": lambda a: not a,
            "and": lambda a, b: a and b,
            "len": len,
            "slice": lambda a, start: a[start:],
        }
        return functions[name](*values), rest

    def _operand(self, words: list[str]) -> tuple[Any, list[str]]:
        name, rest = words[0], words[1:]
        if name == "(":
            value, rest = self._call(rest)
            assert rest[0] == ")"
            return value, rest[1:]
        if name.startswith('"'):
            return json.loads(re.sub(r"\\U000(.{5})", lambda found: chr(int(found[1], 16)), name)), rest
        if name.isdigit():
            return int(name), rest
        if name.startswith((".", "$.")):
            return self._data[name.lstrip("$").removeprefix(".")], rest
        variable, _, field = name.partition(".")
        found = self._names[variable]
        return (getattr(found, field.lower()) if field else found), rest
