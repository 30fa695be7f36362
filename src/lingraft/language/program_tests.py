"""What comes of a program that a model wrote when it is run against tests, in the sandbox or not at all."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Literal

from lingraft.core.toolchains import toolchain
from lingraft.language.programs import before_function, with_tests

Verdict = Literal["passed", "failed", "not_built", "out_of_time"]


@lru_cache(maxsize=4096)
def verdict(code: str, test: str, entry_point: str, language: str, declaration: str = "") -> Verdict:
    """Run a program against its tests.

    It passes if it gets to its end: a word that nobody knows beforehand is written there, so that a program which only
    leaves early does not.

    Args:
        code: defines what is tested.
        test: of the problem.
        entry_point: name of the function.
        language: key of `lingraft.core.code_languages.NAMES`.
        declaration: of the function; of Python, what it has before it stands before the code.

    Raises:
        SandboxError: the machine does not allow the sandbox.
        UsageError: it lacks what runs the language.
    """
    mark = secrets.token_hex(16)
    before = before_function(declaration, entry_point) if language == "python" else ""
    execution = toolchain(language).run(with_tests(before + code, test, entry_point, language, mark))
    if execution.last.why == "time":
        return "out_of_time"
    if not execution.built:
        return "not_built"
    return "passed" if execution.last.well and execution.last.stderr.rstrip().endswith(mark) else "failed"
