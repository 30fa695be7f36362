"""YAML as plain values, strictly: no tags that build objects, no key twice, no aliases that unfold without end."""

from __future__ import annotations

import re
from typing import Any

import yaml

from lingraft.core.errors import UsageError, first_line

MAX_NODES = 100_000
MAX_DIGITS = 400
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_NUMBERS = {"tag:yaml.org,2002:int": _INT, "tag:yaml.org,2002:float": _FLOAT}


class _Loader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 does: 1e3 is one; 010 is not 8 and 1:30 is not 90, which nobody means."""


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list("-+0123456789."))
    _Dumper.add_implicit_resolver(_tag, _pattern, list("-+0123456789."))


class Lines:
    """On which lines of a YAML text its keys stand."""

    def __init__(self, root: yaml.Node | None = None) -> None:
        self._root = root

    def of(self, key: str) -> int | None:
        """Return the line, from 1, of a dotted key of a recipe, or of what it is missing in; None: of the whole."""
        node, line, rest = self._root, None, key
        while rest:
            first, _, after = rest.partition(".")
            if isinstance(node, yaml.MappingNode):
                # Keys may hold dots themselves; the last one holds where a merge brings another
                known = [(name, value) for name, value in node.value if f"{rest}.".startswith(f"{name.value}.")]
                if known:
                    name, node = max(reversed(known), key=lambda entry: len(entry[0].value))
                    line, rest = name.start_mark.line + 1, rest[len(name.value) + 1 :]
                elif first == "0":  # a single entry without its list
                    rest = after
                else:
                    break
            elif isinstance(node, yaml.SequenceNode) and first.isdecimal() and int(first) < len(node.value):
                node, rest = node.value[int(first)], after
                line = node.start_mark.line + 1
            else:
                break
        return line


def plain_values(text: str, where: str) -> Any:
    """Return the plain values of a YAML text that is no file, such as an override; see `values_and_lines`."""
    return values_and_lines(text, where, numbered=False)[0]


def values_and_lines(text: str, where: str, numbered: bool = True) -> tuple[Any, Lines]:
    """Return the plain values of a YAML text, aliases as separate copies, and the lines of its keys.

    Args:
        text: YAML of one document; an empty one has the value None.
        where: it stands, for messages.
        numbered: whether messages name lines.

    Raises:
        UsageError: not YAML, a key given twice, or aliases that unfold to more than a recipe can hold.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, Lines()
        _weigh(node, {})
        return _unshared(loader.construct_document(node)), Lines(node)
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if numbered and error.problem_mark else ""
        raise UsageError(f"{where}{place}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: not a recipe: nested too deeply") from error
    # PyYAML lets the errors of its converters out: dates that do not exist, `!!bool x`, `!!timestamp x`, ...
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise UsageError(f"{where}: not valid YAML: {first_line(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


def yaml_text(values: Any) -> str:
    """Return plain values as YAML that `plain_values`, and readers of YAML 1.1, read back as they are."""
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def _weigh(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return how many values a YAML node stands for when its aliases are written out, before any is built."""
    if node not in known:
        known[node] = MAX_NODES  # an alias to what holds it would never end
        children: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode):
            if any("\ud800" <= character <= "\udfff" for character in node.value):  # by an escape: no file can hold it
                raise yaml.MarkedYAMLError(problem="half of a character (a surrogate)", problem_mark=node.start_mark)
            if node.tag.endswith((":int", ":float")) and len(node.value) > MAX_DIGITS:  # 1:1:1... takes quadratic time
                problem = f"a number of over {MAX_DIGITS} digits"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            node.value = [(_as_text(key), value) for key, value in node.value]
            children = [part for entry in node.value for part in entry]
            given: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if (key.tag, key.value) in given:
                        problem = f"the key {key.value!r} is given twice"
                        raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                    given.add((key.tag, key.value))
        known[node] = 1 + sum(_weigh(child, known) for child in children)
    if known[node] > MAX_NODES:
        raise yaml.MarkedYAMLError(problem="it unfolds to too many values", problem_mark=node.start_mark)
    return known[node]


def _as_text(key: yaml.Node) -> yaml.Node:
    """Return a key as it is written where YAML 1.1 takes it for a truth value: `on`, or Norwegian, `no`."""
    if isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:bool":
        return yaml.ScalarNode("tag:yaml.org,2002:str", key.value, key.start_mark, key.end_mark)
    return key


def _unshared(value: Any) -> Any:
    """Copy lists and mappings, so that an override of one does not change what was written as an alias of it."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value
