"""Programs that call a function with given arguments and say, in JSON, what it returns and what its variables hold.

The same for Python, Java, C++ and JavaScript, so that two programs can be compared by what they do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lingraft.core.toolchains import toolchain
from lingraft.language.code_blocks import Block, blocks_of, with_values
from lingraft.language.literals import literal
from lingraft.language.programs import JAVA_IMPORTS, USUAL_HEADERS, without_public

FAILED = "(no value: it failed)"
MARK = "@@said "
_TEXTS = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_BODY = re.compile(r"\s*(?:const\b\s*)?(?:noexcept\b\s*)?(?:throws\s+[\w., ]+)?\{")
"""What stands behind the parameters where a function of Java or C++ is defined."""
_MOST_LINES = 400
"""Lines of values that a program may say; output is bounded as well."""


@dataclass(frozen=True)
class Trace:
    """What one call did. `result`: of JSON, or `FAILED` with the `error`; `values`: (block, variable -> value)."""

    result: Any
    error: str = ""
    values: tuple[tuple[int, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True)
class Calls:
    """What a program did. `built`: whether it compiles; `said`: by the compiler, or at its end; `traces`: by call;
    `defined`: whether the function is in it, as far as this was looked for."""

    built: bool
    said: str
    traces: tuple[Trace, ...] = ()
    blocks: tuple[Block, ...] = field(default=())
    defined: bool = True


def declared(code: str, name: str) -> list[tuple[str, str, str]]:
    """Return (type, name, default) of a function's parameters as far as they are written: where it is defined last,
    else from the last place of its name before a bracket."""
    pattern = rf"(\bdef\s+|\bfunction\s*\*?\s*)?\b{re.escape(name)}\b(\s*=?\s*(?:async\s*)?(?:function\s*\w*\s*)?)\("
    read: list[str] | None = None
    for found in reversed(list(re.finditer(pattern, code))):
        parts, behind = _bracketed(code[found.end() :])
        if found[1] or "=" in found[2] or _BODY.match(behind):
            return [_parameter(part) for part in parts]
        read = parts if read is None else read
    return [_parameter(part) for part in read or []]


def _bracketed(rest: str) -> tuple[list[str], str]:
    """Return what commas part before the bracket is closed that was opened before, and what stands behind it."""
    bare = _TEXTS.sub(lambda one: "_" * len(one[0]), rest)  # what stands in a default's quotes parts nothing
    depth, place, parts, begin = 1, 0, [], 0
    while place < len(bare) and depth:
        depth += {"(": 1, "[": 1, "<": 1, "{": 1, ")": -1, "]": -1, ">": -1, "}": -1}.get(bare[place], 0)
        if depth == 0 or (bare[place] == "," and depth == 1):
            parts.append(rest[begin:place])
            begin = place + 1
        place += 1
    return [part for part in parts if part.strip()], rest[place:]


def parameters(code: str, name: str) -> list[tuple[str, str]]:
    """Return the (type, name) of a function's parameters, see `declared`."""
    return [(kind, own) for kind, own, _ in declared(code, name)]


def _parameter(part: str) -> tuple[str, str, str]:
    written, _, default = part.partition("=")
    bare, default = written.strip(), default.strip()
    if ":" in bare and "::" not in bare:
        name, _, kind = bare.partition(":")
        return kind.strip(), name.strip(), default
    kind, _, name = bare.rpartition(" ")
    kind = f"{kind} {'*' if name.startswith('*') else ''}"
    kind = re.sub(r"\b(?:const|final)\b|&", " ", kind)
    return " ".join(kind.split()), name.lstrip("&*"), default


_PYTHON = f"""
import json as said_json, sys as said_sys
said_lines = 0
def said_line(kind, value):
    global said_lines
    said_lines += 1
    if said_lines <= {_MOST_LINES} or kind != "values":
        said_sys.stderr.write("\\n{MARK}" + kind + " " + value + "\\n")
def said_text(value):
    def plain(one):
        return sorted(one, key=repr) if isinstance(one, (set, frozenset)) else None
    try:
        return said_json.dumps(value, default=plain)
    except Exception:
        return "null"
def said_values(block, values):
    kept = {{k: said_json.loads(said_text(v)) for k, v in values.items() if not k.startswith("_") and not callable(v)}}
    said_line("values", said_text([block, kept]))
"""
_JAVASCRIPT = f"""
let said_lines = 0
const said_line = (kind, value) => {{ said_lines += 1
  if (said_lines <= {_MOST_LINES} || kind !== "values")
    process.stderr.write("\\n{MARK}" + kind + " " + value + "\\n") }}
const said_text = (v) => {{ const t = JSON.stringify(v, (k, x) => x instanceof Set ? [...x] :
  x instanceof Map ? Object.fromEntries(x) : typeof x === "bigint" ? Number(x) : x)
  return t === undefined ? "null" : t }}
const said_values = (block, values) => {{ try {{ said_line("values", said_text([block, values])) }} catch (e) {{ }} }}
"""
_CPP = """
#include <type_traits>
static std::string said_quoted(const std::string& s) { std::string o = "\\""; for (char c : s) {
  if (c == '"' || c == '\\\\') { o += '\\\\'; o += c; } else if (c == '\\n') o += "\\\\n";
  else o += (unsigned char)c < 32 ? ' ' : c; } return o + "\\""; }
template<class T, class = void> struct said_range : std::false_type {};
template<class T> struct said_range<T, std::void_t<decltype(std::declval<const T&>().begin())>> : std::true_type {};
template<class T> struct said_pair : std::false_type {};
template<class A, class B> struct said_pair<std::pair<A, B>> : std::true_type {};
template<class T> std::string said_text(const T& v) {
  if constexpr (std::is_same_v<T, bool>) return v ? "true" : "false";
  else if constexpr (std::is_same_v<T, char>) return said_quoted(std::string(1, v));
  else if constexpr (std::is_arithmetic_v<T>) { std::ostringstream o; o << std::setprecision(12) << v; return o.str(); }
  else if constexpr (std::is_convertible_v<T, std::string>) return said_quoted(std::string(v));
  else if constexpr (said_pair<T>::value) return "[" + said_text(v.first) + "," + said_text(v.second) + "]";
  else if constexpr (said_range<T>::value) { std::string o = "["; for (const auto& x : v) { if (o.size() > 1) o += ",";
    o += said_text(x); } return o + "]"; }
  else return "null"; }
static int said_lines = 0;
static void said_block(int n) { if (++said_lines <= MOST) std::cerr << "\\nMARKblock " << n << std::endl; }
template<class T> void said_one(const char* name, const T& v) { if (said_lines <= MOST)
  std::cerr << "\\nMARKvalue " << "[\\"" << name << "\\"," << said_text(v) << "]" << std::endl; }
""".replace("MOST", str(_MOST_LINES)).replace("MARK", MARK)
_JAVA = """
  static int lines = 0;
  static String text(Object v) {
    if (v == null || v instanceof Boolean || v instanceof Number) return String.valueOf(v);
    if (v instanceof Collection) { StringJoiner j = new StringJoiner(",", "[", "]");
      for (Object x : (Collection<?>) v) j.add(text(x)); return j.toString(); }
    if (v.getClass().isArray()) { StringJoiner j = new StringJoiner(",", "[", "]");
      for (int i = 0; i < java.lang.reflect.Array.getLength(v); i++) j.add(text(java.lang.reflect.Array.get(v, i)));
      return j.toString(); }
    if (v instanceof Map) { StringJoiner j = new StringJoiner(",", "{", "}");
      for (Map.Entry<?, ?> e : ((Map<?, ?>) v).entrySet())
        j.add(quoted(String.valueOf(e.getKey())) + ":" + text(e.getValue()));
      return j.toString(); }
    if (v instanceof Optional) return text(((Optional<?>) v).orElse(null));
    return quoted(String.valueOf(v)); }
  static String quoted(String s) {
    return "\\"" + s.replace("\\\\", "\\\\\\\\").replace("\\"", "\\\\\\"").replace("\\n", "\\\\n") + "\\""; }
  static void said_values(int block, Object... pairs) { if (++lines > MOST) return;
    StringJoiner j = new StringJoiner(",", "{", "}");
    for (int i = 0; i < pairs.length; i += 2) j.add(quoted((String) pairs[i]) + ":" + text(pairs[i + 1]));
    System.err.println("\\nMARKvalues [" + block + "," + j + "]"); }
""".replace("MOST", str(_MOST_LINES)).replace("MARK", MARK)


def caller(code: str, name: str, language: str, calls: Sequence[Sequence[Any]], kinds: Sequence[str]) -> str:
    """Return a program that makes the calls one after another, each within what catches its failure.

    Args:
        code: defines the function, as it is or `with_values`.
        name: of the function.
        language: of the code.
        calls: arguments of each call, as JSON has them; `literal` takes them all.
        kinds: types of the parameters, of Java and C++.
    """

    def written(call: Sequence[Any]) -> list[str]:
        return [literal(value, kind, language) for value, kind in zip(call, [*kinds, *[""] * len(call)], strict=False)]

    if language == "python":
        lines = [f"for said_call in {[list(call) for call in calls]!r}:\n"]
        body = (
            "    said_line('call', '')\n    try:\n"
            f"        said_line('result', said_text({name}(*said_call)))\n"
            "    except BaseException as said_error:\n"
            "        said_line('error', said_text(type(said_error).__name__ + ': ' + str(said_error)[:200]))\n"
        )
        return f"{_PYTHON}\n{code}\n{lines[0]}{body}"
    if language == "javascript":
        made = "\n".join(
            f"said_line('call', ''); try {{ said_line('result', said_text({name}({', '.join(written(call))}))) }} "
            f"catch (e) {{ said_line('error', said_text(String(e).slice(0, 200))) }}"
            for call in calls
        )
        return f"{_JAVASCRIPT}\n{code}\n;{made}\n"
    if language == "cpp":
        made = "\n".join(_cpp_call(name, written(call), kinds) for call in calls)
        own = f"#define main the_codes_own_main\n{code}\n#undef main\n"
        return f"{USUAL_HEADERS}{_CPP}\n{own}int main() {{\n{made}\n}}\n"
    owner = _java_class(code, name)
    made = "\n".join(
        f'    System.err.println("\\n{MARK}call "); try {{ System.err.println("\\n{MARK}result " + '
        f"text(new {owner}().{name}({', '.join(written(call))}))); }} catch (Throwable e) {{ "
        f'System.err.println("\\n{MARK}error " + quoted(String.valueOf(e))); }}'
        for call in calls
    )
    main = f"public class Main {{\n{_JAVA}\n  public static void main(String[] args) {{\n{made}\n  }}\n}}\n"
    return f"{JAVA_IMPORTS}{without_public(code)}\n{main}"


def _java_class(code: str, name: str) -> str:
    """Return the class that a method is in, as far as text tells."""
    if re.search(r"\bclass\s+Solution\b", code):
        return "Solution"
    found = re.search(rf"[\w\]>]\s+{re.escape(name)}[ \t]*\(", code)
    before = re.findall(r"\bclass\s+(\w+)", code[: found.start()] if found else code)
    return str(before[-1]) if before else "Solution"


def _cpp_call(name: str, values: Sequence[str], kinds: Sequence[str]) -> str:
    """Return a call whose arguments are variables: a parameter may be a reference."""
    given = " ".join(f"{kind} said_{n} = {text};" for n, (kind, text) in enumerate(zip(kinds, values, strict=False)))
    names = ", ".join(f"said_{n}" for n in range(len(values)))
    return (
        f'std::cerr << "\\n{MARK}call " << std::endl; try {{ {given} const auto said_r = {name}({names}); '
        f'std::cerr << "\\n{MARK}result " << said_text(said_r) << std::endl; }} '
        f'catch (...) {{ std::cerr << "\\n{MARK}error \\"exception\\"" << std::endl; }}'
    )


@lru_cache(maxsize=4096)
def made_calls(code: str, name: str, language: str, calls: str, kinds: tuple[str, ...], traced: bool = False) -> Calls:
    """Make calls of a program's function in the sandbox.

    Args:
        code: the program.
        name: of its function.
        language: of the program.
        calls: arguments of each call, a JSON list of lists.
        kinds: types of the parameters as the program declares them, of Java and C++.
        traced: whether values of variables are said at the end of each block.

    Raises:
        SandboxError: the machine does not allow the sandbox.
        UsageError: it lacks what runs the language.
    """
    given = json.loads(calls)
    if language == "java" and re.search(r"\bclass\s+Main\b", code):  # the name of the class that calls
        code = re.sub(r"\bMain\b", "TheCodesOwnMain", code)
    blocks = blocks_of(code, name, language) if traced else []
    names = [one for _, one in parameters(code, name)]
    shown = with_values(code, name, language, blocks, names) if traced else code
    execution = toolchain(language).run(caller(shown, name, language, given, kinds))
    said = execution.last.stderr
    if not execution.built:
        return Calls(False, said)
    traces = _traces(said, len(given))
    rest = "\n".join(line for line in said.splitlines() if line and not line.startswith(MARK))
    return Calls(True, rest or execution.last.why, tuple(traces), tuple(blocks))


def compiled(code: str, language: str) -> Calls:
    """Run a program as it is, with nothing called, and say whether it compiles.

    Args:
        code: the program.
        language: that it is written in.

    Raises:
        SandboxError: the machine does not allow the sandbox.
        UsageError: it lacks what runs the language.
    """
    execution = toolchain(language).run(without_public(code) if language == "java" else code)
    return Calls(execution.built, "" if execution.built else execution.last.stderr)


def _traces(said: str, count: int) -> list[Trace]:
    found: list[dict[str, Any]] = []
    for line in said.splitlines():
        if not line.startswith(MARK):
            continue
        kind, _, text = line[len(MARK) :].partition(" ")
        if kind == "call":
            found.append({"result": FAILED, "error": "it ended", "values": []})
        elif found:
            _read(found[-1], kind, text)
    traces = [Trace(one["result"], one["error"], tuple((n, v) for n, v in one["values"])) for one in found[:count]]
    return [*traces, *[Trace(FAILED, "it ended before this call")] * (count - len(traces))]


def _read(call: dict[str, Any], kind: str, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if kind == "result":
        call.update(result=value, error="")
    elif kind == "error":
        call.update(error=str(value))
    elif kind == "block" and isinstance(value, int):
        call["values"].append((value, {}))
    elif kind == "value" and isinstance(value, list) and call["values"]:
        call["values"][-1][1][str(value[0])] = value[1]
    elif kind == "values" and isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        call["values"].append((int(value[0]), value[1]))


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same in JSON, numbers to six digits; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
