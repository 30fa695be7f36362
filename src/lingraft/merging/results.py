"""What comes of merging, on the disk: a graft of whole layers, or a model of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lingraft.core.environment import versions
from lingraft.core.errors import ModelError
from lingraft.core.strangers import copy_file, read_object
from lingraft.merging.card import merged_card
from lingraft.merging.plan import Plan
from lingraft.merging.sources import Checkpoint
from lingraft.merging.tensor_file import torch_type
from lingraft.merging.weight_files import INDEX, MODEL, SHARD, Progress, write_rearranged, write_weights
from lingraft.models.adapter_files import PREFIX, WEIGHTS
from lingraft.models.bases import public_id, without_folders
from lingraft.models.files import load_tokenizer
from lingraft.models.graft import FILE, GraftInfo, name_base, write_info
from lingraft.models.hashes import model_files
from lingraft.models.vocabulary import Vocabulary, tokenizer_files
from lingraft.store.files import write_atomic, write_json

KINDS = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


def write_graft(plan: Plan, folder: Path, note: Path, progress: Progress) -> int:
    """Write what comes of merging as a graft: whole layers in place of the base's, float32.

    It is asked as the first of the grafts is, which is told in its `lingraft.json`; directions and stop strings are
    those of all.

    Args:
        plan: which has a graft, and one vocabulary.
        folder: to write into.
        note: of how far the weights are.
        progress: told how many of how many weights are done.

    Returns:
        Numbers that were written.
    """
    from peft import LoraConfig
    from peft.utils.constants import DUMMY_TARGET_MODULES

    layout = plan.layout
    owners = _outermost({layout.owner(one) for name in plan.changed for one in layout.aliases[name]})
    inside = {name: one for one, name in layout.names.items() if _within(layout.owner(one), owners)}
    # A layer is kept with all of its weights, and a weight under each of its names, as PEFT writes and reads it.
    names = [one for first in layout.shapes if first in inside for one in layout.aliases[first]]
    tied = len(layout.aliases[layout.embedding]) > 1 and layout.embedding in inside
    head = {layout.owner(one) for one in layout.aliases[layout.embedding][1:]} if tied else set()
    buffers = [one for one in layout.buffers if _within(layout.owner(one), owners)]
    shapes = {one: plan.shapes[layout.names[one]] for one in names} | {one: layout.buffers[one] for one in buffers}
    tensors = {f"{PREFIX}{one}": ("F32", shape) for one, shape in shapes.items()}
    firsts = [*(layout.names[one] for one in names), *buffers]
    write_weights(plan, folder / WEIGHTS, tensors, firsts, note, progress)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=1,
        lora_alpha=1,
        target_modules=DUMMY_TARGET_MODULES,  # no layer has a low-rank update
        modules_to_save=sorted(owners - head),
        ensure_weight_tying=tied,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    name_base(folder, public_id(plan.base.files))
    if plan.vocabulary is not None:
        plan.vocabulary.copy_to(folder)
    write_info(folder, described(plan))
    return sum(torch.Size(shape).numel() for _, shape in tensors.values())


def _outermost(layers: set[str]) -> set[str]:
    """Return the layers that are not within another of them."""
    return {one for one in layers if not any(one.startswith(f"{other}.") for other in layers if other != one)}


def _within(layer: str, owners: set[str]) -> bool:
    return layer in owners or any(layer.startswith(f"{owner}.") for owner in owners)


def described(plan: Plan) -> GraftInfo:
    """Return what a merged graft says about itself."""
    infos = [info for _, info in plan.grafts]
    directions = list({(one.source, one.target): one for info in infos for one in info.directions}.values())
    own = {"kind": plan.merger.name, **plan.merger.params.model_dump(mode="json")}
    named = " & ".join(dict.fromkeys(info.method for info in infos))
    # It may go on behind a translation as any of them does, and then ends where that one ends.
    stop = list(dict.fromkeys(text for info in infos for text in info.stop))
    return infos[0].model_copy(
        update={
            "method": f"{plan.merger.name}({named})"[:200],
            "directions": directions,
            "stop": stop[:64],
            "delimiter": next((info.delimiter for info in infos if info.delimiter), None),
            "params": without_folders({**own, "of": [one.label for one in plan.models]}),
            "versions": versions(),
            "adapter_sha256": None,
        }
    )


def write_checkpoint(
    plan: Plan, folder: Path, note: Path, progress: Progress, dtype: str = "", shard: int = SHARD
) -> int:
    """Write what comes of merging as a model of its own.

    Tokenizer, chat template and configuration are the base's, or those of the model that the merger says it is asked
    as. Where grafts are among the models, `lingraft.json` says how to ask it, as in an exported model.

    Args:
        plan: what is merged.
        folder: to write into.
        note: of how far the weights are.
        progress: told how many of how many weights are done.
        dtype: of the weights, "bf16", "fp16" or "fp32"; "" keeps that of each of the base's weights.
        shard: bytes of a file of weights, at most, unless one weight alone has more.

    Returns:
        Numbers that were written.
    """
    kinds = {name: kind_of(plan, name, dtype) for name in plan.shapes}
    if plan.base.rearranged:
        write_rearranged(plan, folder, kinds, note.parent, progress, shard)
    else:
        tensors = {plan.base.stored(name): (kinds[name], shape) for name, shape in plan.shapes.items()}
        write_weights(plan, folder / MODEL, tensors, list(plan.shapes), note, progress, dict(plan.base.others()), shard)
    _write_descriptions(plan, folder, dtype)
    info = described(plan) if plan.grafts and not plan.merger.asked_as_last else None
    if info is not None:
        write_atomic(folder / FILE, info.model_dump_json(by_alias=True, indent=2) + "\n")
    write_atomic(folder / "README.md", merged_card(plan, folder, info))
    return sum(torch.Size(shape).numel() for shape in plan.shapes.values())


def kind_of(plan: Plan, name: str, dtype: str) -> str:
    """Return the type in which a checkpoint has a weight, as safetensors calls it; see `write_checkpoint`."""
    return KINDS[dtype] if dtype else plan.base.kinds[name]


def rounded(plan: Plan, name: str, dtype: str) -> torch.Tensor:
    """Return a weight of the result as a checkpoint has it, in float32 again."""
    return plan.weight(name).to(torch_type(kind_of(plan, name, dtype))).float()


def _write_descriptions(plan: Plan, folder: Path, dtype: str) -> None:
    """Write configuration, tokenizer and chat template."""
    first, last = plan.models[0], plan.models[-1]
    source = last if plan.merger.asked_as_last and plan.rows is None else first if plan.rows is not None else plan.base
    source = source if isinstance(source, Checkpoint) else plan.base
    for path in model_files(source.files.folder):
        if path.suffix != ".safetensors" and path.name != INDEX:
            copy_file(path, folder / path.name)
    vocabulary = plan.vocabulary or (Vocabulary.in_folder(Path(first.label)) if plan.rows is not None else None)
    for path in tokenizer_files(vocabulary.folder) if vocabulary is not None else ():
        copy_file(path, folder / path.name)
    _write_config(plan, folder, dtype)
    if plan.rows is not None and isinstance(last, Checkpoint):
        _ask_as(last, folder)


def _write_config(plan: Plan, folder: Path, dtype: str) -> None:
    values = read_object(folder / "config.json")
    rows = plan.shapes[plan.layout.embedding][0]
    for part in _parts(values):
        if "vocab_size" in part:
            part["vocab_size"] = rows
        for key in ("dtype", "torch_dtype"):
            if dtype and key in part:
                part[key] = str(torch_type(KINDS[dtype])).removeprefix("torch.")
    write_json(folder / "config.json", values)


def _parts(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a configuration, and that of the language model within it."""
    yield values
    if isinstance(values.get("text_config"), dict):
        yield values["text_config"]


def _ask_as(chat: Checkpoint, folder: Path) -> None:
    """Give a model whose vocabulary is another the chat template of a chat model, and its end of an answer."""
    tokenizer, theirs = load_tokenizer(folder), load_tokenizer(chat.files.folder)
    tokenizer.chat_template = theirs.chat_template
    tokenizer.eos_token = theirs.eos_token
    tokenizer.save_pretrained(folder)
    path = chat.files.folder / "generation_config.json"
    if not path.exists():
        return
    values, known = read_object(path), tokenizer.get_vocab()
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        given = values.get(key)
        tokens = [
            theirs.convert_ids_to_tokens(one)
            for one in (given if isinstance(given, list) else [given])
            if one is not None
        ]
        ids = [known[token] for token in tokens if token in known]
        if len(ids) != len(tokens):
            raise ModelError(
                f"the tokenizer in {folder} lacks a token that {path} names ({key}); add it to the tokenizer"
            )
        if ids:
            values[key] = ids if isinstance(given, list) else ids[0]
    write_atomic(folder / "generation_config.json", json.dumps(values, indent=2) + "\n")
