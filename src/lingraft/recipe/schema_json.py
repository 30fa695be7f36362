"""The JSON Schema of recipes, for editors: all sections, and of all that is registered the parameters of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, NoDefault

from lingraft.recipe.choices import Choice
from lingraft.recipe.overrides import SINGLE
from lingraft.recipe.registries import entries_of, said_of
from lingraft.recipe.schema import Recipe
from lingraft.training.settings import TrainSettings

Schema = dict[str, Any]

CHOICES = {
    "TunerChoice": "tuner",
    "ObjectiveChoice": "objective",
    "EngineChoice": "engine",
    "DecoderChoice": "decoder",
    "SuiteChoice": "suite",
    "MetricChoice": "metric",
    "Merge": "merger",
    "DeciderChoice": "decider",
}
"""Definitions of a thing with its parameters beside its `kind`, and of which kind of things."""

_REF = "#/$defs/"


class _Generator(GenerateJsonSchema):
    """Writes defaults that are made by a function as well, but no whole sections: their keys have their own."""

    def get_default_value(self, schema: Any) -> Any:
        value = super().get_default_value(schema)
        if value is NoDefault and not schema.get("default_factory_takes_data") and "default_factory" in schema:
            value = schema["default_factory"]()
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, BaseModel) and not isinstance(part, Choice) for part in parts):
            return NoDefault
        return value


def schema_of(model: type[BaseModel], prefix: str = "") -> Schema:
    """Return the JSON Schema of a model's keys; `prefix`: of the names of its definitions."""
    return model.model_json_schema(ref_template=f"{_REF}{prefix}{{model}}", schema_generator=_Generator)


def recipe_schema() -> Schema:
    """Return the JSON Schema (2020-12) of recipe files.

    What only a whole recipe tells, such as that a method needs prompts, it does not check.
    """
    schema = schema_of(Recipe)
    sections: dict[str, Schema] = schema["$defs"]
    sections["TrainSettings"] = schema_of(TrainSettings)
    of_entries: dict[str, Schema] = {}
    for name, kind in CHOICES.items():
        own = sections[name]["properties"]
        entries = entries_of(f"{kind}s")
        for entry_name, entry in entries.items():
            of_entries |= _entry(kind, entry_name, entry, own)
        sections[name] = _choice(kind, entries, own["kind"].get("default"), sections[name]["description"])
    merge = sections["Merge"]["else"]  # a name alone does not say what is merged
    sections["Merge"] = {**merge, "description": sections["Merge"]["description"], "type": "object"}
    sections["Merge"]["required"] = ["kind", "of"]
    for name, entry in entries_of("methods").items():
        of_entries |= _entry("method", name, entry, {})
    engines = entries_of("engines")
    for name in engines:
        judge = of_entries[f"engine.{name}"]
        model = {"type": "string", "description": "alias, path or hub id of the judge; default: the base"}
        of_entries[f"judge.{name}"] = {**judge, "properties": {"model": model, **judge["properties"]}}
    sections["JudgeChoice"] = _choice("judge", engines, None, "An engine that gives verdicts.")
    for name in ("Stage", "Compared", "StageChange"):
        _or_single(sections[name]["properties"]["objective"])
    _say_methods(sections)
    for place in SINGLE:
        *above, key = place.split(".")
        section = sections["Pairs"] if above else schema
        several = section["properties"][key]
        forms = several.pop("anyOf", [])  # where it may be null as well
        several |= next((form for form in forms if form["type"] == "array"), {})
        none = ["null"] if forms else []
        single = {"if": {"type": "object"}, "then": several["items"], "else": {"items": several.pop("items")}}
        section["properties"][key] = {**several, "type": [*none, "array", "object"], **single}
    given = sections["GivenGraft"]
    several = {"if": {"type": "array"}, "then": {"items": {"type": "string", "minLength": 1}}, "else": given}
    sections["GivenGraft"] = {**_or_name(several, {"minLength": 1}), "type": ["string", "object", "array"]}
    schema["$defs"] = dict(sorted(sections.items())) | dict(sorted(of_entries.items()))
    engines_in(schema)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe of Lingraft"}
    return dict(_untitled(title | {key: value for key, value in schema.items() if key != "title"}))


def _entry(kind: str, name: str, entry: Any, beside: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the definitions of a registered thing's parameters, and of what they hold.

    Args:
        kind: of the registry, such as "method".
        name: registered name.
        entry: what is registered.
        beside: keys that stand beside the parameters, `kind` among them.
    """
    prefix = f"{kind}.{name}"
    found = schema_of(entry.Params, f"{prefix}.")
    inner = found.pop("$defs", {})
    own = {key: {"const": name} if key == "kind" else value for key, value in beside.items()}
    found |= {"description": said_of(entry), "properties": {**own, **found.get("properties", {})}}
    return {prefix: found, **{f"{prefix}.{key}": value for key, value in inner.items()}}


def _choice(kind: str, names: Iterable[str], default: str | None, description: str) -> Schema:
    """Return the definition of a thing by its name alone, or by `kind` with its parameters."""
    names = list(names)
    asked = {"enum": names, **({"default": default} if default else {}), "description": f"which {kind}"}
    cases = _where("kind", {name: {"$ref": f"{_REF}{kind}.{name}"} for name in names}, default)
    chosen = {"properties": {"kind": asked}, **cases}
    if not default:
        chosen["required"] = ["kind"]
    return {"description": description, **_or_name(chosen, {"enum": names})}


def _or_name(section: Schema, of_name: Schema) -> Schema:
    """Return a section that may be given as a plain name as well."""
    return {"type": ["string", "object"], "if": {"type": "string"}, "then": of_name, "else": section}


def _or_single(several: Schema) -> None:
    """Let a single entry of a list of things named by `kind` stand without the list."""
    forms = several.pop("anyOf", None) or [{"type": several.pop("type"), "items": several.pop("items")}]
    listed = next(form for form in forms if form.get("type") == "array")
    several["anyOf"] = [listed["items"], *forms]


def _where(key: str, schemas: Mapping[str, Schema], default: str | None) -> Schema:
    """Return a schema that is that of a name where a key holds the name, or has it by default."""
    cases = [
        {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": then}
        for name, then in schemas.items()
    ]
    if default:
        cases.append({"if": {"not": {"required": [key]}}, "then": schemas[default]})
    return {"allOf": cases}


def _say_methods(sections: dict[str, Schema]) -> None:
    """Say which methods there are and which parameters each has, in the sections that name a method."""
    names = list(entries_of("methods"))

    params = {name: {"properties": {"params": {"$ref": f"{_REF}method.{name}"}}} for name in names}
    for name in ("Beside", "Stage", "Compared"):
        section = sections[name]
        asked = section["properties"]["method"]
        asked.pop("type")
        asked |= {"enum": [*names, *([""] if asked.get("default") == "" else [])]}
        if name != "Beside":
            listed = {"if": {"type": "string"}, "then": {"enum": asked.pop("enum")}, "else": {"minItems": 1}}
            listed["else"]["items"] = _or_name({"$ref": f"{_REF}MethodOfSeveral"}, {"enum": names})
            asked |= {"type": ["string", "array"], **listed}
        sections[name] = {**section, **_where("method", params, asked.get("default"))}
    several = sections["Beside"]
    sections["MethodOfSeveral"] = {**several, "required": ["method"], "description": "The first has no share."}
    for name in ("Compared", "StageChange"):
        train = sections[name]["properties"]["train"]
        sections[name]["properties"]["train"] = {"$ref": f"{_REF}TrainSettings", "description": train["description"]}
    sections["Compared"] = _or_name(sections["Compared"], {"enum": names})


def engines_in(node: Any) -> None:
    """Put the definition of engines and metrics where a parameter says that it holds one (`holds`)."""
    if isinstance(node, dict):
        held = node.get("holds")
        if isinstance(held, str):  # else a parameter of that name
            del node["holds"]
            names = {"judge": "JudgeChoice", "metric": "MetricChoice"}
            target = {"$ref": f"{_REF}{names.get(held, 'EngineChoice')}"}
            for form in node.get("anyOf", [node]):
                if form.get("type") == "object":
                    form.pop("additionalProperties", None)
                    form |= {"required": ["kind"], **target} if held != "judge" else target
                    if held == "judge":
                        form.pop("type")
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        engines_in(value)


def _untitled(node: Any, name: str = "") -> Any:
    """Return a schema without the titles that only repeat the names of keys."""
    if isinstance(node, dict):
        named = name in ("properties", "$defs") or "$schema" in node
        return {key: _untitled(value, key) for key, value in node.items() if named or key != "title"}
    return [_untitled(value) for value in node] if isinstance(node, list) else node
