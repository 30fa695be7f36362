"""Chat templates of strangers, run in bounded work and memory.

A template is a program. jinja2's sandbox keeps it from the machine, not from running for ever or filling the memory.
Here every pass of a loop, call, filter and operator is charged for before it is done, by what it may cost; a template
that spends more than a conversation can need is refused. What is counted does not depend on the machine, so that a
template is refused always or never. What templates render is unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import BuiltinMethodType
from typing import Any

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import _PassArg
from jinja2.visitor import NodeTransformer

MAX_TEMPLATE = 256 * 1024
"""Characters; the largest known have 40,000."""
MAX_TEXT = 8_000_000
"""Characters of any text, and entries of any list: a longer conversation fits no model."""
WORK = 5_000_000
"""Units of some tenths of a microsecond; a turn of a usual template takes some hundreds."""
WORK_OF_CHARACTER = 50
MAX_WIDTH = 1000
MAX_BITS = 4096
MAX_LEVELS = 100
_PER_UNIT = 20  # characters that are copied for a unit
_OF_ENTRY = 8  # characters that an entry of a list costs as much as
_WORK = " work"  # of a context; no name in a template has a blank

_FILTERS = frozenset(
    "abs attr capitalize count d default dictsort e escape first float forceescape format groupby indent int items "  # noqa: SIM905
    "join last length list lower map max min reject rejectattr replace reverse round safe select selectattr sort "
    "string sum title trim truncate unique upper urlencode wordcount batch center slice pprint xmlattr".split()
)
_FLAT = frozenset("attr count d default first items last length list map reject rejectattr reverse select".split())  # noqa: SIM905
"""Filters that look at no entries, or one by one."""
_BY_ENTRY = frozenset(
    ("map", "reject", "rejectattr", "select", "selectattr", "groupby", "unique", "sort", "sum", "max", "min")
)
_METHODS = frozenset(
    "capitalize casefold count endswith find get index isalnum isalpha isascii isdecimal isdigit isidentifier islower "  # noqa: SIM905
    "isnumeric isprintable isspace istitle isupper items join keys lower lstrip partition removeprefix removesuffix "
    "replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper values "
    "format format_map copy center ljust rjust zfill is_integer bit_length".split()
)
_WIDENING = ("batch", "center", "indent", "ljust", "rjust", "round", "slice", "tojson", "zfill")
_WIDE = re.compile(r"%[^a-zA-Z%]*(\*|\d{4})|\{[^}]*:[^}]*(\{|\d{4})")


class TooMuch(TemplateError):
    """A template wants to do more than any conversation needs."""


class RenderingBudget:
    """What a rendering may still do."""

    def __init__(self, characters: int) -> None:
        self.left = WORK + WORK_OF_CHARACTER * characters

    def charge(self, units: int) -> None:
        """Spend units."""
        self.left -= units
        if self.left < 0:
            raise TooMuch("it does far more than a conversation needs")

    def fits(self, size: int) -> None:
        """Refuse a text or list that is too long, before it is made; else charge for it."""
        if size > MAX_TEXT:
            raise TooMuch("it makes a text or list that is far too long")
        self.charge(1 + size // _PER_UNIT)

    def flat(self, value: Any) -> None:
        """Charge for a value by its length."""
        if isinstance(value, str):
            self.fits(len(value))
        elif isinstance(value, list | tuple | dict | range):
            self.fits(len(value) * _OF_ENTRY)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise TooMuch("it makes a number that is far too long")

    def deep(self, value: Any) -> int:
        """Charge for a value with all that it holds, as often as it does; return its characters."""
        if isinstance(value, str):
            self.fits(len(value))
            return len(value)
        size, level = 0, [value]
        for _ in range(MAX_LEVELS):
            below: list[Any] = []
            for one in level:
                if isinstance(one, str):
                    size += len(one)
                elif isinstance(one, dict):
                    self.charge(4 * len(one))
                    below += [*one, *one.values()]
                elif isinstance(one, list | tuple):
                    self.charge(4 * len(one))
                    below += one
                else:
                    self.flat(one)
            if not below:
                self.fits(size)
                return size
            level = below
        raise TooMuch("it nests lists too deeply")


def _work(context: Context) -> RenderingBudget:
    found: RenderingBudget = context.parent[_WORK]
    return found


class _Charging(NodeTransformer):
    """Puts what is to be charged for into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        cost = nodes.Const(_cost(node.body))
        self.generic_visit(node)
        if node.test is None:
            node.body.insert(0, nodes.ExprStmt(_filter(nodes.Const(None), "_tick", cost)))
        else:  # asked for each entry, also for those that are left out
            node.test = nodes.And(_filter(nodes.Const(None), "_tick", cost), node.test)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        cost = nodes.Const(_cost(node.body))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filter(nodes.Const(None), "_tick", cost)))
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self.visit_Macro(node)  # type: ignore[arg-type]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _charged(node.expr, "_weighed")
        for operand in node.ops:
            operand.expr = _charged(operand.expr, "_weighed")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _charged(node.node, "_measured")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_charged(each, "_weighed") for each in node.nodes]
        return node


def _filter(node: nodes.Expr, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None)


def _charged(node: nodes.Expr, name: str) -> nodes.Expr:
    return node if isinstance(node, nodes.TemplateData | nodes.Const) else _filter(node, name)


def _cost(body: list[nodes.Node]) -> int:
    """Return the units of a pass through some nodes, those of loops within it included once."""
    cost, waiting = 10, list(body)
    while waiting:
        node = waiting.pop()
        cost += 3 + (len(node.data) // 10 if isinstance(node, nodes.TemplateData) else 0)
        waiting += node.iter_child_nodes()
    return cost


class _Generation(Extension):
    """The block `{% generation %}`, which marks answers for training elsewhere, as if it were not there."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


@pass_context
def _tick(context: Context, _: Any, cost: int) -> bool:
    _work(context).charge(cost)
    return True


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    _work(context).deep(value)
    return value


@pass_context
def _measured(context: Context, value: Any) -> Any:
    _work(context).flat(value)
    return value


@pass_context
def _joined(context: Context, values: list[Any]) -> str:
    _work(context).deep(values)
    return "".join(map(str, values))


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: Any = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter or test that charges for what it is given and for what it makes."""
    wanted = _PassArg.from_obj(function)

    @pass_context
    def counted(context: Context, *values: Any, **named: Any) -> Any:
        work = _work(context)
        work.charge(10)
        if (
            values
            and not isinstance(values[0], str | list | tuple | dict | int | float)
            and hasattr(values[0], "__next__")
        ):
            values = (_passing(work, values[0]), *values[1:])
        for value in (*values, *named.values()):
            work.flat(value) if name in _FLAT else work.deep(value)
        if name in _BY_ENTRY and isinstance(values[0], list | tuple | dict | range):
            work.charge(10 * len(values[0]))
        _check_growth(work, name, values, named)
        first = {
            _PassArg.context: context,
            _PassArg.eval_context: context.eval_ctx,
            _PassArg.environment: context.environment,
        }
        result = function(*([first[wanted]] if wanted else []), *values, **named)
        work.flat(result)
        return result

    return counted


def _passing(work: RenderingBudget, values: Any) -> Any:
    for value in values:
        work.charge(5)
        yield value


def _check_growth(work: RenderingBudget, name: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Refuse what makes a long text of short ones, before it does."""
    if name in ("replace", "join", "format"):
        _check_text(work, name, str(values[0]) if name != "join" else "", values[0:1] if name == "join" else values[1:])
        return
    if name in _WIDENING:
        widths = [value for value in (*values[1:], *named.values()) if isinstance(value, int)]
        if any(abs(width) > MAX_WIDTH for width in widths):
            raise TooMuch("it asks for a text that is far too wide")
        if name in ("indent", "tojson", "center"):
            text = values[0]
            lines = 1 + text.count("\n") if isinstance(text, str) else work.deep(text) + 1
            work.fits(lines * max(widths, default=1))
    if name == "sum" and any(isinstance(value, list | tuple | str) for value in (*values[1:], *named.values())):
        raise TooMuch("it adds up lists")


def _check_text(work: RenderingBudget, name: str, text: str, given: tuple[Any, ...]) -> None:
    """The same of methods of texts."""
    if name == "replace" and len(given) > 1:
        old, new = str(given[0]), str(given[1])
        work.fits(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    elif name == "join" and given and isinstance(given[0], list | tuple):
        work.fits(work.deep(given[0]) + len(text) * len(given[0]))
    elif (
        any(isinstance(width, int) and width > MAX_WIDTH for width in given)
        if name in _WIDENING
        else name in ("format", "format_map") and _WIDE.search(text)
    ):
        raise TooMuch("it asks for a text that is far too wide")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """jinja2's sandbox with the filters and functions that chat templates have in transformers, each charged for."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControls])
        known: dict[str, Any] = {name: self.filters[name] for name in _FILTERS if name in self.filters} | {
            "tojson": _tojson
        }
        self.filters = {name: _counted(name, function) for name, function in known.items()}
        self.filters |= {"_tick": _tick, "_weighed": _weighed, "_measured": _measured, "_joined": _joined}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: _counted(name, function) for name, function in tests.items()}
        self.globals["raise_exception"] = _raise_exception
        self.globals.pop("lipsum")

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        return super()._generate(_Charging().visit(source), *arguments, **named)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what an operator makes, having charged for it before."""
        work = _work(context)
        work.charge(1)
        if operator == "%" and isinstance(left, str):
            if _WIDE.search(left):
                raise TooMuch("it asks for a text that is far too wide")
            work.fits(len(left) + work.deep(right) * (1 + left.count("%")))
        elif operator in ("*", "**"):
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    work.fits(len(one) * max(other, 0))
            if isinstance(left, int) and isinstance(right, int):
                bits = left.bit_length() * (abs(right) if operator == "**" else 1)
                if bits + (right.bit_length() if operator == "*" else 0) > MAX_BITS:
                    raise TooMuch("it makes a number that is far too long")
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            work.fits(len(left) + len(right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function or a method that templates may have, having charged for it before."""
        work = _work(__context)
        work.charge(10)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(__obj, BuiltinMethodType) or name in ("format", "format_map"):
            if name not in _METHODS:
                raise SecurityError(f"{name} is not for chat templates")
            if name == "join" and args and not isinstance(args[0], str):
                args = (list(_passing(work, args[0])), *args[1:])
            for value in (owner, *args, *kwargs.values()):
                work.flat(value) if isinstance(owner, dict | list) else work.deep(value)
            if isinstance(owner, str):
                _check_text(work, name, owner, args)
        else:
            for value in (*args, *kwargs.values()):
                work.flat(value)
        result = super().call(__context, __obj, *args, **kwargs)
        work.flat(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what formats in place of a text's own method, None for other methods."""
        found = super().wrap_str_format(value)
        if found is not None and _WIDE.search(value.__self__):
            raise TooMuch("it asks for a text that is far too wide")
        return found


@lru_cache(64)
def _compiled(source: str) -> Template:
    if len(source) > MAX_TEMPLATE:
        raise TooMuch(f"it has more than {MAX_TEMPLATE:,} characters")
    return BoundedEnvironment().from_string(source)


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Return what a chat template makes of its variables, as transformers would.

    Raises:
        TooMuch: it wants to do more than a conversation can need.
        Exception: whatever else the template raises.
    """
    template = _compiled(source)
    probe = RenderingBudget(0)
    probe.left = MAX_TEXT * 10
    work = RenderingBudget(probe.deep(dict(variables)))
    parts: list[str] = []
    size = 0
    for part in template.generate({**variables, _WORK: work}):
        size += len(part)
        if size > MAX_TEXT:
            raise TooMuch("it writes a text that is far too long")
        parts.append(part)
    return "".join(parts)
