"""The README of an exported model: how it is asked, and where a translation ends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lingraft.core.printable import fence, inline_code, markdown
from lingraft.core.validation import HUB_ID
from lingraft.data.records import Message
from lingraft.language.codes import base_language, language_name
from lingraft.models.architectures import Loading
from lingraft.models.files import ALIASES
from lingraft.models.graft import GraftInfo
from lingraft.rendering.renderer import Renderer
from lingraft.translation.wording import ask

_METHODS = re.compile(r" > |\+| & ")
"""Between the names of several methods: one after another, beside each other, of grafts that were added."""


def method_tags(method: str) -> list[str]:
    """Return the names of all methods in what a graft calls its method, each once: tags of a card."""
    return list(dict.fromkeys(name.strip() for name in _METHODS.split(method) if name.strip()))


def front_text(values: Mapping[str, Any]) -> str:
    """Return the front matter that the hub reads, between its two `---` lines."""
    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}---"


def exported_card(
    info: GraftInfo,
    graft: Path,
    renderer: Renderer,
    *,
    name: str,
    dtype: str,
    warnings: Sequence[str],
    loading: Loading,
    licence: Mapping[str, str],
) -> str:
    """Return the model card of a merged model as Markdown with the hub's YAML front matter.

    Args:
        info: of the graft.
        graft: its folder, whose card has what was measured.
        renderer: of its prompts.
        name: of the model.
        dtype: of its weights.
        warnings: what a user should know.
        loading: how programs open it.
        licence: keys of the front matter about that of the base, as far as it is known.
    """
    lines = [
        card_front(info, "transformers", licence),
        f"# {markdown(name)}",
        f"{described(info)}, merged into one model in {dtype}.",
        "## Use",
        fence(asking_program(info, renderer, loading), "python"),
    ]
    if info.delimiter:
        lines.append(
            f"The translation comes first in the answer and ends at {inline_code(info.delimiter)}; what follows is no "
            f"part of it."
        )
    if info.stop:
        lines.append(f"Let a server stop there: {inline_code({'stop': info.stop})}.")
    if info.chat == "tcot":
        lines.append(
            "Conversations go through English, in one turn with markers, which are special tokens: ask a server for "
            "them (`skip_special_tokens: false`), show what follows the last marker, and pass on earlier turns in "
            "English."
        )
    lines += warnings
    if results := card_results(graft):
        lines.append(results)
    return "\n\n".join(lines) + "\n"


def card_front(info: GraftInfo, library: str, licence: Mapping[str, Any]) -> str:
    """Return the hub's front matter of a graft that is one model with its base.

    Args:
        info: of the graft.
        library: that opens the model, as the hub calls it.
        licence: see `exported_card`.
    """
    base = _base(info)
    codes = dict.fromkeys(base_language(code) for one in info.directions for code in (one.source, one.target))
    return front_text(
        {
            **({"base_model": base, "base_model_relation": "finetune"} if base else {}),
            "library_name": library,
            "pipeline_tag": "text-generation",
            "language": list(codes),
            **licence,
            "tags": list(dict.fromkeys(["translation", "lingraft", *method_tags(info.method)])),
        }
    )


def described(info: GraftInfo) -> str:
    """Return the beginning of a sentence that says what base and graft are."""
    base = _base(info)
    pairs = ", ".join(f"{language_name(one.source)} to {language_name(one.target)}" for one in info.directions)
    method = inline_code(info.method)
    adds = f"adds translation ({markdown(pairs)}; method {method})" if pairs else f"was trained by {method}"
    name = f", {inline_code(base)}," if base else ""
    return f"A base{name} (sha256 {inline_code(info.base_sha256)}) and a graft that {adds}"


def _base(info: GraftInfo) -> str:
    base = ALIASES[info.base_id].hub_id if info.base_id in ALIASES else info.base_id
    return base if re.fullmatch(HUB_ID, base) else ""  # of older versions, a folder


def asking_lines(variables: Mapping[str, Any], opening: str) -> str:
    """Return the lines of a program that make `inputs` of `messages`, as they were rendered in training.

    Args:
        variables: of the chat template.
        opening: see `Renderer.opening`.
    """
    given = "".join(f", {name}={value!r}" for name, value in variables.items())
    if not opening:
        return (
            "inputs = tokenizer.apply_chat_template(\n"
            f'    messages, add_generation_prompt=True{given}, return_dict=True, return_tensors="pt"\n'
            ")"
        )
    return (
        f"prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True{given}, tokenize=False)\n"
        f'inputs = tokenizer(prompt + {opening!r}, add_special_tokens=False, return_tensors="pt")'
    )


def asking_program(info: GraftInfo | None, renderer: Renderer, loading: Loading) -> str:
    """Return a program that asks a model for a translation, or, of one that is no graft's (None), anything."""
    template = renderer.template
    asked: Sequence[Message] = (Message("user", "..."),)
    if info is not None and info.directions:
        first = info.directions[0]
        asked = ask(info.instruction, "...", first.source, first.target)
    messages = [template.given(message) for message in asked]
    delimiter = info.delimiter if info is not None else None
    cut = f".split({json.dumps(delimiter, ensure_ascii=False)})[0]" if delimiter else ""
    return f"""\
from transformers import {loading.kind}, AutoTokenizer

model = "path/to/model"  # the folder of this card, or its repository on the hub
tokenizer = AutoTokenizer.from_pretrained(model)
model = {loading.kind}.from_pretrained(model{loading.arguments('dtype="auto"')}).eval()

messages = {json.dumps(messages, ensure_ascii=False, indent=4)}  # "..." is the text
{asking_lines(template.variables, renderer.opening)}
output = model.generate(**inputs, max_new_tokens=256, do_sample=False)
answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
print(answer{cut}.strip())
"""


def card_results(graft: Path) -> str:
    """Return what the graft's own card says was measured; "" where there is none."""
    path = graft / "README.md"
    text = path.read_text("utf-8") if path.is_file() else ""
    found = re.search(r"^## Results\n.*?(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
    return f"{found[0].strip()}\n\nMeasured with the graft beside its base." if found else ""
