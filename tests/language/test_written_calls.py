"""Calls as models write them, in all shapes, and what is left out."""

from __future__ import annotations

import pytest

from lingraft.language.code_calls import parameters
from lingraft.language.written_calls import defaults, read_calls

SOURCE = "def near(numbers: List[float], threshold: float = 0.5) -> bool:"
OBJECTS = """```json
[
    {
        "numbers": [1.0, 2.0],
        "threshold": 0.5
    },
    {
        "numbers": [],
        "threshold": 1
    }
]
```"""


def read(text: str, source: str = SOURCE, name: str = "near") -> tuple[list[object], int]:
    found = read_calls(text, name, [own for _, own in parameters(source, name)], defaults(source, name))
    return list(found.calls), found.left_out


@pytest.mark.parametrize(
    "text",
    [
        OBJECTS,
        OBJECTS.replace("```json", "Here they are:\n```"),
        '{"numbers": [1.0, 2.0], "threshold": 0.5}\n{"threshold": 1, "numbers": []}',
        '[{"numbers": [1.0, 2.0]}, {"numbers": [], "threshold": 1}]',
        "[[1.0, 2.0], 0.5]\n[[], 1]",
        "1. [[1.0, 2.0], 0.5],  # usual\n2. [[], 1]  // special",
        "[[1.0, 2.0], 0.5], [[], 1]",
        "```json\n[\n  [[1.0, 2.0], 0.5],\n  [[], 1]\n]\n```",
        "```python\nnear([1.0, 2.0], 0.5)  # usual\nnear(numbers=[], threshold=1)\n```",
        "- near([1.0, 2.0])\n- near([], threshold=1);",
    ],
)
def test_calls_are_read_in_every_shape(text: str) -> None:
    assert read(text) == ([[[1.0, 2.0], 0.5], [[], 1]], 0)


def test_an_answer_without_end_gives_what_is_finished() -> None:
    cut = '```json\n[\n    {"number": 123.456},\n    {"number": 0.5},\n    {"number": 12345678901234567890123'
    assert read(cut, "def f(number):", "f") == ([[123.456], [0.5]], 1)
    nested = OBJECTS[: OBJECTS.index("]", OBJECTS.index("[]") - 5)]
    assert read(nested) == ([[[1.0, 2.0], 0.5]], 1)
    inner = '[\n  {"numbers": [1]},\n  {\n    "numbers": [\n      [1, 2],\n      [3, 4'
    assert read(inner) == ([[[1], 0.5]], 1)
    assert read("[[[1.0, 2.0], 0.5], [[3], 1], [[") == ([[[1.0, 2.0], 0.5], [[3], 1]], 1)
    assert read("[[1, 2], 3") == ([], 1)


def test_what_a_model_expects_of_a_call_does_not_count() -> None:
    text = '[{"text": "(())", "expected_output": ["(())"]}, {"text": "()", "expected_output": []}]'
    assert read(text, "def groups(text: str) -> List[str]:", "groups") == ([["(())"], ["()"]], 0)


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("These are calls.", 0),
        ("[1, 2, 3]\n[]", 2),
        ('[{"number": [1], "threshold": 1}, {"threshold": 1}]', 2),
        ('{"numbers": [1], "treshold": 1}', 1),  # not the default in its stead
        ('{"numbers": [NaN]}\n[[Infinity], 1]\n[[1e999], 1]', 3),
        (f"[[{2**63}], 1]", 1),
        ("near((1, 2), 1)\nnear(numbers)\nnear([1], 1, 2)\nnear([1], size=1)\nnear([1], numbers=[2])\nnear(", 6),
        ("nearest([1], 2)", 0),
        ("[[1, 2], 3] -> true", 1),
        ("[" * 9999, 1),
        ("near(" + "(" * 9999, 1),
        ("[" * 60 + "]" * 60, 1),
    ],
)
def test_what_does_not_fit_is_left_out_and_counted(text: str, left_out: int) -> None:
    assert read(text) == ([], left_out)


def test_one_list_of_lists_is_a_call_on_one_line_and_calls_on_several() -> None:
    plus = "def plus(a, b):"
    assert read("[[1, 2], [3, 4]]", plus, "plus") == ([[[1, 2], [3, 4]]], 0)
    assert read("[\n [1, 2],\n [3, 4]\n]", plus, "plus") == ([[1, 2], [3, 4]], 0)
    assert read("[[1, 2], [3, 4], [5]]", plus, "plus") == ([[1, 2], [3, 4]], 1)
    assert read('[{"a": 1}]', "def keys(of):", "keys") == ([[{"a": 1}]], 0)


def test_each_call_is_kept_once_and_values_of_different_kinds_are_different() -> None:
    assert read("[1]\n[1]\n[true]\n[1.0]\n['a']\n[True]", "def f(x):", "f") == ([[1], [True], [1.0], ["a"]], 0)


def test_defaults_are_those_written_as_values() -> None:
    source = "def f(a, sep=', ', many: Dict[str, int] = None, size=SIZE, pair=(1, 2), on=True):"
    assert defaults(source, "f") == {"sep": ", ", "many": None, "on": True}
    assert [name for _, name in parameters(source, "f")] == ["a", "sep", "many", "size", "pair", "on"]
    assert defaults("const f = (a, on = true, of = []) => {", "f") == {"on": True, "of": []}
