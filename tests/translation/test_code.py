"""How a program in another language is asked for, and taken out of the answer."""

from __future__ import annotations

import pytest

from lingraft.data.records import Generation, Sampling
from lingraft.translation.code import entry_point, extract, requests
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
