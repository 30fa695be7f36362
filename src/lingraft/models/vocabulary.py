"""A vocabulary: tokenizer files that add learnt pieces and markers to those of a base, and `vocabulary.json`.

`lingraft.vocabulary.learn` learns one. Here it is read and copied, and a loaded base is grown to it for the time of
a block. A graft that was trained with a vocabulary has its files in its own folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lingraft.core.errors import ModelError
from lingraft.core.hashing import file_hash
from lingraft.core.strangers import copy_file, from_strangers, parsed, read_object, shown, told
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel, load_renderer
from lingraft.rendering.renderer import Renderer
from lingraft.store.disk import explain_os_errors
from lingraft.translation.markers import Markers

FILE = "vocabulary.json"
SCHEMA = "lingraft.vocabulary/1"
_TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json")


class Fertility(BaseModel):
    """Tokens per word (per character in languages written without spaces) on text that was not learnt from."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    lang: str = Field(max_length=200)
    unit: Literal["word", "character"]
    before: float
    after: float
    sample: int = Field(description="words or characters counted")


MAX_ROWS = 2**24
"""Rows of embeddings; the largest known have 262,144."""
MAX_PADDING = 4096
"""Of rows without a token; whatever processor it is for wants a few hundred at most."""
Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class VocabularyInfo(BaseModel):
    """What `vocabulary.json` holds; a stranger may have written it."""

    model_config = ConfigDict(extra="forbid")

    schema_: str = Field(SCHEMA, alias="schema")
    base_sha256: Sha256 = Field(description="hash of the base that it extends")
    # Not `Count` with another bound: of two, pydantic would take the one within.
    base_tokens: int = Field(ge=1, le=MAX_ROWS, description="ids of the base's tokenizer; added ones follow")
    base_rows: Count = Field(description="rows of the base's embeddings")
    tokens: Count = Field(description="ids of this tokenizer that stand for something")
    reserved: Count = Field(0, description="control tokens behind them, so that each row of the embeddings has one")
    rows: Count = Field(description="rows of the grown embeddings")
    cuts_as_base: bool | None = Field(
        None, description="whether the tokenizer cuts words as the base's does, as other formats take for granted"
    )
    pieces: int = Field(description="pieces added, markers not counted")
    merges: int = Field(description="merges added")
    markers: dict[str, Any] = Field(description="the markers, as `Markers.to_dict` gives them")
    init: Literal["mean", "random"] = Field("mean", description="first value of the new rows")
    pad_multiple: int = Field(8, ge=1, le=MAX_PADDING)
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    sha256: Sha256 = Field(description="hash of the tokenizer's files")
    fertility: list[Fertility] = Field(default_factory=list, max_length=10_000)

    @field_validator("markers")
    @classmethod
    def _are_markers(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            markers = Markers.from_dict(values)
            texts = [*markers.tokens, *markers.languages]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"they are no markers ({told(error)})") from error
        if any(not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= 100 for text in texts):
            raise ValueError("a marker is a short text that can be shown")
        return values

    @model_validator(mode="after")
    def _goes_together(self) -> VocabularyInfo:
        if not self.base_tokens <= self.tokens or self.base_tokens > self.base_rows:
            raise ValueError(f"it has {self.tokens} tokens for {self.base_tokens} of the base in {self.base_rows} rows")
        if not max(self.base_rows, self.tokens + self.reserved) <= self.rows:
            raise ValueError(f"{self.rows} rows are too few for its tokens")
        if self.rows - max(self.base_rows, self.tokens) >= max(self.pad_multiple, 1) + self.reserved:
            raise ValueError(f"{self.rows} rows are more than its tokens need")
        return self

    def marker_tokens(self) -> Markers:
        """Return the markers."""
        return Markers.from_dict(self.markers)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a vocabulary's tokenizer, sorted by name."""
    return sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


def tokenizer_hash(folder: Path) -> str:
    """Return one hash of names and contents of the tokenizer's files."""
    digest = hashlib.sha256()
    for path in tokenizer_files(folder):
        digest.update(f"{path.name}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()


def read_vocabulary(folder: Path) -> VocabularyInfo | None:
    """Return the manifest of the vocabulary in a folder, None if it holds none.

    Raises:
        ModelError: the manifest is damaged or of another version, or the tokenizer's files are not those it names.
    """
    path = folder / FILE
    if not path.exists():
        return None
    with from_strangers(f"{path} is damaged", "make the vocabulary again or copy it anew"):
        values = read_object(path)
        found = values.get("schema")
        if found != SCHEMA:
            raise ModelError(f"{path} has schema {shown(repr(found))}, this version reads {SCHEMA!r}; update lingraft")
        info = parsed(VocabularyInfo, values)
    if tokenizer_hash(folder) != info.sha256:
        raise ModelError(
            f"the tokenizer in {folder} is not the one that {FILE} describes; make the vocabulary again or copy it anew"
        )
    return info


def copy_vocabulary(source: Path, target: Path) -> None:
    """Copy a vocabulary's tokenizer and manifest into another folder, such as a graft's.

    Raises:
        ModelError: one is a link to a file elsewhere, see `copy_file`.
    """
    with explain_os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in [*tokenizer_files(source), source / FILE]:
            copy_file(path, target / path.name)


_RENDERERS: dict[tuple[str, str, str], Renderer] = {}
"""The last ones made, by the hashes of the tokenizer's files and of the base, and by the variables of the template:
every graft of a run holds a copy of the same files."""
_KEPT = 4


def vocabulary_renderer(files: ModelFiles, folder: Path, variables: Mapping[str, Any] | None = None) -> Renderer:
    """Return the renderer of a base with the vocabulary in `folder`, without loading weights.

    Args:
        variables: of the chat template, see `load_renderer`.

    Raises:
        ModelError: damaged, made for another base, or a marker is not one token.
    """
    info = read_vocabulary(folder)
    if info is None:
        raise ModelError(f"{folder} holds no vocabulary: it lacks {FILE}")
    if info.base_sha256 != files.sha256:
        raise ModelError(
            f"the vocabulary in {folder} extends a base with hash {info.base_sha256[:12]}, but {files.name} has hash "
            f"{files.sha256[:12]}; give the original base or make a vocabulary for this one"
        )
    key = (info.sha256, files.sha256, repr(sorted((variables or {}).items())))
    renderer = _RENDERERS.get(key)
    if renderer is None:
        while len(_RENDERERS) >= _KEPT:
            _RENDERERS.pop(next(iter(_RENDERERS)))
        renderer = _RENDERERS[key] = load_renderer(files, variables, tokenizer=folder)
    if len(renderer.tokenizer) != info.tokens + info.reserved:
        raise ModelError(
            f"the tokenizer in {folder} has {len(renderer.tokenizer)} tokens, {FILE} says "
            f"{info.tokens + info.reserved}; make the vocabulary again"
        )
    for token in info.marker_tokens().tokens:
        ids = renderer.tokenizer.backend_tokenizer.encode(token, add_special_tokens=False).ids
        if len(ids) != 1 or renderer.tokenizer.convert_ids_to_tokens(ids[0]) != token:
            raise ModelError(f"the marker {token} is {len(ids)} tokens of the tokenizer in {folder}; make it again")
    return renderer


@contextmanager
def extended(loaded: LoadedModel, folder: Path) -> Iterator[LoadedModel]:
    """Grow a loaded base to a vocabulary for the time of the block; its very tensors are back afterwards.

    A new row of the embeddings and of the output head is the mean of the rows of the tokens that the base reads the new
    token as, or random around the mean of all rows. `LoadedModel.new_ids` says which rows are new.

    Args:
        loaded: the base, whole on its device, without an adapter.
        folder: of the vocabulary.

    Raises:
        ModelError: as `vocabulary_renderer`, or the base's embeddings cannot be grown.
    """
    renderer = vocabulary_renderer(loaded.files, folder, loaded.renderer.template.variables)
    info = read_vocabulary(folder)
    assert info is not None
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
