"""The decoder `code`: what is asked in which step, what is kept, and where it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from decoding import Asked, decoder_inputs, made
from lingraft.core import sandbox
from lingraft.core.allowance import Allowance, allowing
from lingraft.core.errors import UsageError
from lingraft.core.toolchains import missing_toolchain
from lingraft.decoders.base import Surroundings, decoded
from lingraft.decoders.code import Work, executed, fits, lacking, read_alignment
from lingraft.engines.scripted import Rule
from lingraft.language.code_calls import made_calls
from lingraft.language.programs import defined_last
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

HERE = sandbox.refusal() or missing_toolchain("javascript")
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)
PYTHON = """
def scaled(numbers, factor):
    total = 0
    for number in numbers:
        total += number
    result = total * factor
    return result
"""
SOURCE = Source("t/1", PYTHON, "python", "javascript", "const scaled = (numbers, factor) => {\n")
RIGHT = """const scaled = (numbers, factor) => {
  let total = 0;
  for (const number of numbers) {
    total += number;
  }
  let result = total * factor;
  return result;
}"""
WRONG = RIGHT.replace("total += number", "total = number")
BROKEN = RIGHT.replace("let total = 0;", "let total = ;")
CALLS = "[[1, 2], 3]\nnot a call\n[[], 1]\n[[1]]\n[[4], 0]"


def block(code: str) -> str:
    return f"```javascript\n{code}\n```"


def run(*rules: tuple[str, str], draft: str, calls: str = CALLS, **params: object) -> tuple[Translation, Asked]:
    """Let the decoder run on answers by what stands in the request."""
    listed = [Rule(pattern=pattern, answer=answer) for pattern, answer in rules]
    asked = Asked([*listed, Rule(pattern="Write . different calls", answer=calls), Rule(answer=block(draft))])
    decoder = made("code", run_code=True, **params)
    inputs = decoder_inputs(asked, task="code")
    found = decoded(decoder, [SOURCE], TranslationSystem(), inputs)[SOURCE.id]
    expected = {step.name for step in decoder.expected_steps()}
    assert {name for name, _, _ in asked.steps} <= expected
    assert (found.calls, found.tokens) == (asked.calls, asked.written)
    return found, asked


def steps(asked: Asked) -> list[str]:
    return [name for name, _, requests in asked.steps if requests]


@shut_in
def test_a_program_that_does_what_the_source_does_is_left_as_it_is() -> None:
    found, asked = run(draft=RIGHT)
    assert found.text == RIGHT
    assert steps(asked) == ["drafts", "inputs"]
    kept = "[[1, 2], 3] -> 9\n[[], 1] -> 0\n[[4], 0] -> 0"
    assert found.steps["inputs"] == f"{kept}\n(left out, as they do not fit scaled: 1)"
    assert found.steps["result"] == "3 of 3 calls as the source"


@shut_in
def test_what_does_not_compile_is_mended_by_what_the_compiler_says() -> None:
    found, asked = run(("The compiler says", block(RIGHT)), draft=BROKEN)
    assert found.text == RIGHT
    assert steps(asked) == ["drafts", "inputs", "syntax-1"]
    request = asked.steps[2][2][0].messages[0].content
    assert "SyntaxError: Unexpected token" in request
    assert BROKEN in request


@shut_in
def test_the_first_block_that_differs_is_shown_with_its_values() -> None:
    found, asked = run(("stands for this block", block(RIGHT)), ("Which blocks", "0: 0\n1: 1\n2: 2\n3: 3"), draft=WRONG)
    assert found.text == RIGHT
    assert steps(asked) == ["drafts", "inputs", "align-1", "values-1"]
    request = asked.steps[-1][2][0].messages[0].content
    assert "for (const number of numbers)" in request.split("behind this block")[1].split("stands for")[0]
    assert "Called with [[1, 2], 3] it gives 6; right is 9." in request
    assert 'the variables are {"total": 2}; right is {"total": 3}' in request


@shut_in
def test_without_success_it_is_asked_plainly_and_then_no_more() -> None:
    found, asked = run(("Which blocks", "none"), draft=WRONG, rounds=3)
    assert found.text == WRONG
    assert steps(asked) == ["drafts", "inputs", "align-1", "values-1", "plain-1"]
    assert found.steps["plain-1"].endswith("(not kept)")
    assert (
        found.steps["result"] == "1 of 3 calls as the source" or found.steps["result"] == "2 of 3 calls as the source"
    )
    assert "stands for this block" not in asked.steps[-1][2][0].messages[0].content


@shut_in
def test_a_repair_that_makes_it_worse_is_not_kept() -> None:
    found, _ = run(("does something else", block(BROKEN)), ("Which blocks", ""), draft=WRONG)
    assert found.text == WRONG
    stuck, asked = run(("does not compile", block(BROKEN + "\n")), draft=BROKEN)
    assert stuck.text == BROKEN
    assert steps(asked) == ["drafts", "inputs", "syntax-1"]
    assert stuck.steps["result"] == "does not compile"


@shut_in
@pytest.mark.skipif(bool(missing_toolchain("cpp")), reason=missing_toolchain("cpp"))
def test_a_program_that_does_not_take_the_calls_is_told_from_one_that_does_not_compile() -> None:
    source = replace(SOURCE, target_lang="cpp", declaration="double scaled(vector<double> numbers, double factor){\n")
    right = "double scaled(vector<double> numbers, double factor) {\n  return factor * accumulate(numbers.begin(), "
    other = "double scaled(string numbers, double factor) {\n  return factor;\n}"
    work = Work(source, Translation(source.id, other, 1), calls=[[[1, 2], 3]])
    done = executed(work, other)
    assert done.built
    assert "does not compile" in done.traces[0].error
    assert not executed(work, right).built  # it ends within


@shut_in
def test_without_calls_only_what_does_not_compile_is_mended() -> None:
    found, asked = run(draft=WRONG, inputs=0)
    assert (found.text, steps(asked)) == (WRONG, ["drafts"])


@shut_in
def test_calls_in_a_block_of_objects_are_made_and_those_on_which_the_source_fails_are_not_kept() -> None:
    calls = """```json
[
    {
        "numbers": [1, 2],
        "factor": 3
    },
    {
        "numbers": 7,
        "factor": 3
    },
    {
        "numbers": [4]
    }
]
```"""
    found, asked = run(("stands for this block", block(RIGHT)), ("Which blocks", ""), draft=WRONG, calls=calls)
    left_out = "(left out, as they do not fit scaled: 1)\n(left out, as the source fails on them: 1)"
    assert found.steps["inputs"] == f"[[1, 2], 3] -> 9\n{left_out}"
    assert (found.text, steps(asked)[-1]) == (RIGHT, "values-1")


@shut_in
@pytest.mark.parametrize("inputs", [0, 3])
def test_a_program_without_the_function_is_mended_by_saying_what_to_define(inputs: int) -> None:
    other = RIGHT.replace("scaled", "scaled_numbers")
    found, asked = run(("does not define scaled", block(RIGHT)), draft=other, inputs=inputs)
    assert (found.text, found.failure) == (RIGHT, "")
    assert steps(asked)[-1] == "syntax-1"
    content = next(one for name, _, one in asked.steps if name == "syntax-1")[0].messages[0].content
    assert other in content
    assert "const scaled = (numbers, factor) => {" in content
    assert "compiler" not in content
    stuck, _ = run(("does not define", "I cannot."), draft=other, inputs=inputs)
    assert (stuck.text, stuck.failure) == (other, "no_code")
    assert stuck.steps["result"] == "does not define scaled"


@shut_in
def test_a_function_that_is_there_and_does_not_compile_is_nearer_than_none() -> None:
    rules = (("does not define scaled", block(BROKEN)), ("The compiler says", block(RIGHT)))
    found, asked = run(*rules, draft="There is no program.")
    assert (found.text, steps(asked)) == (RIGHT, ["drafts", "inputs", "syntax-1", "syntax-2"])


@shut_in
def test_a_function_that_is_defined_unusually_is_there_if_it_answers() -> None:
    unusual = RIGHT.replace("const scaled =", "globalThis.scaled =")
    found, _ = run(draft=unusual)
    assert found.steps["result"] == "3 of 3 calls as the source"


def test_a_class_of_java_is_looked_for_as_well() -> None:
    source = replace(SOURCE, target_lang="java", declaration="class Solution {\n  public double scaled(int[] n) {\n")
    method = "public double scaled(int[] n) { return 1; }"
    assert lacking(source, f"class Other {{ {method} }}") == "class Solution with scaled"
    assert lacking(source, f"public class Solution {{ {method} }}") == ""
    assert lacking(source, "class Solution { }") == "scaled"


def test_alignments_are_read_strictly() -> None:
    assert read_alignment("0: 1\n1 -> 0\n7: 0\nBlock two", 3, 2) == {0: 1, 1: 0}
    assert read_alignment("They are alike.", 3, 2) == {0: 0, 1: 1}


def test_what_it_cannot_do_without_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="allow that with run_code: true"):
        made("code")
    decoder = made("code", run_code=True)
    monkeypatch.setattr("lingraft.decoders.code.missing_toolchain", lambda code: f"{code} is not there; install it")
    lacking = decoder.lacks(Surroundings(directions=[("python", "java"), ("de", "en")]))
    assert lacking == "java is not there; install it; python is not there; install it"
    monkeypatch.setattr("lingraft.decoders.code.refusal", lambda: "it cannot be shut in; take Linux")
    with pytest.raises(UsageError, match="decoder 'code': it cannot be shut in"):
        decoder.check()


@shut_in
def test_nothing_runs_where_it_cannot_be_shut_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "refusal", lambda: "it cannot be shut in; take Linux")
    other = replace(SOURCE, text=PYTHON + "# one that has not been run yet\n")
    asked = Asked([Rule(pattern="Write . different calls", answer=CALLS), Rule(answer=block(RIGHT))])
    with pytest.raises(sandbox.SandboxError, match="cannot be shut in"):
        decoded(made("code", run_code=True), [other], TranslationSystem(), decoder_inputs(asked, task="code"))


def test_calls_that_overflow_a_parameter_are_left_out() -> None:
    java = Source("t/1", "def doubled(n):\n    return 2 * n\n", "python", "java", "public int doubled(int n) {\n")
    own, theirs = [("", "n")], [("int", "n")]
    assert [fits([value], java, own, theirs) for value in (3, 2**31 - 1, 2**31, 2.5, True)] == [
        True, True, False, False, False,
    ]  # fmt: skip


@shut_in
def test_without_a_declaration_the_programs_own_parameters_tell_what_it_takes() -> None:
    source = replace(SOURCE, declaration="")
    asked = Asked([Rule(pattern="Write . different calls", answer=CALLS), Rule(answer=block(RIGHT))])
    made_of = made("code", run_code=True)
    found = decoded(made_of, [source], TranslationSystem(), decoder_inputs(asked, task="code"))[source.id]
    assert (found.steps["result"], found.outcome) == ("3 of 3 calls as the source", "calls as the source: all")
    assert "function scaled(numbers, factor)" in asked.steps[0][2][0].messages[0].content


@shut_in
def test_a_script_is_mended_until_it_compiles_and_has_no_calls() -> None:
    source = Source("t/2", "print(1)\n", "python", "javascript")
    asked = Asked([Rule(pattern="does not compile", answer="console.log(1)"), Rule(answer="console.log(1")])
    found = decoded(made("code", run_code=True), [source], TranslationSystem(), decoder_inputs(asked, task="code"))
    assert found[source.id].text == "console.log(1)"
    assert found[source.id].outcome == "compiles, no calls to compare"
    assert steps(asked) == ["drafts", "syntax-1"]
    assert "It must declare" not in asked.steps[-1][2][0].messages[0].content


@shut_in
@pytest.mark.skipif(bool(missing_toolchain("cpp")), reason=missing_toolchain("cpp"))
def test_calls_that_a_repair_does_not_take_any_more_are_failures() -> None:
    source = replace(SOURCE, declaration="", target_lang="cpp")
    work = Work(source, Translation("t/1", "", 1), calls=[[[1.5], 2]], wanted=())
    done = executed(work, "double scaled(vector<int> numbers, int factor) { return 1; }")
    assert done.built
    assert "cannot be written" in done.traces[0].error


@shut_in
@pytest.mark.skipif(bool(missing_toolchain("java")), reason=missing_toolchain("java"))
def test_java_with_a_main_of_its_own_is_called_in_its_own_class() -> None:
    program = """
    public class Main {
        static int twice(int n) { return 2 * n; }
        public static void main(String[] args) { System.out.println(Main.twice(3)); }
    }"""
    done = made_calls(program, "twice", "java", "[[4]]", ("int",))
    assert [one.result for one in done.traces] == [8], done.said
    assert defined_last(program, "java") == "twice"


@shut_in
def test_where_programs_may_run_no_longer_what_there_is_is_given() -> None:
    made_calls.cache_clear()
    with allowing(Allowance(seconds=0.0, asked=lambda: None, spent=1.0)):
        found, asked = run(draft=BROKEN)
    assert (found.text, found.failure, found.outcome) == (BROKEN, "out_of_time", "not run")
    assert steps(asked) == ["drafts", "inputs"]
