"""Embeddings of texts: by a model of its own, as sentence-transformers keeps them, or by a base's hidden states.

Of sentence-transformers' parts those are known that such models have: the transformer, pooling (mean, first token or
maximum), dense layers and normalising. A folder without `modules.json` is pooled by the mean.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file

from lingraft.core.errors import ModelError
from lingraft.core.hashing import content_hash
from lingraft.core.model_names import is_place
from lingraft.core.strangers import MAX_DESCRIPTION, from_strangers, read_bytes, read_object
from lingraft.models.architectures import config_of, language_part
from lingraft.models.checks import check_model
from lingraft.models.devices import best_device, quiet
from lingraft.models.files import FETCHED, fetch, load_tokenizer, local_path
from lingraft.models.hashes import model_hash
from lingraft.models.loading import LoadedModel
from lingraft.store.parts import PartStore

MOST_TOKENS = 512
TOGETHER = 16
"""Texts at once."""

_POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first", "pooling_mode_max_tokens": "max"}
_ACTIVATIONS = {"Tanh": torch.tanh, "Identity": lambda values: values, "ReLU": torch.relu}


@dataclass(frozen=True)
class Dense:
    """A layer behind the pooling: (out, in) weights, (out,) bias, and the name of its activation."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str


@dataclass(frozen=True, kw_only=True)
class TextEmbedder:
    """A model that turns a text into one vector.

    Attributes:
        name: as it was given, for messages.
        sha256: of its files.
        tokenizer, model: what computes hidden states.
        pooling: how the hidden states of a text's tokens become one vector.
        dense: layers behind it.
        normalise: whether vectors get the length 1.
        most_tokens: of a text; what is longer is cut.
    """

    name: str
    sha256: str
    tokenizer: Any
    model: Any
    pooling: Literal["mean", "first", "max"] = "mean"
    dense: Sequence[Dense] = field(default_factory=tuple)
    normalise: bool = False
    most_tokens: int = MOST_TOKENS

    @classmethod
    def open(cls, name: str) -> TextEmbedder:
        """Return the embedding model at a path or of the hub; it runs no code.

        Raises:
            ModelError: there is none, it is damaged, or it has parts that are not known here.
        """
        from transformers import AutoModel

        folder = embedder_folder(name)
        config, tokenizer = config_of(folder), load_tokenizer(folder)
        with from_strangers(f"cannot load the embedding model in {folder}", "give another"), quiet():
            model = AutoModel.from_pretrained(
                folder, config=config, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        pooling, dense, normalise = _parts(folder)
        limit = min(MOST_TOKENS, int(getattr(config, "max_position_embeddings", 0) or MOST_TOKENS))
        if tokenizer.model_max_length:
            limit = min(limit, int(tokenizer.model_max_length))
        return cls(
            name=name,
            sha256=model_hash(folder),
            tokenizer=tokenizer,
            model=model.to(best_device()).eval(),
            pooling=pooling,
            dense=dense,
            normalise=normalise,
            most_tokens=limit,
        )

    @classmethod
    def of_base(cls, loaded: LoadedModel) -> TextEmbedder:
        """Return a base's own hidden states of the last layer, pooled by the mean; they are no embeddings that it was
        trained for, so that all texts are alike to a high degree."""
        _, decoder = language_part(loaded.model)
        tokenizer = loaded.renderer.tokenizer
        return cls(name="", sha256=loaded.files.sha256, tokenizer=tokenizer, model=decoder, normalise=True)

    def mean(self, texts: Iterator[str]) -> np.ndarray:
        """Return the mean embedding (dimension,) of texts, of which there must be one."""
        total, count = np.zeros(1), 0
        while some := list(islice(texts, TOGETHER)):
            total = total + self._embedded(some).sum(0)
            count += len(some)
        return np.asarray(total / count)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embedding of each text, of length 1: float32 (n, dimension)."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
        found = np.concatenate([self._embedded([texts[place] for place in part]) for part in parts])
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found[np.argsort(order)].astype(np.float32)

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        cut = {"truncation": True, "max_length": self.most_tokens}
        rows = [self.tokenizer(text, **cut)["input_ids"] or [0] for text in texts]
        width = max(map(len, rows))
        device = next(self.model.parameters()).device
        ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        kept = mask[..., None].to(hidden.dtype)
        if self.pooling == "first":
            found = hidden[:, 0]
        elif self.pooling == "max":
            found = hidden.masked_fill(kept == 0, -torch.inf).amax(1)
        else:
            found = (hidden * kept).sum(1) / kept.sum(1)
        for layer in self.dense:
            bias = None if layer.bias is None else layer.bias.to(device)
            found = _ACTIVATIONS[layer.activation](torch.nn.functional.linear(found, layer.weight.to(device), bias))
        if self.normalise:
            found = torch.nn.functional.normalize(found, dim=-1)
        return found.double().cpu().numpy()


VECTORS = "vectors:1"
"""Names how `kept_vectors` makes them; the number grows when the same texts get others."""
PART = 512
"""Texts that are embedded and kept together: what a killed job may have to embed again."""


def kept_vectors(
    open_one: Callable[[], TextEmbedder],
    texts: Sequence[str],
    folder: Path,
    identity: Any,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return the embeddings of texts, float32 (n, dimension), and keep them in a folder, part by part.

    What is kept there of the same texts is read, so that a killed job goes on to the same numbers; they are rounded to
    16 bits. What is damaged, or of other texts, is made anew.

    Args:
        open_one: gives what embeds; it is not called where all is known.
        texts: to embed, at least one.
        folder: of these texts alone.
        identity: JSON-ready: all that decides the numbers beside the texts.
        progress: is told how many of how many texts are embedded.
    """
    store = PartStore(folder)
    parts = [texts[start : start + PART] for start in range(0, len(texts), PART)]
    keys = [content_hash([VECTORS, identity, part]) for part in parts]
    known, embedder = store.known(keys), None
    for index, (key, part) in enumerate(zip(keys, parts, strict=True)):
        if index not in known:
            embedder = embedder or open_one()
            rows = embedder.vectors(part).astype("<f2")
            store.put(index, key, (b64encode(row.tobytes()).decode("ascii") for row in rows))
        progress(min(len(texts), (index + 1) * PART), len(texts))
    return np.stack([np.frombuffer(b64decode(line), "<f2") for line in store.lines()]).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two vectors."""
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def embedder_folder(name: str) -> Path:
    """Return the folder of an embedding model: a path, or a hub id, fetched if needed.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    folder = local_path(name)
    if folder is None:
        if is_place(name):
            raise ModelError(f"there is no embedding model at {name!r}; give a folder, or a hub id such as 'org/name'")
        inner = [f"*_{part}/{file}" for part in ("Pooling", "Dense") for file in ("config.json", "model.safetensors")]
        folder = fetch(name, None, [*FETCHED, *inner, "vocab.txt"], [])
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no embedding model: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no *.safetensors; convert the weights with `save_pretrained`")
    check_model(folder)
    return folder


def _parts(folder: Path) -> tuple[Literal["mean", "first", "max"], list[Dense], bool]:
    """Return what stands behind the transformer: pooling, dense layers, and whether vectors are normalised."""
    listed = folder / "modules.json"
    if not listed.exists():
        return "mean", [], False
    pooling: Any = "mean"
    dense: list[Dense] = []
    normalise = False
    with from_strangers(f"cannot read {listed}", "copy the embedding model anew"):
        entries = json.loads(read_bytes(listed, MAX_DESCRIPTION))
        parts = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in entries]
    for kind, place in parts:
        inner = folder / place
        if inner.resolve() != folder.resolve() and inner.resolve().parent != folder.resolve():
            raise ModelError(f"{listed} names {place!r}, which lies elsewhere; copy the embedding model anew")
        if kind == "Pooling":
            values = _described(inner)
            chosen = [name for key, name in _POOLING.items() if values.get(key)]
            others = [key for key, value in values.items() if key.startswith("pooling_mode_") and value is True]
            if len(chosen) != 1 or len(others) != 1:
                raise ModelError(
                    f"{inner} pools in a way that is not known here ({', '.join(others)}); give another embedding model"
                )
            pooling = chosen[0]
        elif kind == "Dense":
            dense.append(_dense(inner))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise ModelError(f"{listed} has a part {kind!r}, which is not known here; give another embedding model")
    return pooling, dense, normalise


def _described(folder: Path) -> dict[str, Any]:
    with from_strangers(f"cannot read {folder / 'config.json'}", "copy the embedding model anew"):
        return read_object(folder / "config.json")


def _dense(folder: Path) -> Dense:
    values = _described(folder)
    activation = str(values.get("activation_function", "Tanh")).rpartition(".")[2]
    weights = folder / "model.safetensors"
    if activation not in _ACTIVATIONS or not weights.is_file():
        raise ModelError(f"{folder} has no model.safetensors, or an activation that is not known here ({activation})")
    with from_strangers(f"cannot load {weights}", "copy the embedding model anew"):
        found = load_file(weights)
        return Dense(found["linear.weight"].float(), found.get("linear.bias"), activation)
