"""A loaded base grown to a vocabulary for the time of a block: rows of embeddings and head for the new tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lingraft.core.errors import ModelError
from lingraft.models.files import load_tokenizer
from lingraft.models.loading import LoadedModel
from lingraft.models.vocabulary import FILE, Vocabulary, VocabularyInfo


@contextmanager
def extended(loaded: LoadedModel, vocabulary: Vocabulary | None) -> Iterator[LoadedModel]:
    """Grow a loaded base to a vocabulary for the time of the block; its very tensors are back afterwards.

    A new row of the embeddings and of the output head is the mean of the rows of the tokens that the base reads the new
    token as, or random around the mean of all rows. `LoadedModel.new_ids` says which rows are new.

    Args:
        loaded: the base, whole on its device, without an adapter.
        vocabulary: to grow to; None leaves the base as it is.

    Raises:
        ModelError: as `Vocabulary.renderer`, or the base's embeddings cannot be grown.
    """
    if vocabulary is None:
        yield loaded
        return
    folder, info = vocabulary.folder, vocabulary.info
    renderer = vocabulary.renderer(loaded.files, loaded.renderer.template.variables)
    base, model = loaded.renderer.tokenizer, loaded.model
    ids = renderer.tokenizer.get_vocab()
    moved = [token for token, number in base.get_vocab().items() if ids.get(token) != number]
    if moved:
        raise ModelError(f"the vocabulary in {folder} changes the id of {moved[0]!r}; make it again")
    if 1 + max(base.get_vocab().values()) != info.base_tokens:  # rows of the base would be taken for new ones
        raise ModelError(
            f"the tokenizer of {loaded.files.name} has {1 + max(base.get_vocab().values())} ids, {folder / FILE} says "
            f"{info.base_tokens}; make the vocabulary again"
        )
    embedding, head = _layers(model)
    rows = embedding.weight.shape[0]
    if rows != info.base_rows:
        raise ModelError(
            f"{loaded.files.name} has {rows} embeddings, {folder / FILE} says {info.base_rows}; make the "
            f"vocabulary again"
        )
    parts = None if info.init == "random" else _parts(base, renderer.tokenizer, range(info.base_tokens, info.tokens))
    originals = _Originals(model, embedding, head)
    try:
        for layer in (embedding, *([] if originals.tied else [head])):
            layer.weight = _grown(layer.weight, info, parts)
        if originals.tied:
            head.weight = embedding.weight
        if originals.bias is not None:
            head.bias = _grown(originals.bias, info, parts)
        embedding.num_embeddings = head.out_features = info.rows
        originals.say_size(info.rows)
        yield replace(loaded, renderer=renderer, new_ids=range(info.base_tokens, info.tokens))
    finally:
        originals.put_back()


def _layers(model: PreTrainedModel) -> tuple[Any, Any]:
    """Return the input embedding and the output head.

    Raises:
        ModelError: not plain layers of numbers, such as quantised or sharded ones.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    for layer, kind in ((embedding, nn.Embedding), (head, nn.Linear)):
        weight = getattr(layer, "weight", None)
        if not isinstance(layer, kind) or type(weight) is not nn.Parameter or not weight.is_floating_point():
            raise ModelError(
                f"{type(model).__name__} has a {type(layer).__name__} where a plain {kind.__name__} is needed to "
                f"extend its vocabulary; use an unquantised, unsharded base"
            )
    return embedding, head


def growing(base: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what grows a weight of a base whose rows are those of tokens, as `extended` does: (rows, ...) to more.

    Args:
        base: its tokenizer.
        vocabulary: which fits the base (see `lingraft.models.graft.check_fit`).
    """
    info, parts = vocabulary.info, None
    if info.init != "random":
        parts = _parts(base, load_tokenizer(vocabulary.folder), range(info.base_tokens, info.tokens))
    return lambda weight: _grown(nn.Parameter(weight, requires_grad=False), info, parts).data


class _Originals:
    """What growing changes of a model, as it was."""

    def __init__(self, model: PreTrainedModel, embedding: Any, head: Any) -> None:
        self.embedding, self.head = embedding, head
        self.weights = embedding.weight, head.weight
        self.bias = head.bias
        self.tied = embedding.weight is head.weight
        self.config = model.config.get_text_config()
        self.size, self.rows = self.config.vocab_size, embedding.num_embeddings
        # Some models keep a copy of the number beside their configuration.
        self.holders: list[Any] = [m for m in model.modules() if getattr(m, "vocab_size", None) == self.size]

    def say_size(self, rows: int) -> None:
        self.config.vocab_size = rows
        for module in self.holders:
            module.vocab_size = rows

    def put_back(self) -> None:
        self.embedding.weight, self.head.weight = self.weights
        self.head.bias = self.bias
        self.embedding.num_embeddings = self.head.out_features = self.rows
        self.say_size(self.size)


def _parts(base: PreTrainedTokenizerBase, grown: PreTrainedTokenizerBase, new: range) -> list[list[int]]:
    """Return, for each new id, the ids that the base reads the token's text as."""
    backend = base.backend_tokenizer
    added = grown.added_tokens_decoder
    parts = []
    for number in new:
        token = str(grown.convert_ids_to_tokens(number))
        if number in added:  # plain text to the base
            found = backend.encode(token, add_special_tokens=False).ids
        else:  # spelt as the model spells, so that nothing may split or normalise it
            found = [part.id for part in backend.model.tokenize(token)]
        known = [part for part in found if part != base.unk_token_id]
        parts.append(known or found)
    return parts


@torch.no_grad()
def _grown(original: nn.Parameter, info: VocabularyInfo, parts: Sequence[Sequence[int]] | None) -> nn.Parameter:
    """Return a taller copy of a weight (rows, width) or bias (rows,); rows without a token get the mean of all."""
    known = original.data[: info.base_tokens]
    result = original.data.new_empty(info.rows, *original.shape[1:])
    result[: len(original)] = original.data
    if original.device.type != "meta":
        table = known.float().reshape(len(known), -1)
        mean = table.mean(0)
        if parts is None:
            generator = torch.Generator().manual_seed(info.seed)
            shape = info.tokens - info.base_tokens, table.shape[1]
            noise = torch.randn(shape, generator=generator).to(table.device)
            new = mean + table.std(0) * noise
        else:
            flat = torch.tensor([number for part in parts for number in part], dtype=torch.long)
            sizes = torch.tensor([0, *map(len, parts)], dtype=torch.long)[:-1]
            new = F.embedding_bag(flat.to(table.device), table, sizes.cumsum(0).to(table.device), mode="mean")
        shape = (-1, *original.shape[1:])
        result[info.base_tokens : info.tokens] = new.reshape(shape).to(result.dtype)
        result[max(info.tokens, len(original)) :] = mean.reshape(shape).to(result.dtype)
    return nn.Parameter(result, requires_grad=original.requires_grad)
