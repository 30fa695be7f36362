"""What functions do when they are called, in four languages, and the blocks at whose ends their variables are told."""

from __future__ import annotations

import json

import pytest

from lingraft.core import sandbox
from lingraft.core.toolchains import missing_toolchain
from lingraft.language.code_blocks import blocks_of
from lingraft.language.code_calls import FAILED, made_calls, parameters, same
from lingraft.language.literals import literal

HERE = sandbox.refusal()
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)
PROGRAMS = {
    "python": """
def f(xs, k):
    \"\"\"Text; with { braces.\"\"\"
    total = 0
    word = "a;}"
    for x in xs:
        if x > k:
            total += x
    if total > 100:
        return -1
    half = total / 2
    return half
""",
    "javascript": """
const f = (xs, k) => {
  let total = 0
  const word = "a;}"  // {
  for (const x of xs) {
    if (x > k) total += x
  }
  if (total > 100) {
    return -1;
  }
  let half = total / 2
  return half
}
""",
    "cpp": """
double f(vector<int> xs, const int &k) {
  int total = 0;
  string word = "a;}"; /* { */
  for (int x : xs) {
    if (x > k) total += x;
  }
  if (total > 100) return -1;
  double half = total / 2.0;
  return half;
}
""",
    "java": """
public class Solution {
  public double f(List<Integer> xs, int k) {
    int total = 0;
    String word = "a;}";
    for (int x : xs) {
      if (x > k) { total += x; }
    }
    if (total > 100) { return -1; } else { total += 0; }
    double half = total / 2.0;
    return half;
  }
}
""",
}
LANGUAGES = ["python", "javascript", "cpp", pytest.param("java", marks=pytest.mark.long)]


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_function_is_cut_into_its_own_statements(language: str) -> None:
    blocks = blocks_of(PROGRAMS[language], "f", language)
    begins = ["for", "if", "half", "return"] if language == "python" else ["for", "if", "let", "return"]
    if language in ("cpp", "java"):
        begins[2] = "double"
    assert [block.text.strip().split()[0] for block in blocks][1:] == begins
    assert "word" in blocks[0].text
    assert [block.leaves for block in blocks] == [False, False, False, False, True]
    assert blocks_of("no function", "f", language) == []


@shut_in
@pytest.mark.parametrize("language", LANGUAGES)
def test_results_and_values_are_the_same_in_every_language(language: str) -> None:
    if lacking := missing_toolchain(language):
        pytest.skip(lacking)
    code = PROGRAMS[language]
    kinds = tuple(kind for kind, _ in parameters(code, "f"))
    done = made_calls(code, "f", language, json.dumps([[[1, 5, 7], 4], [[], 0], [[200], 1]]), kinds, True)
    assert done.built, done.said
    assert [float(trace.result) for trace in done.traces] == [6.0, 0.0, -1.0]
    last = dict(done.traces[0].values)
    assert {name: last[1][name] for name in ("k", "total", "word", "xs")} == {
        "k": 4, "total": 12, "word": "a;}", "xs": [1, 5, 7],
    }  # fmt: skip
    assert last[3]["half"] == 6
    assert [block for block, _ in done.traces[2].values][-1] < 3  # it was left before


@shut_in
def test_a_call_that_fails_is_told_from_the_others() -> None:
    done = made_calls("def f(x):\n    return 1 / x", "f", "python", "[[1], [0], [2]]", ("",))
    assert [trace.result for trace in done.traces] == [1.0, FAILED, 0.5]
    assert done.traces[1].error == "ZeroDivisionError: division by zero"
    leaves = made_calls("import os\ndef f(x):\n    os._exit(x)", "f", "python", "[[0], [1]]", ("",))
    assert [trace.result for trace in leaves.traces] == [FAILED, FAILED]
    assert not made_calls("def f(:", "f", "python", "[[0]]", ("",)).built


def test_parameters_are_read_from_the_declaration() -> None:
    assert parameters("def f(a: List[Dict[str, int]], b=(1, 2)) -> int:", "f") == [
        ("List[Dict[str, int]]", "a"),
        ("", "b"),
    ]
    assert parameters("vector<int> f(const map<int, string>& a, int *b){", "f") == [
        ("map<int, string>", "a"),
        ("int *", "b"),
    ]
    assert parameters("public int f(final List<Map<String, Integer>> a, int[] b) {", "f") == [
        ("List<Map<String, Integer>>", "a"), ("int[]", "b"),
    ]  # fmt: skip
    assert parameters("const f = (a, b) => {", "f") == [("", "a"), ("", "b")]
    assert parameters("const f = function () {", "f") == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(n, m=1):\n    return n if n < 2 else f(n - 1)\nprint(f(3))", [("", "n"), ("", "m")]),
        ("function f(n, m) { return n < 2 ? n : f(n - 1, m) }\nconsole.log(f(3, 1))", [("", "n"), ("", "m")]),
        ("const f = (n, m) => f(n - 1, m)\nif (f(1, 2)) { }", [("", "n"), ("", "m")]),
        ("int f(int n, long m) { return f(n - 1, m); }\nint main() { return f(3, 1); }", [("int", "n"), ("long", "m")]),
        ("int f(int n) throws Exception {\n return f(n - 1);\n}", [("int", "n")]),
        ("int f(int n);", [("int", "n")]),
    ],
)
def test_a_call_of_a_function_is_not_taken_for_its_definition(code: str, found: list[tuple[str, str]]) -> None:
    assert parameters(code, "f") == found


def test_values_are_written_as_each_language_has_them() -> None:
    value = [1, 'a"', True]
    assert literal(value, "", "python") == "[1, 'a\"', True]"
    assert literal(value, "", "javascript") == '[1, "a\\"", true]'
    assert literal([[1], []], "vector<vector<int>>", "cpp") == "{{1}, {}}"
    assert literal([1, 2.5], "List<Double>", "java") == "new ArrayList<>(Arrays.<Double>asList(1.0, 2.5))"
    assert literal([1], "int[]", "java") == "new int[]{1}"
    assert literal("x", "char", "cpp") == "char(120)"
    for language in ("cpp", "java"):
        with pytest.raises(ValueError, match=r"no such value|no literal"):
            literal({"a": 1} if language == "java" else None, "", language)


def test_values_are_compared_as_json_has_them() -> None:
    assert same([1, {"a": 0.1 + 0.2}], [1.0, {"a": 0.3}])
    for one, other in ((True, 1), ([1], [1, 2]), ({"a": 1}, {"b": 1}), ("1", 1), (None, False), (1.0, 1.001)):
        assert not same(one, other)
