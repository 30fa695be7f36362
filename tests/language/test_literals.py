"""JSON values as literals: what a parameter's type cannot hold has none, in place of a wrong one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from lingraft.core import sandbox
from lingraft.core.toolchains import missing_toolchain
from lingraft.language.code_calls import made_calls
from lingraft.language.literals import literal

INF = math.inf


@pytest.mark.parametrize(
    ("value", "kind", "language"),
    [
        (2**31, "int", "java"),
        (-(2**31) - 1, "Integer", "java"),
        (2**63, "long", "java"),
        (200, "byte", "java"),
        ([1, 2**40], "List<Integer>", "java"),
        ([2**31], "int[]", "java"),
        (2**70, "Object", "java"),
        (2.5, "int", "java"),
        (True, "int", "java"),
        (1, "boolean", "java"),
        ("ab", "char", "java"),
        ("", "char", "java"),
        ("1", "int", "java"),
        (5, "String", "java"),
        (5, "List<Integer>", "java"),
        (None, "int", "java"),
        (2**31, "int", "cpp"),
        (2**63, "long long", "cpp"),
        (-1, "size_t", "cpp"),
        (2**32, "unsigned int", "cpp"),
        ([[1], [2**31]], "vector<vector<int>>", "cpp"),
        ([2**64], "auto", "cpp"),
        (2.5, "int", "cpp"),
        (True, "int", "cpp"),
        ("ab", "char", "cpp"),
        ("\u00fc", "char", "cpp"),
        (5, "std::string", "cpp"),
        ({"1": 2}, "map<int, int>", "cpp"),
        ([1, 2, 3], "pair<int, int>", "cpp"),
        (10**400, "double", "cpp"),
        (2**53, "", "javascript"),
        ([[-(2**53)]], "", "javascript"),
        (1e300, "float", "java"),
        (1e-60, "Float", "java"),
        ([1e300], "vector<float>", "cpp"),
        (300, "uint8_t", "cpp"),
        (-1, "long unsigned int", "cpp"),
        (200, "signed char", "cpp"),
        (2**40, "optional<int>", "cpp"),
        (5, "Optional<Integer>", "java"),
        ([5], "Deque<Integer>", "java"),
        ("\ud800", "String", "java"),
        (["\udfff"], "Object", "java"),
        ("\ud800", "char", "java"),
        ("a\ud800", "string", "cpp"),
        ({"\ud800": 1}, "map<string, int>", "cpp"),
        (INF, "", "python"),
        ([{"a": -INF}], "", "python"),
        ([math.nan], "double[]", "java"),
        (INF, "double", "cpp"),
    ],
)
def test_what_a_type_cannot_hold_has_no_literal(value: Any, kind: str, language: str) -> None:
    with pytest.raises(ValueError):
        literal(value, kind, language)


@pytest.mark.parametrize(
    ("value", "kind", "language", "written"),
    [
        (2**31 - 1, "int", "java", "2147483647"),
        (-(2**31), "int", "java", "-2147483648"),
        (2**31, "long", "java", "2147483648L"),
        (2**31, "Object", "java", "2147483648L"),
        (3, "short", "java", "(short) 3"),
        (2.0, "int", "java", "2"),
        (2, "double", "java", "2.0"),
        (None, "Integer", "java", "null"),
        ([1.5], "java.util.List<Double>", "java", "new ArrayList<>(Arrays.<Double>asList(1.5))"),
        (["a"], "Set<String>", "java", 'new HashSet<>(Arrays.<String>asList("a"))'),
        ([[1], []], "int[][]", "java", "new int[][]{new int[]{1}, new int[]{}}"),
        (0.1, "float", "java", "0.1f"),
        (3e38, "float", "cpp", "3e+38"),
        (0, "float", "java", "0.0f"),
        (255, "unsigned char", "cpp", "255"),
        (2**63, "long unsigned int", "cpp", "9223372036854775808ULL"),
        (2**40, "optional<long>", "cpp", "1099511627776"),
        (2**40, "long long", "cpp", "1099511627776"),
        (-(2**63), "int64_t", "cpp", "(-9223372036854775807LL - 1)"),
        (2**63, "std::uint64_t", "cpp", "9223372036854775808ULL"),
        ([2**60 + 1, 1], "vector<double>", "cpp", "{1.152921504606847e+18, 1.0}"),
        ([1, "a"], "std::pair<int, std::string>", "cpp", '{1, "a"}'),
        ({"a": [1]}, "map<string, vector<int>>", "cpp", '{{"a", {1}}}'),
        ("\x01\\u0001", "string", "cpp", '"\\001\\\\u0001"'),
        ("x", "char", "cpp", "char(120)"),
        (2**53 - 1, "", "javascript", "9007199254740991"),
        (2**70, "", "python", str(2**70)),
    ],
)
def test_what_it_can_hold_is_written(value: Any, kind: str, language: str, written: str) -> None:
    assert literal(value, kind, language) == written


CPP = "string f(long long a, vector<double> b, string c) { return to_string(a) + to_string(b.size()) + c; }"


@pytest.mark.skipif(bool(sandbox.refusal() or missing_toolchain("cpp")), reason="no sandbox, or no C++ here")
def test_the_ends_of_a_type_compile() -> None:
    calls = [[-(2**63), [2**60 + 1], "\x01"], [2**63 - 1, [], "\\u0001"]]
    done = made_calls(CPP, "f", "cpp", json.dumps(calls), ("long long", "vector<double>", "string"))
    assert done.built
    assert [one.result for one in done.traces] == ["-92233720368547758081 ", "92233720368547758070\\u0001"]
