"""How a program in another language is asked for, and taken out of the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lingraft.data.records import Generation, Sampling
from lingraft.translation.code import asked_in, declaration_of, entry_point, extract, requests
from lingraft.translation.direct import Source

SOURCE = Source(
    "t/0", "def add(a, b):\n    return a + b\n", "python", "cpp", "#include <vector>\nint add(int a, int b){\n"
)
GOOD = "int add(int a, int b) { return a + b; }"


def test_the_request_holds_program_languages_and_declaration() -> None:
    asked = next(requests([SOURCE], Sampling(64, stop=("\n\n",))))
    text = asked.messages[0].content
    for part in ("Python program into C++", SOURCE.text.strip(), "#include <vector>", "```cpp\n"):
        assert part in text
    assert asked.direct
    assert asked.sampling.max_new_tokens == 64
    assert entry_point(SOURCE) == "add"


@pytest.mark.parametrize(
    ("answer", "text", "failure"),
    [
        (f"```cpp\n{GOOD}\n```", GOOD, ""),
        (f"Of course:\n```c++\n{GOOD}\n```\nDone.", GOOD, ""),
        (GOOD, GOOD, ""),
        ("```python\ndef add(a, b): ...\n```", "", "no_code"),
        ("I cannot.", "I cannot.", "no_code"),
        ("", "", "empty"),
        ("<think>Hm.</think>", "", "thinking"),
    ],
)
def test_the_program_is_the_block_of_its_language(answer: str, text: str, failure: str) -> None:
    found = extract(SOURCE, Generation("t/0", answer, (1, 2), "stop"))
    assert (found.text, found.failure) == (text, failure)


def test_a_program_that_the_limit_cut_is_said_to_be_unfinished() -> None:
    found = extract(SOURCE, Generation("t/0", f"```cpp\n{GOOD}\nint more(", (1, 2), "length"))
    assert found.failure == "unfinished"


UNSAID = Source("t/1", "def add(a, b=2):\n    return a + b\n\ndef main():\n    print(add(1))\n", "python", "cpp")


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("cpp", "// the function add(a, b)"),
        ("javascript", "function add(a, b)"),
        ("java", "class Solution { // with the method add(a, b)"),
    ],
)
def test_without_a_declaration_the_last_function_is_to_be_there_under_its_own_name(target: str, shown: str) -> None:
    source = replace(UNSAID, target_lang=target)
    assert (entry_point(source), declaration_of(source)) == ("add", shown)
    assert f"must declare this, which tests will call:\n\n```{target}\n{shown}\n```" in prompt(source)


def test_of_a_script_nothing_is_to_be_declared() -> None:
    source = Source("t/2", "print(1)\n", "python", "java")
    assert (entry_point(source), declaration_of(source)) == ("", "")
    assert "declare" not in prompt(source)
    assert extract(source, Generation("t/2", "class A {}", (1,), "stop")).failure == ""


@pytest.mark.parametrize("source", [SOURCE, UNSAID, Source("t/2", "print(1)", "python", "java")])
def test_what_is_asked_is_read_back(source: Source) -> None:
    found = asked_in(prompt(source))
    assert found is not None
    given = (source.text.strip("\n"), source.source_lang, source.target_lang, declaration_of(source).strip("\n"))
    assert (found.text, found.source_lang, found.target_lang, found.declaration) == given


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("please translate this python program into C++:\n\nx = 1\ny = 2\n", ("x = 1\ny = 2", "python", "cpp", "")),
        ("Translate the following js code to Python.\n```js\nlet x\n```\n", ("let x", "javascript", "python", "")),
        ("Translate this Java function into C++.\n```\nx\n```\nand\n```\ny\n```", ("x", "java", "cpp", "")),
        ("Translate this Java program into C++.\n  \n", None),
        ("Translate this Java program into Java.\nx", None),
        ("Translate this Rust program into Java.\nx", None),
        ("Translate this Java program into C++. x", None),
        ("Translate the following text from German into English.\n\nx", None),
        ("", None),
    ],
)
def test_other_ways_to_ask_are_read_or_left(text: str, found: tuple[str, ...] | None) -> None:
    read = asked_in(text)
    assert (read and (read.text, read.source_lang, read.target_lang, read.declaration)) == found


def prompt(source: Source) -> str:
    return next(requests([source], Sampling(9))).messages[0].content
