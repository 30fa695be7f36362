"""YAML as plain values, strictly: no tags that build objects, no key twice, no aliases that unfold without end."""

from __future__ import annotations

from typing import Any

import yaml

from lingraft.errors import UsageError, first_line

MAX_NODES = 100_000
MAX_DIGITS = 400


def plain_values(text: str, where: str) -> Any:
    """Return the plain values of a YAML text, aliases as separate copies.

    Raises:
        UsageError: not YAML, a key given twice, or aliases that unfold to more than a recipe can hold.
    """
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _weigh(node, {})
        return _unshared(loader.construct_document(node))
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UsageError(f"{where}: {place}not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: not a recipe: nested too deeply") from error
    # PyYAML lets the errors of its converters out: dates that do not exist, `!!bool x`, `!!timestamp x`, ...
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise UsageError(f"{where}: not valid YAML: {first_line(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _weigh(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return how many values a YAML node stands for when its aliases are written out, before any is built."""
    if node not in known:
        known[node] = MAX_NODES  # an alias to what holds it would never end
        children: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode):
            if node.tag.endswith((":int", ":float")) and len(node.value) > MAX_DIGITS:  # 1:1:1... takes quadratic time
                problem = f"a number of over {MAX_DIGITS} digits"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
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


def _unshared(value: Any) -> Any:
    """Copy lists and mappings, so that an override of one does not change what was written as an alias of it."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value
