"""The card of a graft as its repository on the hub has it: with the repository's own name in its programs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from lingraft.core.errors import StoreError, first_line
from lingraft.models.exported_card import front_text, method_tags
from lingraft.reporting.card_metadata import problems_of

_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
_GRAFT = re.compile(r'^graft = ".*"(?:  #.*)?$', re.MULTILINE)
_BASE = re.compile(r'^base = "path/to/base"(?:  #.*)?$', re.MULTILINE)
_COMMAND = re.compile(r"^(lingraft (?:translate|chat) --graft) (?:'[^'\n]*'|\S+)( --model path/to/base)?", re.MULTILINE)
_DOWNLOAD = re.compile(r"^hf download .* --local-dir .*\n", re.MULTILINE)


def card_of(
    text: str,
    repository: str,
    base_model: str,
    licence: Mapping[str, str],
    index: list[dict[str, Any]],
    method: str,
) -> str:
    """Return a card for the hub; what was edited by hand stays.

    Args:
        text: of the run's card.
        repository: `org/name`.
        base_model: hub id of the base; "": as the card has it.
        licence: keys of the front matter about it, as `base_license` has them; none: as the card has them.
        index: the results, see `model_index`.
        method: name of the method, or of several.

    Raises:
        StoreError: it has no front matter, or one that the hub would not take.
    """
    found = _FRONT.match(text)
    try:
        values = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        raise StoreError(f"the front matter of the card is no YAML ({first_line(error)}); mend README.md") from error
    if found is None or not isinstance(values, dict):
        raise StoreError("the card begins with no front matter between two lines `---`; mend README.md")
    own = [
        tag for tag in values.get("tags") or [] if tag not in (method, f"base_model:adapter:{values.get('base_model')}")
    ]
    if base_model:
        values = {"base_model": base_model, **{key: value for key, value in values.items() if key != "base_model"}}
    if licence or values.get("license") == "other":  # of an older version, for every base
        values = {key: value for key, value in values.items() if not key.startswith("license")} | dict(licence)
    named = [f"base_model:adapter:{values['base_model']}"] if values.get("base_model") else []
    values["tags"] = list(dict.fromkeys([*own, *named, *method_tags(method)]))
    if index:
        values["model-index"] = index
    if problems := problems_of(values):
        raise StoreError(f"the hub would not take the card: {'; '.join(problems[:3])}; mend README.md of the graft")
    body = _DOWNLOAD.sub("", text[found.end() :])
    body = _GRAFT.sub(lambda _: f"graft = {json.dumps(repository)}", body)
    if base_model:
        body = _BASE.sub(lambda _: f"base = {json.dumps(base_model)}", body)
    body = _COMMAND.sub(lambda one: f"{one[1]} {shlex.quote(repository)}{'' if base_model else one[2] or ''}", body)
    return f"{front_text(values)}\n{body}"
