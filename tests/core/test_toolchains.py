"""Languages in which a model's code is run: compiled and run in the sandbox, or refused with what is missing."""

from __future__ import annotations

import shutil

import pytest

from lingraft.core import sandbox
from lingraft.core.errors import UsageError
from lingraft.core.toolchains import missing_toolchain, toolchain, versions_of

HERE = sandbox.refusal()
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)

JAVA = pytest.param("java", marks=pytest.mark.long)

GOOD = {
    "python": "print(sum([1, 2, 3]))",
    "javascript": "console.log([1, 2, 3].reduce((a, b) => a + b))",
    "cpp": "#include <iostream>\nint main() { std::cout << 1 + 2 + 3 << std::endl; }",
    "java": "public class Main { public static void main(String[] a) { System.out.println(1 + 2 + 3); } }",
}
BROKEN = {
    "python": "def f(:\n    pass",
    "javascript": "const f = (a => { return a;",
    "cpp": "int main() { return undeclared; }",
    "java": "public class Main { public static void main(String[] a) { return 1; } }",
}
FAILING = {
    "python": "assert 1 == 2",
    "javascript": "throw new Error('not so')",
    "cpp": "#include <cassert>\nint main() { assert(1 == 2); }",
    "java": "public class Main { public static void main(String[] a) { throw new AssertionError(); } }",
}


def have(language: str) -> None:
    if lacking := missing_toolchain(language):
        pytest.skip(lacking)


@shut_in
@pytest.mark.parametrize("language", ["python", "javascript", "cpp", JAVA])
def test_a_program_is_run_one_that_fails_is_told_from_one_that_is_none(language: str) -> None:
    have(language)
    chain = toolchain(language)
    good, broken, failing = (chain.run(text[language]) for text in (GOOD, BROKEN, FAILING))
    assert good.built, good
    assert good.last.well, good
    assert good.last.stdout == "6\n"
    assert not broken.built
    assert broken.last.stderr.strip()
    assert failing.built
    assert not failing.last.well


@shut_in
@pytest.mark.parametrize("language", ["javascript", "cpp", JAVA])
def test_programs_of_every_language_are_ended_and_reach_nothing(language: str) -> None:
    have(language)
    reading = {
        "javascript": "const fs = require('fs'); for (const p of ['/root', '/home', '/proc', '/etc/passwd'])"
        " console.log(fs.existsSync(p) && fs.readdirSync(p).join())",
        "cpp": "#include <fstream>\n#include <iostream>\nint main() {"
        ' for (auto p : {"/home/x", "/proc/1/stat", "/etc/passwd"})'
        " std::cout << std::ifstream(p).good(); }",
        "java": "public class Main { public static void main(String[] a) throws Exception {"
        ' for (String p : new String[] {"/home", "/proc", "/etc/passwd"})'
        ' System.out.print(new java.io.File(p).exists()); new java.net.Socket("192.0.2.1", 80); } }',
    }
    last = toolchain(language).run(reading[language]).last
    assert last.stdout.replace("pyenv", "").split() in (
        ["false"] * 4, [".", "false", "false", "false"], ["000"], ["falsefalsefalse"]
    ), last  # fmt: skip
    if language == "java":
        assert "unreachable" in last.stderr.lower()


def test_a_language_that_cannot_be_run_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_toolchain("python") == ""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing_toolchain("cpp") == "C++ is run by g++ and as and ld, which this machine lacks; install it"
    with pytest.raises(UsageError, match="JavaScript is run by node"):
        toolchain.__wrapped__("javascript")
    with pytest.raises(UsageError, match="did you mean 'java'"):
        missing_toolchain("jav")


def test_the_version_of_what_runs_it_is_told() -> None:
    assert versions_of("python").startswith("Python 3.")
    have("cpp")
    assert "g++" in versions_of("cpp")
