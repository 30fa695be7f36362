"""A graft of an adapter that another program has trained: its weights as they are, its base, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from lingraft.core.errors import ModelError, UsageError, setting
from lingraft.core.hub import commit_of
from lingraft.core.strangers import copy_file, from_strangers, parsed, read_bytes, read_object, shown
from lingraft.language.codes import language
from lingraft.models.adapter import changes_nothing
from lingraft.models.adapter_config import FITTING
from lingraft.models.adapter_files import WEIGHTS, read_adapter, split
from lingraft.models.base_copies import base_copies, check_copies
from lingraft.models.bases import graft_base_id
from lingraft.models.files import ModelFiles, find_model, local_path
from lingraft.models.graft import FILE, SCHEMA, GraftInfo, check_fit, find_graft, name_base, write_info
from lingraft.models.graft_seal import ADAPTER
from lingraft.models.loading import load_renderer
from lingraft.rendering.renderer import Renderer
from lingraft.store.publishing import new_folder, refuse_existing
from lingraft.translation.wording import DEFAULT, check_wording

METHOD = "adopted"
_TEMPLATE = "chat_template.jinja"
_PICKLE = "adapter_model.bin"
_FORMAT = {"format": "pt"}
"""What PEFT notes in its files of weights."""


def directions(
    source: str | Sequence[str], target: str | Sequence[str], *, both: bool = False
) -> list[tuple[str, str]]:
    """Return directions of translation, each once.

    Args:
        source: code of the language of the sources; several: of each direction.
        target: that of the targets, likewise.
        both: whether the opposite directions belong to them.

    Raises:
        UsageError: no known language, other numbers of sources than of targets, or one language twice.
    """
    sources, targets = (
        [language(one) for one in ([side] if isinstance(side, str) else side)] for side in (source, target)
    )
    if len(sources) != len(targets) or not sources:
        raise UsageError(
            f"{setting('source')} names {len(sources)} languages and {setting('target')} {len(targets)}; give both for "
            f"each direction"
        )
    for one, other in zip(sources, targets, strict=True):
        if one == other:
            raise UsageError(f"{setting('source')} and {setting('target')} are both {one!r}; give two languages")
    found = list(zip(sources, targets, strict=True))
    return list(dict.fromkeys([*found, *((other, one) for one, other in found if both)]))


def adopt_adapter(
    adapter: Path,
    out: Path,
    *,
    directions: Sequence[tuple[str, str]],
    base: str | None = None,
    instruction: str = DEFAULT,
    stop: Sequence[str] = (),
    template: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a graft of a PEFT adapter; the adapter's folder is left as it is.

    Args:
        adapter: folder of the adapter: LoRA or SHiRA, as safetensors.
        out: folder to write, which must not exist yet.
        directions: codes of the languages that it was trained to translate from and to.
        base: alias, folder or hub id of its base; None: the one that `adapter_config.json` names.
        instruction: wording of the translation requests that it was trained on, see `check_wording`.
        stop: strings at which a translation ends.
        template: variables that the chat template was given in training.

    Returns:
        `folder`, `base` (its name), `base_sha256`, `layers` that the adapter changes, `notes`: what a user should know.

    Raises:
        UsageError: `out` exists, it is a graft already, or the wording cannot be filled in.
        ModelError: no adapter, a damaged one, of another kind, one that changes nothing, or one that fits no base that
            was found.
        StoreError: it cannot be written.
    """
    refuse_existing(out)
    check_wording(instruction)
    if (find_graft(adapter) / FILE).exists():
        raise UsageError(f"{adapter} is a graft already, which every command takes as it is; adopt a plain adapter")
    if not (adapter / ADAPTER[0]).is_file():
        inner = next((path.parent for path in sorted(adapter.glob(f"*/{ADAPTER[0]}"))), None)
        hint = f"; did you mean {inner}?" if inner else "; give the folder that has it"
        raise ModelError(f"{adapter} holds no PEFT adapter: it has no {ADAPTER[0]}{hint}")
    if not (adapter / ADAPTER[1]).is_file() and (adapter / _PICKLE).is_file():
        raise ModelError(
            f"{adapter / _PICKLE} is a pickle, which may hold a program; load the adapter in PEFT where you trust it, "
            f"and write it with `save_pretrained(FOLDER, safe_serialization=True)`"
        )
    config, weights = read_adapter(adapter)
    if changes_nothing(config, weights):
        raise ModelError(
            f"the adapter in {adapter} changes nothing, all its updates are zero; adopt one that is trained"
        )
    files, copies = _base_of(adapter, base), base_copies(config, weights)
    renderer = load_renderer(files, template)
    asked: dict[str, Any] = {
        "schema": SCHEMA,
        "method": METHOD,
        "instruction": instruction,
        "stop": list(stop),
        "directions": [{"source": source, "target": target} for source, target in directions],
        "base_id": graft_base_id(files),
        "base_sha256": files.sha256,
        "template": dict(template) if template else None,
        "params": {"adapter": str(commit_of(adapter) or adapter.resolve().name)},
    }
    try:
        info = parsed(GraftInfo, asked)
    except ValueError as error:
        raise UsageError(f"a graft cannot be asked so: {error}") from error
    with new_folder(out) as partial:
        for name in ADAPTER:
            copy_file(adapter / name, partial / name)
        if copies:
            # They say nothing more than `base_sha256`, and may be gigabytes.
            save_file({name: one for name, one in weights.items() if name not in copies}, partial / WEIGHTS, _FORMAT)
        name_base(partial, info.base_id)
        write_info(partial, info)
        try:
            check_fit(files, renderer, partial)
        except ModelError as error:
            said = str(error).replace(str(partial), str(adapter)).removesuffix(f"; {FITTING}")
            raise ModelError(f"{said}; was it trained on another base than {files.name}? Give that one") from error
        if copies:
            check_copies(files, copies, f"the adapter in {adapter}")
    return {
        "folder": str(out),
        "base": files.name,
        "base_sha256": files.sha256,
        "layers": len({split(name)[0] for name in weights if name not in copies}),
        "notes": _notes(adapter, renderer, instruction),
    }


def _base_of(adapter: Path, given: str | None) -> ModelFiles:
    """Return the base of an adapter: the one that is given, else the one that the adapter names.

    Raises:
        ModelError: it names none, or the one that it names is not found.
    """
    if given is not None:
        return find_model(given)
    path = adapter / ADAPTER[0]
    with from_strangers(f"{path} is damaged", "copy it anew"):
        named = read_object(path).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"{path} does not name the base of the adapter; give it with --model")
    if local_path(named) is None and (named.count("/") != 1 or named.startswith((".", "/", "~"))):
        raise ModelError(f"{path} names {shown(named)} as its base, which is not on this machine; give it with --model")
    return find_model(named)


def _notes(adapter: Path, renderer: Renderer, instruction: str) -> list[str]:
    found = []
    if instruction == DEFAULT:
        found.append(
            f"it is asked in Lingraft's own wording, {DEFAULT!r}; if it was trained on another, give that: "
            f"{setting('instruction')}"
        )
    own = adapter / _TEMPLATE
    if own.is_file() and read_bytes(own).decode("utf-8", "replace").strip() != _template_of(renderer).strip():
        found.append(
            f"beside the adapter lies a {_TEMPLATE} that is not its base's; prompts are made by the base's, so that "
            f"base and graft are asked alike"
        )
    return found


def _template_of(renderer: Renderer) -> str:
    template = renderer.tokenizer.chat_template
    return template if isinstance(template, str) else ""
