"""Code within answers, the functions it defines, and programs with their tests put together."""

from __future__ import annotations

import pytest

from lingraft.language.programs import before_function, code_in, defined_last, defines, with_tests

ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"```python\n{ADD}\n```", ADD + "\n"),
        (f"Here it is:\n\n```py\n{ADD}\n```\nIt adds.\n```\nadd(1, 2)\n```", ADD + "\n"),
        (f"```\n{ADD}\n```", ADD + "\n"),
        (f"```bash\npip install x\n```\n```Python3 title=a.py\n{ADD}\n```", ADD + "\n"),
        ("```javascript\nconst add = 1\n```", ""),  # in another language there is no Python
        (ADD, ADD),
        (f"```python\n{ADD}", ADD),  # cut off by the limit of tokens
        (f"~~~python\n{ADD}\n# ``` within\n~~~", f"{ADD}\n# ``` within\n"),
        (f"````python\n{ADD}\n```\n# within\n````", f"{ADD}\n```\n# within\n"),
        ("", ""),
        ("I cannot.", "I cannot."),
    ],
)
def test_the_first_block_in_the_language_is_the_code(answer: str, code: str) -> None:
    assert code_in(answer, "python") == code


@pytest.mark.parametrize(
    ("language", "code", "name", "so"),
    [
        ("python", ADD, "add", True),
        ("python", "async def add(a): ...", "add", True),
        ("python", "    def add(self): ...", "add", False),  # a method is not the function
        ("python", "add(1, 2)", "add", False),
        ("python", "def adder(a): ...", "add", False),
        ("javascript", "const add = (a, b) => a + b", "add", True),
        ("javascript", "function add(a, b) { return a + b }", "add", True),
        ("javascript", "add(1, 2)", "add", False),
        ("cpp", "vector<int> add(vector<int> a, int b){ return a; }", "add", True),
        ("cpp", "int* add(int a) {", "add", True),
        ("cpp", "int main() { return add(1); }", "add", False),
        ("java", "class Solution { public List<Integer> add(int a) { return null; } }", "add", True),
        ("java", "class Solution { int x = add(1); }", "add", False),
    ],
)
def test_a_definition_is_told_from_a_call(language: str, code: str, name: str, so: bool) -> None:
    assert defines(code, name, language) is so


def test_the_function_asked_for_is_the_last_one_declared() -> None:
    python = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef asked(a: int) -> int:\n    """Text."""\n'
    assert defined_last(python, "python") == "asked"
    assert before_function(python, "asked") == "import math\n\n\ndef helper(x):\n    return x\n\n\n"
    assert before_function("x = 1", "asked") == ""
    assert defined_last("const asked = (a) => {\n", "javascript") == "asked"
    helper = "#include <map>\nusing namespace std;\nstring helper(int a) {\n return 0;\n}\n"
    cpp = f"{helper}map<char,int> asked(vector<int> a){{\n"
    assert defined_last(cpp, "cpp") == "asked"
    assert defined_last("class Solution {\n    public Map<String, Integer> asked(int a) {\n", "java") == "asked"
    assert defined_last("x = 1", "python") == ""


def test_tests_are_put_behind_the_code_and_their_end_is_marked() -> None:
    assert "\ncheck(add)\n" in with_tests(
        ADD, "def check(candidate):\n    assert candidate(1, 1) == 2", "add", "python", "m"
    )
    called = with_tests(ADD, "def check(add): ...\n\ncheck(add)", "add", "python", "m")
    assert called.count("check(add)") == 2  # of a problem that calls its test itself, that call and the definition
    cpp = with_tests("int main(){}", "int main(){\n    assert(f() == 1);\n    return 0;\n}\n", "f", "cpp", "m")
    assert cpp.index("#undef main") < cpp.index("assert(f()") < cpp.index("fputs") < cpp.index("return 0;")
    test = "import java.io.File;\npublic class Main {\n  public static void main(String[] args) {\n    go();\n  }\n}\n"
    java = with_tests("import java.math.BigInteger;\npublic class Solution { }", test, "go", "java", "m")
    assert java.index("import java.io.File;") < java.index("import java.math") < java.index("\nclass Solution")
    assert java.index("go();") < java.index("System.err") < java.rindex("}")
