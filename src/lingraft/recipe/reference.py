"""The reference of all keys of a recipe in Markdown, made from the schema: docs/recipe.md."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from lingraft.recipe.keys import Parameter, parameters
from lingraft.recipe.listing import list_entries
from lingraft.recipe.registries import PLACES
from lingraft.recipe.schema_json import CHOICES, recipe_schema

WIDTH = 120
_HEAD = """\
# Keys of a recipe

A recipe is one YAML file that says everything about a run: [README](../README.md) has one. `lingraft
init demo recipe.yaml` copies a shipped recipe to edit, comments kept; `lingraft show recipe.yaml` prints a recipe with
every default filled in. A key that does not exist, or a value that cannot be, is refused with its line, before anything
starts. On the command line a key is written with dots, entries of a list by number: `stages.0.train.epochs=2`.

This page is made from the program (`lingraft schema --markdown`); `lingraft list methods radis` shows a part of it.

## In an editor

[recipe.schema.json](recipe.schema.json) is the JSON Schema of recipes. An editor that knows it completes keys, explains
them and underlines what is wrong. For the [YAML language server](https://github.com/redhat-developer/yaml-language-server)
(VS Code's YAML extension, Neovim, Emacs, Helix) write the schema of your own installation, plugins included, and name
it in the first line of a recipe:

```console
$ lingraft schema > recipe.schema.json
```

```yaml
# yaml-language-server: $schema=recipe.schema.json
name: my-run
```

The path counts from the recipe; a URL will do as well. VS Code can be told once for all recipes of a project, in
`.vscode/settings.json`:

```json
{"yaml.schemas": {"./recipe.schema.json": ["recipes/*.yaml"]}}
```

JetBrains' editors take the file under Languages & Frameworks > Schemas and DTDs > JSON Schema Mappings. What only the
whole recipe or its files tell (a method that needs prompts, a file that is not there) `lingraft run recipe.yaml
--dry-run` says.

"""


def reference() -> str:
    """Return the page: the sections of a recipe in their order, then what is registered, with parameters."""
    schema = recipe_schema()
    definitions = schema["$defs"]
    places = _places(schema)
    anchors = {name: _anchor(_title(found)) for name, found in places.items()}

    def named(name: str) -> str:
        kind = "engine" if name == "JudgeChoice" else CHOICES.get(name)
        if kind:
            return f"[{kind}](#{kind}s)"
        if name in anchors:
            return f"[{'mapping' if name == 'TrainSettings' else 'keys'}](#{anchors[name]})"
        return "mapping"

    parts = [_HEAD, "## The recipe\n\n", *_items(parameters(schema, named))]
    for name, found in places.items():
        section = _section(definitions[name])
        parts += [
            f"\n## {_title(found)}\n\n",
            _filled(section["description"]),
            "\n",
            *_items(parameters(section, named)),
        ]
    for kinds in PLACES:
        kind = kinds.removesuffix("s")
        if kind not in _HOW:  # no key of a recipe names it
            continue
        parts.append(f"\n## {kinds.capitalize()}\n\n{_filled(_HOW[kind])}")
        for entry in list_entries(kinds):
            paper = "" if entry.paper.startswith("none") else entry.paper
            said = f"{entry.summary.rstrip('.')}. {f'({paper})' if paper else ''}"
            parts.append(f"\n### {entry.name}\n\n{_filled(said)}")
            beside = ("kind", "name", "retains", "systems", "of", "sweep")
            own = [one for one in parameters(definitions[f"{kind}.{entry.name}"], named) if one.name not in beside]
            parts += ["\n", *_items(own)] if own else ["\nIt has no parameters.\n"]
    return "".join(parts)


_HOW = {
    "method": "What `method` of a stage, of `beside` and of `compare` names; its parameters stand under `params`.",
    "tuner": "What `tuner` names: `lora`, or `{kind: lora, rank: 8}` with its parameters beside its kind.",
    "objective": "What entries of `objective` name, as tuners are named: `{kind: eaft}`, or `eaft` alone. Several may "
    "stand in one list, each kind once.",
    "decider": "What `by` of an entry of `evaluate.route` names: it tells whether graft or base answers a request. See "
    "[routing.md](routing.md).",
    "decoder": "What entries of `evaluate.decoders` name. Beside its parameters each has a `name`, which stands behind "
    "that of the weights, and `systems`: whose weights it asks, by default all that are measured (further seeds, other "
    "scales and earlier stages only where they are named). See [decoders.md](decoders.md).",
    "engine": "What `engine`, `evaluate.engine`, a translator or a judge names, as tuners are named. A judge may have "
    "a `model` of its own. See [engines.md](engines.md).",
    "suite": "What entries of `evaluate.retention.suites` name. Beside its parameters each has a `name`, by which "
    "several of one kind are told apart, and `retains`: with `false` its scores are only shown. See "
    "[measures.md](measures.md).",
    "metric": "What entries of `evaluate.translation.metrics` name. Beside its parameters each has a `name`, by which "
    "several of one kind are told apart. See [measures.md](measures.md).",
    "merger": "What entries of `merge` name by `kind`. Beside its parameters each has `of`: what is merged, in order, "
    "by names of systems of the recipe (trained ones, given grafts, entries before it), `base`, or paths of grafts, of "
    "runs with one, or of whole models, which have a slash; a `name` for the report, by default its kind; and "
    "`sweep`: parameters with several values each, `{strength: [0.25, 0.5]}`, which is one system for each "
    "combination. See [merging.md](merging.md).",
}


def _places(schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the sections below the recipe with all keys that hold them, in the order in which they are met."""
    found: dict[str, list[str]] = {}

    def visit(node: Any, place: str) -> None:
        name = node.get("$ref", "").rpartition("/")[2]
        if name in CHOICES or name in ("JudgeChoice", "MethodOfSeveral") or "." in name:
            return
        if name:
            found.setdefault(name, []).append(place)
            if len(found[name]) == 1:
                for key, part in _section(schema["$defs"][name]).get("properties", {}).items():
                    visit(part, f"{place}.{key}")
            return
        for part in [*node.get("anyOf", ()), *(node[key] for key in ("then", "items", "else") if key in node)]:
            visit(part, place)
        if isinstance(node.get("additionalProperties"), dict):
            visit(node["additionalProperties"], f"{place}.NAME")

    for key, part in schema["properties"].items():
        visit(part, key)
    return {name: list(dict.fromkeys(places)) for name, places in found.items()}


def _section(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the long form of a section that has a short one."""
    if "properties" in definition:
        return definition
    return {"description": definition.get("description", ""), **definition["else"]}


def _title(places: list[str]) -> str:
    return ", ".join(f"`{place}`" for place in places)


def _anchor(title: str) -> str:
    """Return the anchor that Markdown makes of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _items(keys: list[Parameter]) -> Iterator[str]:
    for key in keys:
        facts = [key.form]
        facts += ["required"] if key.required else []
        facts += [f"default `{key.default}`"] if key.default else []
        said = f": {key.description}" if key.description else ""
        yield _filled(f"- **`{key.name}`** ({'; '.join(facts)}){said}", "  ")


def _filled(text: str, indent: str = "") -> str:
    paragraphs = [" ".join(part.split()) for part in re.sub(r"<(?=[\w/])", r"\<", text).split("\n\n")]
    return "\n".join(
        textwrap.fill(part, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + "\n"
        for part in paragraphs
    )
