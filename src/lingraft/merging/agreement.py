"""Whether models can be merged: the same layers, computed in the same way, for the same tokens; else what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lingraft.core.errors import ModelError
from lingraft.core.strangers import shown
from lingraft.merging.sources import Layout

_FREE = frozenset(
    {"architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "vocab_size", "tie_word_embeddings"}
    | {"max_position_embeddings", "name_or_path", "model_type", "task_specific_params", "initializer_range"}
)
"""Keys of a configuration that say nothing of how a text is computed, or are compared in the weights themselves."""


def check_layers(base: Layout, other: Layout, name: str, *, other_tokens: bool) -> None:
    """Check that a model has the base's layers and computes with them as the base does.

    Args:
        base: the base's weights.
        other: the model's.
        name: of the model, for messages.
        other_tokens: whether it may have another number of rows of tokens.

    Raises:
        ModelError: they differ.
    """
    lacking = [one for one in base.shapes if one not in other.shapes] or [
        one for one in other.shapes if one not in base.shapes
    ]
    if lacking:
        has = name if lacking[0] in other.shapes else "the base"
        raise ModelError(f"{name} is no model of this base: {shown(lacking[0])} is a weight of {has} alone")
    for one, shape in base.shapes.items():
        found = other.shapes[one]
        rows_alone = one in base.token_rows and found[1:] == shape[1:]
        if found != shape and not (other_tokens and rows_alone):
            kind = "vocabulary" if rows_alone else "size"
            raise ModelError(
                f"{name} has another {kind} than the base: {shown(one)} is {_size(found)} there and {_size(shape)} "
                f"in the base; merge models of one base"
            )
    ours, theirs = (_computing(one.model.config) for one in (base, other))
    odd = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    if odd:
        raise ModelError(
            f"{name} computes otherwise than the base: its configuration has {shown(odd[0])} "
            f"{shown(repr(theirs.get(odd[0])))}, the base's {shown(repr(ours.get(odd[0])))}; merge models of one base"
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _computing(config: Any) -> dict[str, Any]:
    values: Mapping[str, Any] = config.get_text_config().to_dict()
    return {
        key: value
        for key, value in values.items()
        if key not in _FREE and not key.startswith("_") and not key.endswith(("token_id", "token_ids"))
    }


def difference(base: Any, other: Any) -> str:
    """Return how another tokenizer differs from the base's, in words; "" where both read any text as the same ids.

    Args:
        base: tokenizer.
        other: tokenizer.
    """
    ours, theirs = base.get_vocab(), other.get_vocab()
    if lacking := sorted((number, token) for token, number in ours.items() if token not in theirs):
        return f"it lacks {len(lacking):,} of the base's tokens, such as {shown(repr(lacking[0][1]))}"
    if more := sorted((number, token) for token, number in theirs.items() if token not in ours):
        return f"it has {len(more):,} tokens that the base lacks, such as {shown(repr(more[0][1]))}"
    if moved := sorted((number, token) for token, number in ours.items() if theirs[token] != number):
        number, token = moved[0]
        return f"{shown(repr(token))} is id {theirs[token]} there and {number} in the base"
    parts = _cutting(base), _cutting(other)
    if odd := [key for key in parts[0] if parts[0][key] != parts[1].get(key)]:
        return f"it cuts text otherwise (its {odd[0].replace('_', ' ')})"
    return ""


def _cutting(tokenizer: Any) -> dict[str, Any]:
    """Return what decides how a fast tokenizer cuts text beside its tokens; nothing of another one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    found = json.loads(backend.to_str())
    return {
        "normalizer": found["normalizer"],
        "pre_tokenizer": found["pre_tokenizer"],
        "merges": found["model"].get("merges"),
    }


def control_rows(learnt: Any, chat: Any, name: str) -> dict[int, int]:
    """Return the rows that a model with another vocabulary takes over from a chat model: those of its control tokens.

    Args:
        learnt: tokenizer of the model.
        chat: tokenizer of the chat model.
        name: of the model, for messages.

    Returns:
        Row of `learnt` -> row of `chat`.

    Raises:
        ModelError: one of the chat template's tokens is none of the model's.
    """
    template = json.dumps(chat.chat_template or "", ensure_ascii=False)
    added = {str(token): number for number, token in chat.added_tokens_decoder.items()}
    written = {token: number for token, number in added.items() if token in template}
    if chat.eos_token is not None and chat.eos_token_id is not None:
        written[str(chat.eos_token)] = int(chat.eos_token_id)
    known = learnt.get_vocab()
    if lacking := sorted(token for token in written if token not in known):
        raise ModelError(
            f"the tokenizer of {name} lacks {shown(repr(lacking[0]))}, which the chat model's template writes; add it "
            f"to that tokenizer, with a row of its embeddings"
        )
    return {known[token]: number for token, number in sorted(written.items())}
