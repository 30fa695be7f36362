"""Programs as text: the code within an answer, the functions it defines, and a program with its tests put together.

Nothing here runs or parses with a language's own parser: it is text of a model.
"""

from __future__ import annotations

import re

TAGS = {
    "python": ("python", "py", "python3"),
    "javascript": ("javascript", "js", "node", "nodejs"),
    "cpp": ("cpp", "c++", "cc", "cxx"),
    "java": ("java",),
}
"""Words behind the opening marks of a block by which each language is told."""

FENCE = re.compile(
    r"^[ \t]{0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*\n(.*?)(?:^[ \t]{0,3}\1[`~]*[ \t]*$|\Z)", re.M | re.S
)
"""A block of code: its marks, the word behind them, and what is in it."""
_DEFINES = {
    "python": r"^(?:async[ \t]+)?def[ \t]+{}[ \t]*\(",
    "javascript": r"(?:^|[\s;])(?:(?:const|let|var)[ \t]+{}[ \t]*=|function[ \t]*\*?[ \t]*{}[ \t]*\()",
    "cpp": r"^[\w:<>,&* \t]+?[ \t&*>]{}[ \t]*\([^;]*?\)\s*(?:const\s*)?\{{",
    "java": r"[\w\]>]\s+{}[ \t]*\(",
}
_NAME = r"([^\W\d][\w$]*)"


def code_in(answer: str, language: str) -> str:
    """Return the code of an answer: its first block in this language, else its first block without a language.

    An answer without any block is code as a whole; one whose blocks are all in other languages has none. A block that
    is not closed ends with the answer.

    Args:
        answer: of a model, without thoughts.
        language: key of `TAGS`.
    """
    blocks = [(found[2].lower(), found[3]) for found in FENCE.finditer(answer)]
    if not blocks:
        return answer.strip("\n")
    own = next((code for tag, code in blocks if tag in TAGS[language]), None)
    return own if own is not None else next((code for tag, code in blocks if not tag), "")


def defines(code: str, name: str, language: str) -> bool:
    """Say whether code defines a function of this name."""
    return re.search(_DEFINES[language].replace("{}", re.escape(name)).replace("{{", "{"), code, re.M) is not None


def defined_last(declaration: str, language: str) -> str:
    """Return the name of the last function that is declared, empty if none is: HumanEval's helpers come first, and what
    a program begins with (`main`) last."""
    pattern = {
        "python": rf"^(?:async[ \t]+)?def[ \t]+{_NAME}[ \t]*\(",
        "javascript": rf"(?:const|let|var)[ \t]+{_NAME}[ \t]*=[ \t]*(?:async[ \t]*)?(?:\(|function)"
        rf"|function[ \t]+{_NAME}\(",
        "cpp": rf"^(?!#)[\w:<>,&* \t]+?[\s&*>]{_NAME}[ \t]*\([^;{{}}]*\)\s*\{{",
        "java": rf"(?:public|private|protected|static)[\w<>\[\], \t]*?[\s>\]]{_NAME}[ \t]*\([^;{{}}]*\)[^;{{}}]*\{{",
    }[language]
    found = [next(group for group in one.groups() if group) for one in re.finditer(pattern, declaration, re.M)]
    return next((name for name in reversed(found) if name != "main"), "")


def before_function(prompt: str, name: str) -> str:
    """Return what a Python prompt has before a function: imports, constants, helpers."""
    found = list(re.finditer(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(", prompt, re.M))
    return prompt[: found[-1].start()] if found else ""


_ASSERTING = 'console.assert = (ok, ...said) => { if (!ok) throw new Error("assertion failed"); };\n'
_HEADERS = (
    "algorithm array bitset cassert cctype climits cmath cstdint cstdio cstdlib cstring deque functional iomanip "
    "iostream limits list map memory numeric optional queue set sstream stack stdexcept string tuple unordered_map "
    "unordered_set utility vector"
)
USUAL_HEADERS = "".join(f"#include <{name}>\n" for name in _HEADERS.split()) + "using namespace std;\n"
_TYPE = r"(?:final[ \t]+|abstract[ \t]+)*(?:class|interface|enum|record)\b"
JAVA_IMPORTS = "import java.util.*;\nimport java.util.function.*;\nimport java.util.stream.*;\n"


def with_tests(code: str, test: str, entry_point: str, language: str, mark: str) -> str:
    """Return a program that runs tests and then says a word, by which it is told that it got to its end.

    A function of JavaScript's that only reports a failed assertion is made to fail. C++ and Java have the usual headers
    and imports; a `main` of the code's own is left aside.

    Args:
        code: defines what is tested.
        test: of the problem.
        entry_point: name of the function.
        language: key of `TAGS`.
        mark: a word of letters and digits, written to the error stream at the end.
    """
    if language == "python":
        called = "" if re.search(r"^check\(", test, re.M) else f"\ncheck({entry_point})\n"
        return f'{code}\n{test}\n{called}\n__import__("sys").stderr.write("{mark}")\n'
    if language == "javascript":
        return f'{_ASSERTING}{code}\n{test}\n;process.stderr.write("{mark}");\n'
    if language == "cpp":
        renamed = f"#define main the_codes_own_main\n{code}\n#undef main\n"
        ending = _at_end(test, 1, f'std::fputs("{mark}", stderr);')
        return f"{USUAL_HEADERS}{renamed}{ending}\n"
    # Java takes imports before all classes.
    whole = without_public(code)
    imports = "".join(f"{line}\n" for line in re.findall(r"^[ \t]*import[ \t]+[\w.*\s]+?;", test, re.M))
    rest = re.sub(r"^[ \t]*import[ \t]+[\w.*\s]+?;[ \t]*$", "", test, flags=re.M)
    ending = _at_end(rest, 2, f'System.err.print("{mark}");')
    return f"{JAVA_IMPORTS}{imports}{whole}\n{ending}\n"


def without_public(code: str) -> str:
    """Return Java whose classes are not public: a file takes one that is."""
    return re.sub(rf"^([ \t]*)public[ \t]+(?={_TYPE})", r"\1", code, flags=re.M)


def _at_end(test: str, braces: int, statement: str) -> str:
    """Put a statement before the closing braces at the end of a test, and before a last `return` of its own."""
    found = re.search(rf"(?:return[ \t]+0[ \t]*;\s*)?(?:\}}\s*){{{braces}}}\Z", test)
    if found is None:
        return test
    return f"{test[: found.start()]}{statement}\n{found[0]}"
