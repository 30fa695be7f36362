"""The blocks of a function, and a copy of it that says the values of its variables at the end of each block.

A block is a statement of the function's own level that has a body (a loop, a condition), or a run of statements that
have none. Python is read by its own parser (which runs nothing); of Java, C++ and JavaScript braces and semicolons are
followed, strings and comments left aside: a fair reading of usual programs, and no parser.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_COMPOUND = re.compile(r"(?:if|for|while|do|switch|try|else|foreach)\b")
_RETURN = re.compile(r"return\b|throw\b")
_GOES_ON = re.compile(r"\s*(?:else|catch|finally)\b")
_SKIPPED = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.S)
_DECLARED = {
    "javascript": re.compile(r"^\s*(?:let|const|var)\s+([A-Za-z_$][\w$]*)"),
    "cpp": re.compile(
        r"^\s*(?!return\b|else\b|delete\b)(?:const\s+)?[A-Za-z_][\w:<>,\s*&]*?[\s>*&]([A-Za-z_]\w*)\s*(?:=|;|\{|\()"
    ),
    "java": re.compile(
        r"^\s*(?!return\b|else\b|throw\b)(?:final\s+)?[A-Za-z_][\w.<>,\s\[\]?]*?[\s>\]]([A-Za-z_]\w*)\s*[=;]"
    ),
}


@dataclass(frozen=True)
class Block:
    """A part of a function. `start`, `end`: characters of the program; `names`: variables that it declares;
    `leaves`: whether it is a statement by which the function is left."""

    start: int
    end: int
    text: str
    names: tuple[str, ...] = ()
    leaves: bool = False


def blocks_of(code: str, name: str, language: str) -> list[Block]:
    """Return the blocks of a function, none where it cannot be found or read.

    Args:
        code: the program.
        name: of the function.
        language: `python`, `java`, `cpp` or `javascript`.
    """
    return _python(code, name) if language == "python" else _braces(code, name, language)


def _python(code: str, name: str) -> list[Block]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
    if not functions:
        return []
    starts = [0]
    for line in code.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    found = []
    for statement in functions[-1].body:
        start, end = starts[statement.lineno - 1], starts[statement.end_lineno or statement.lineno] - 1
        text = code[start:end]
        leaves = isinstance(statement, ast.Return | ast.Raise)
        simple = not hasattr(statement, "body")
        if not _is_text(statement):
            found.append((Block(start, end, text, (), leaves), simple))
    return _joined(code, found)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _joined(code: str, found: Sequence[tuple[Block, bool]]) -> list[Block]:
    """Join neighbouring statements without bodies; one by which the function is left stands alone."""
    out: list[tuple[Block, bool]] = []
    for block, simple in found:
        if out and simple and not block.leaves and out[-1][1] and not out[-1][0].leaves:
            last = out[-1][0]
            joined = Block(last.start, block.end, code[last.start : block.end], last.names + block.names)
            out[-1] = (joined, True)
        else:
            out.append((block, simple))
    return [block for block, _ in out]


def _bare(code: str) -> str:
    """Return code of the same length without comments, and with strings that hold nothing that counts."""
    return _SKIPPED.sub(lambda one: re.sub(r"[^\n]", " ", one[0]) if one[0][0] == "/" else "_" * len(one[0]), code)


def _body(bare: str, name: str) -> tuple[int, int] | None:
    """Return where the body of a function begins and ends, behind and before its braces."""
    for found in re.finditer(rf"\b{re.escape(name)}\b[^;{{}}]*\{{", bare):
        depth = 0
        for place in range(found.end() - 1, len(bare)):
            depth += {"{": 1, "}": -1}.get(bare[place], 0)
            if depth == 0:
                return found.end(), place
    return None


def _braces(code: str, name: str, language: str) -> list[Block]:
    bare = _bare(code)
    body = _body(bare, name)
    if body is None:
        return []
    found = []
    for start, end in _statements(bare, *body, language):
        text = bare[start:end]
        simple = _COMPOUND.match(text) is None
        declared = _DECLARED[language].match(text) if simple else None
        names = (declared[1],) if declared else ()
        found.append((Block(start, end, code[start:end], names, bool(_RETURN.match(text))), simple))
    return _joined(code, found)


def _statements(bare: str, start: int, end: int, language: str) -> Iterator[tuple[int, int]]:
    """Yield the statements of a body by their places."""
    begin, depth = start, 0
    for place in range(start, end):
        letter = bare[place]
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        if depth:
            continue
        said = bare[begin : place + 1].strip()
        rest = bare[place + 1 : end]
        closed = letter == "}" and _COMPOUND.match(said) and not _GOES_ON.match(rest) and not said.startswith("do")
        line = language == "javascript" and letter == "\n" and said and _ends_line(said, rest)
        if letter == ";" or closed or line:
            lead = len(bare[begin : place + 1]) - len(bare[begin : place + 1].lstrip())
            if said not in ("", ";"):
                yield begin + lead, place + (0 if line else 1)
            begin = place + 1
    if tail := bare[begin:end].strip():
        lead = len(bare[begin:end]) - len(bare[begin:end].lstrip())
        yield begin + lead, begin + lead + len(tail)


def _ends_line(said: str, rest: str) -> bool:
    """Whether a line of JavaScript without a semicolon ends its statement."""
    if _COMPOUND.match(said):
        return said.endswith("}") and not _GOES_ON.match(rest)
    return said[-1] not in "=+-*/%&|<>?:,.({[" and re.match(r"\s*[.?:&|+*/)\]},=<>%-]", rest) is None


def with_values(code: str, name: str, language: str, blocks: Sequence[Block], parameters: Sequence[str]) -> str:
    """Return the program with a call of `said_values` at the end of each block (before those that leave).

    Args:
        code: the program.
        name: of the function.
        language: as of `blocks_of`.
        blocks: of the function.
        parameters: its names of them.
    """
    out, at, known = [], 0, list(parameters)
    for number, block in enumerate(blocks):
        known += [one for one in block.names if one not in known]
        place = block.start if block.leaves else block.end
        out += [code[at:place], _call(code, block, number, known, language)]
        at = place
    return "".join([*out, code[at:]])


def _call(code: str, block: Block, number: int, known: Sequence[str], language: str) -> str:
    if language == "python":
        indent = re.match(r"\s*", block.text)[0]  # type: ignore[index]  # it matches everything
        call = f"{indent}said_values({number}, dict(locals()))"
        return f"{call}\n" if block.leaves else f"\n{call}"
    if language == "javascript":
        return f"\n;said_values({number}, {{{', '.join(known)}}});\n"
    pairs = "".join(f', "{one}", {one}' for one in known)
    if language == "java":
        return f"\nMain.said_values({number}{pairs});\n"
    said = "".join(f'said_one("{one}", {one}); ' for one in known)
    return f"\nsaid_block({number}); {said}\n"
