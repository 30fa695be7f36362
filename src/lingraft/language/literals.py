"""JSON values as literals of Python, Java, C++ and JavaScript.

A value that the type of a parameter cannot hold has no literal: a compiler would refuse the whole program for it, or,
worse, take another value in silence (an `int` of C++ takes 4294967296 for 0, and 2.5 for 2).
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any

BITS = {
    "java": {"byte": 8, "short": 16, "int": 32, "integer": 32, "long": 64},
    "cpp": {
        "int64_t": 64, "int32_t": 32, "int16_t": 16, "int8_t": 8, "intmax_t": 64, "ptrdiff_t": 64, "ssize_t": 64,
        "ll": 64,
    },
}  # fmt: skip
"""Signed integers of each language and their bits; of Java boxed ones, too, in lower case; of C++ those of one word
that are no keywords."""
UNSIGNED = {"uint64_t": 64, "uint32_t": 32, "uint16_t": 16, "uint8_t": 8, "uintmax_t": 64, "size_t": 64}
"""Of C++."""
_KEYWORDS = {"signed", "unsigned", "char", "short", "int", "long"}
REAL = frozenset({"double", "float", "long double"})
SAFE = 2**53 - 1
"""The largest integer that JavaScript keeps exactly, as its neighbours."""
COLLECTIONS = frozenset({"List", "ArrayList", "Collection", "Iterable", "Set", "HashSet"})
"""Of Java."""
LISTS = frozenset({"vector", "list", "deque", "set", "unordered_set", "multiset", "array"})
_OF = re.compile(r"(?:\w+(?:::|\.))*(\w+)\s*<(.+)>\s*\*?")


def literal(value: Any, kind: str, language: str) -> str:
    """Return a JSON value as a literal of a language.

    Args:
        value: as JSON has it.
        kind: type of the parameter that takes it, as it is written; "" where it is not known, or the language has none.
        language: one of the four.

    Raises:
        ValueError: it has none there, or that type cannot hold it.
    """
    json.dumps(value, allow_nan=False)  # infinity is a name, and not even that, wherever it is written
    if language == "python":
        return repr(value)
    if language == "javascript":
        return _javascript(value)
    return (_java if language == "java" else _cpp)(value, kind)


def _javascript(value: Any) -> str:
    for one in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        _javascript(one)
    if isinstance(value, int) and abs(value) > SAFE:
        raise ValueError(f"JavaScript has no number {value}")
    return json.dumps(value)


def _whole(value: Any, bits: int, signed: bool = True) -> int:
    """Return a number as an integer of so many bits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is no integer")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    if not low <= value < high:
        raise ValueError(f"{value} does not fit {bits} bits")
    return int(value)


def _real(value: Any, single: bool = False) -> str:
    """Return a number as a floating-point one, of 64 bits or 32."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
        held = struct.unpack("<f", struct.pack("<f", number))[0] if single else number
    except OverflowError as error:
        raise ValueError(f"{value} is too large") from error
    if number and not held:
        raise ValueError(f"{value} is too small")
    return repr(number)


def _text(value: Any) -> str:
    """Return a text, if a file of a program can hold it."""
    if any("\ud800" <= letter <= "\udfff" for letter in _is(value, str, "text")):
        raise ValueError(f"{value!r} has half a character")
    return str(value)


def _is(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} is no {what}")
    return value


def _parts(text: str) -> list[str]:
    """Return the arguments of a template, parted at commas that are in no brackets of their own."""
    found, depth = [""], 0
    for letter in text:
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def _cpp(value: Any, kind: str) -> str:
    if value is None:
        raise ValueError("C++ has no such value")
    kind = re.sub(r"\b(?:std\s*::|const\b)\s*|&", "", kind).strip()
    if of := _OF.fullmatch(kind):
        return _cpp_container(value, of[1], _parts(of[2]))
    if integer := _cpp_integer(kind):
        return _cpp_whole(_whole(value, *integer))
    if kind in REAL:
        return _real(value, kind == "float")
    if kind == "bool":
        return json.dumps(_is(value, bool, "truth value"))
    if kind == "char":
        if len(_is(value, str, "character")) != 1 or ord(value) > 127:
            raise ValueError(f"{value!r} is no character")
        return f"char({ord(value)})"
    if kind == "string":
        return _cpp_text(value)
    if isinstance(value, list):
        return "{" + ", ".join(_cpp(one, "") for one in value) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{{{_cpp_text(key)}, {_cpp(one, '')}}}" for key, one in value.items()) + "}"
    if isinstance(value, str):
        return _cpp_text(value)
    return (
        _cpp_whole(_whole(value, 64)) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)
    )


def _cpp_integer(kind: str) -> tuple[int, bool] | None:
    """Return the bits of an integer type, whose keywords may stand in any order, and whether it has a sign."""
    words = kind.split()
    if kind != "char" and words and set(words) <= _KEYWORDS:
        bits = 8 if "char" in words else 16 if "short" in words else 64 if "long" in words else 32
        return bits, "unsigned" not in words
    if kind in BITS["cpp"]:
        return BITS["cpp"][kind], True
    return (UNSIGNED[kind], False) if kind in UNSIGNED else None


def _cpp_container(value: Any, of: str, kinds: list[str]) -> str:
    if of == "optional":
        return _cpp(value, kinds[0])
    if of in LISTS:
        return "{" + ", ".join(_cpp(one, kinds[0]) for one in _is(value, list, "list")) + "}"
    if of in ("pair", "tuple"):
        if len(_is(value, list, "list")) != len(kinds):
            raise ValueError(f"{value!r} has another length than {of}<{', '.join(kinds)}>")
        return "{" + ", ".join(_cpp(one, own) for one, own in zip(value, kinds, strict=True)) + "}"
    if of in ("map", "unordered_map") and len(kinds) == 2:
        items = _is(value, dict, "map").items()
        return "{" + ", ".join(f"{{{_cpp(key, kinds[0])}, {_cpp(one, kinds[1])}}}" for key, one in items) + "}"
    return _cpp(value, "")


def _cpp_whole(value: int) -> str:
    if value == -(2**63):  # the minus is no part of a literal, and the rest of it fits nothing
        return "(-9223372036854775807LL - 1)"
    return f"{value}ULL" if value >= 2**63 else str(value)


def _cpp_text(value: Any) -> str:
    """Return a text in quotes; control characters in octal, since their names are not allowed in C++."""
    return re.sub(r"\\\\|\\u00([01][0-9a-f]|7f)", _octal, json.dumps(_text(value), ensure_ascii=False))


def _octal(found: re.Match[str]) -> str:
    return f"\\{int(found[1], 16):03o}" if found[1] else found[0]


def _java(value: Any, kind: str) -> str:
    of = _OF.fullmatch(kind)
    name, inner = (of[1], _parts(of[2])[0]) if of else (kind.rpartition(".")[2], "Object")
    if kind.endswith("[]"):
        items = ", ".join(_java(one, kind[:-2].strip()) for one in _is(value, list, "list"))
        return f"new {kind}{{{items}}}"
    if isinstance(value, dict):
        raise ValueError("a map has no literal in Java")
    if of and name not in COLLECTIONS and value is not None:
        raise ValueError(f"{name} has no literal in Java")
    if isinstance(value, list) or name in COLLECTIONS:
        items = ", ".join(_java(one, inner) for one in _is(value, list, "list"))
        made = "HashSet" if "Set" in name else "ArrayList"
        return f"new {made}<>(Arrays.<{inner}>asList({items}))" if value else f"new {made}<>()"
    if bits := BITS["java"].get(name.lower()):
        if value is None and name[0].isupper():
            return "null"
        text = str(_whole(value, bits))
        return f"{text}L" if bits == 64 else f"({name.lower()}) {text}" if bits < 32 else text
    if name.lower() in REAL and not (value is None and name[0].isupper()):
        single = name.lower() == "float"
        return _real(value, single) + ("f" if single else "")
    if name.lower() == "boolean" and not (value is None and name[0].isupper()):
        return json.dumps(_is(value, bool, "truth value"))
    if name in ("char", "Character"):
        if len(_text(value)) != 1 or ord(value) > 0xFFFF:
            raise ValueError(f"{value!r} is no character")
        return f"(char) {ord(value)}"
    if name == "String" and value is not None:
        return json.dumps(_text(value), ensure_ascii=False)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if -(2**31) <= value < 2**31 else f"{_whole(value, 64)}L"
    return json.dumps(_text(value) if isinstance(value, str) else value, ensure_ascii=False)
