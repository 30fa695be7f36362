"""The keys of a section of a recipe, or the parameters of what it names, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_WORDS = {"string": "text", "boolean": "true or false", "object": "mapping"}


@dataclass(frozen=True)
class Parameter:
    """One key of a section, or parameter of an entry.

    Attributes:
        form: the values it takes, in words.
        default: as YAML; empty where there is none, or what it is says it.
        required: whether it has to be given.
    """

    name: str
    form: str
    default: str
    description: str
    required: bool = False


def parameters(schema: Mapping[str, Any], named: Callable[[str], str]) -> list[Parameter]:
    """Return the keys of a section of the recipe's schema, in its order.

    Args:
        schema: of the section, as JSON Schema.
        named: how the text of a form refers to a definition of the schema, by its name.
    """
    required = schema.get("required", ())
    return [
        Parameter(
            name, form(part, named), default(part), " ".join(part.get("description", "").split()), name in required
        )
        for name, part in schema.get("properties", {}).items()
    ]


def form(schema: Mapping[str, Any], named: Callable[[str], str]) -> str:
    """Return the values that a JSON Schema of a recipe's key allows, in words."""
    if "$ref" in schema:
        return named(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        *others, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(others)} or {last}" if others else last
    if "anyOf" in schema:
        return " or ".join(form(part, named) for part in schema["anyOf"] if part.get("type") != "null")
    kinds = schema.get("type")
    if isinstance(kinds, list):  # a short form beside the long one
        return f"{form(schema['then'], named)}, or a list of them" if kinds[-1] == "object" else "a name, or a list"
    if kinds == "array":
        return f"list: {form(schema.get('items', {}), named)}"
    if kinds in ("integer", "number"):
        bounds = [f"{sign} {schema[key]:,}" for key, sign in _BOUNDS.items() if key in schema]
        return " ".join(["whole number" if kinds == "integer" else "number", " and ".join(bounds)]).strip()
    return _WORDS.get(str(kinds), "anything")


def default(schema: Mapping[str, Any]) -> str:
    """Return the default of a key as YAML, things that have only a kind by that; empty where there is none."""
    value = schema.get("default")
    if value in (None, "", [], {}):
        return ""
    if "\n" in str(value) or "\\n" in str(value):
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(_short(value), default_flow_style=True, width=10_000, allow_unicode=True)
    return str(text).removesuffix("\n...\n").strip()


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, dict) and "kind" in value and all(key in ("name", "kind", "retains") for key in value):
        return value["kind"]
    return value
