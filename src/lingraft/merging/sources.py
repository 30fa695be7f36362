"""Where the weights of models that are merged come from: a checkpoint, or a graft on the base; one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from lingraft.core.errors import ModelError
from lingraft.core.hub import commit_of
from lingraft.core.strangers import from_strangers, shown
from lingraft.merging.tensor_file import TYPES
from lingraft.models.adapter import Factors, Parts, read_parts
from lingraft.models.architectures import open_weights, without_weights
from lingraft.models.checks import check_size, is_finite
from lingraft.models.devices import quiet
from lingraft.models.files import ModelFiles


class Layout:
    """The weights that a model has, by the names of its parameters; one that has several names is one weight.

    Attributes:
        shapes: name -> shape, in the order of the model; the first name of a weight alone.
        names: any name -> the first one of that weight.
        embedding, head: first names of the weights whose rows are those of tokens; `head` is empty where the output
            head is the embedding, or there is none.
        token_rows: all weights that have a row a token, biases of the head among them.
        transposed: weights that are kept as (in, out).
        buffers: name -> shape of what is kept with the weights and is none, and is merged by nobody.
        model: on the meta device.

    Raises:
        ModelError: damaged, or its weights are packed into fewer bits.
    """

    def __init__(self, folder: Path) -> None:
        from transformers.pytorch_utils import Conv1D

        self.model: Any = without_weights(folder)
        if getattr(self.model.config, "quantization_config", None) is not None:
            raise ModelError(f"the weights in {folder} are quantised, and cannot be merged; give the original")
        check_size(folder, self.model)
        kept = self.model.state_dict().keys()
        self.shapes = {name: tuple(weight.shape) for name, weight in self.model.named_parameters()}
        self.buffers = {
            name: tuple(buffer.shape)
            for name, buffer in self.model.named_buffers()
            if name in kept and buffer.is_floating_point()
        }
        first = {id(weight): name for name, weight in self.model.named_parameters()}
        every = self.model.named_parameters(remove_duplicate=False)
        self.names: dict[str, str] = {name: first[id(weight)] for name, weight in every}
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.embedding = first[id(embedding.weight)]
        self.head = "" if head is None or head.weight is embedding.weight else first[id(head.weight)]
        bias = getattr(head, "bias", None)
        self.token_rows = {self.embedding, *filter(None, [self.head, "" if bias is None else first[id(bias)]])}
        turned = (f"{name}.weight" for name, module in self.model.named_modules() if isinstance(module, Conv1D))
        self.transposed = set(turned)

    @cached_property
    def aliases(self) -> Mapping[str, list[str]]:
        """First name of each weight -> all of its names."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, first in self.names.items():
            found[first].append(name)
        return found

    def owner(self, name: str) -> str:
        """Return the layer that a parameter is of."""
        return name.rpartition(".")[0]


class Weights(ABC):
    """The weights of one model.

    Attributes:
        label: what it is called in messages.
    """

    label: str

    def touches(self, name: str) -> bool:
        """Whether this weight may be another than the base's."""
        return True

    @abstractmethod
    def read(self, name: str, backbone: torch.Tensor) -> torch.Tensor:
        """Return a weight in float32, contiguous, in memory of its own.

        Args:
            name: its first name.
            backbone: the base's, which stays as it is.
        """


class Checkpoint(Weights):
    """A model in a folder of its own. Its weights are read from its files, each when it is asked for.

    A model that transformers rearranges on loading, so that files and parameters do not go together, is opened as a
    whole instead.

    Attributes:
        kinds: type of each weight in the files, as safetensors calls it.

    Raises:
        ModelError: damaged or incomplete.
    """

    def __init__(self, files: ModelFiles, layout: Layout | None = None) -> None:
        self.files, self.label = files, files.name
        self.layout = layout or Layout(files.folder)
        self.kinds: dict[str, str] = {}
        self._rest: dict[str, Path] = {}
        self._places = self._found()
        self._opened: dict[str, torch.Tensor] = {}
        self._buffers: dict[str, torch.Tensor] = {}
        if self._places is None:
            with from_strangers(f"cannot load the model in {files.folder}", "copy it anew"), quiet():
                model, report = open_weights(files.folder, dtype="auto", output_loading_info=True)
            if lacking := sorted(report["missing_keys"]):
                raise ModelError(f"the weights in {files.folder} lack {shown(lacking[0])}; copy the model anew")
            self._opened = {name: weight.data for name, weight in model.named_parameters()}
            self._buffers = {name: buffer for name, buffer in model.named_buffers() if name in self.layout.buffers}
            self.kinds = {name: _KINDS[weight.dtype] for name, weight in self._opened.items() if weight.dtype in _KINDS}

    def _found(self) -> dict[str, tuple[Path, str]] | None:
        """Return file and name there of each weight; None where the files hold others than the model has."""
        held: dict[str, tuple[Path, tuple[int, ...], str]] = {}
        for path in sorted(self.files.folder.glob("*.safetensors")):
            with from_strangers(f"{path} is damaged", "copy the model anew"), safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # it is no mapping
                    piece = opened.get_slice(name)
                    held[name] = path, tuple(piece.get_shape()), piece.get_dtype()
        places = {}
        for name, shape in self.layout.shapes.items():
            here = next((one for one in self.layout.aliases[name] if one in held), None)
            if here is None or held[here][1] != shape:
                return None
            places[name] = held[here][0], here
            self.kinds[name] = held[here][2]
        self._rest = {name: one[0] for name, one in held.items() if name not in self.layout.names and one[2] in TYPES}
        return places

    @property
    def rearranged(self) -> bool:
        """Whether its files hold other tensors than its parameters are."""
        return self._places is None

    def stored(self, name: str) -> str:
        """Return what the files call a weight."""
        return self._places[name][1] if self._places is not None else name

    def others(self) -> Mapping[str, Path]:
        """Return what the files hold beside weights, such as fixed frequencies, and the file of each."""
        return self._rest

    def buffer(self, name: str) -> torch.Tensor:
        """Return what is kept with the weights and is none, in float32.

        Raises:
            ModelError: the files do not hold it.
        """
        if self.rearranged:
            return self._buffers[name].float().clone()
        if name not in self._rest:
            raise ModelError(f"the weights in {self.files.folder} lack {shown(name)}; copy the model anew")
        with safe_open(self._rest[name], framework="pt") as opened:
            return opened.get_tensor(name).to(torch.float32, copy=True)

    def read(self, name: str, backbone: torch.Tensor | None = None) -> torch.Tensor:
        """Return a weight; opened and closed for it alone, so that no page of the file stays in memory."""
        if self._places is None:
            found = self._opened[name].float().clone()
        else:
            path, there = self._places[name]
            with from_strangers(f"{path} is damaged", "copy the model anew"), safe_open(path, framework="pt") as opened:
                found = opened.get_tensor(there).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not is_finite(found):
            raise ModelError(f"{shown(name)} of {self.label} holds numbers that are not finite; copy the model anew")
        return found


_KINDS = {dtype: name for name, dtype in TYPES.items()}


class Base(Weights):
    """The base as one of the models."""

    label = "base"

    def touches(self, name: str) -> bool:
        return False

    def read(self, name: str, backbone: torch.Tensor) -> torch.Tensor:
        return backbone.clone()


class Graft(Weights):
    """A graft on the base: its low-rank updates, whole layers, rows of embeddings or sparse changes.

    Args:
        folder: of the graft, which fits the base.
        layout: of the base.
        grow: what grows the base's weights of tokens to the graft's vocabulary, where it alone has one.

    Raises:
        ModelError: damaged, of another kind, or it changes one of two layers that share a weight.
    """

    def __init__(
        self, folder: Path, layout: Layout, grow: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        repository = commit_of(folder)
        self.label = str(repository or folder)
        self._layout, self._grow = layout, grow
        found = read_parts(folder)
        # A layer that is kept as a whole has what is no weight of it beside it, as the base has it.
        weights = {name: value for name, value in found.whole.items() if name not in layout.buffers}
        self._parts: Parts = replace(found, whole=weights)
        layers = {*self._parts.factors, *self._parts.sparse, *self._parts.rows}
        given = {f"{layer}.weight" for layer in layers} | set(self._parts.whole)
        if odd := sorted(name for name in given if name not in layout.names):
            raise ModelError(f"the adapter in {folder} does not fit the base: there is no {shown(odd[0])}")
        self._changed = {layout.names[name] for name in given}
        for layer in (*self._parts.factors, *self._parts.sparse):
            if len(layout.aliases[layout.names[f"{layer}.weight"]]) > 1:
                raise ModelError(f"the adapter in {folder} changes {shown(layer)}, whose weight another layer shares")
        for name, value in self._parts.whole.items():
            shared = layout.aliases[layout.names[name]]
            others = [self._parts.whole.get(other) for other in shared]
            if any(other is None or (other is not value and not torch.equal(other, value)) for other in others):
                raise ModelError(f"the adapter in {folder} replaces {shown(name)}, whose weight another layer shares")

    def touches(self, name: str) -> bool:
        return name in self._changed

    @torch.no_grad()
    def read(self, name: str, backbone: torch.Tensor) -> torch.Tensor:
        found = self._begin(name, backbone)
        for one in self._layout.aliases[name]:
            layer = self._layout.owner(one)
            if not one.endswith(".weight"):
                continue
            if layer in self._parts.factors:
                self._update(found, self._parts.factors[layer], one)
            if layer in self._parts.sparse:
                entries = self._parts.sparse[layer]
                rows, columns = entries.places.long()
                if not entries.fits(found.shape):
                    raise ModelError(f"{self.label} does not fit the base: {shown(one)} has another shape")
                found[rows, columns] += entries.values
            if layer in self._parts.rows:
                ids, values = self._parts.rows[layer]
                if max(ids) >= len(found) or values.shape[1:] != found.shape[1:]:
                    raise ModelError(f"{self.label} does not fit the base: {shown(one)} has other rows")
                found[torch.tensor(ids)] = values.float()
        return found.contiguous()

    def _begin(self, name: str, backbone: torch.Tensor) -> torch.Tensor:
        """Return what the graft replaces a weight by, else the base's, grown if need be."""
        grown = self._grow is not None and name in self._layout.token_rows
        if (value := self._parts.whole.get(name)) is None:
            return self._grow(backbone) if self._grow and grown else backbone.clone()
        if value.shape != backbone.shape and not grown:
            raise ModelError(
                f"{self.label} does not fit the base: {shown(name)} has the shape {tuple(value.shape)}, and "
                f"{tuple(backbone.shape)} there"
            )
        return value.to(torch.float32, copy=True, memory_format=torch.contiguous_format)

    def _update(self, weight: torch.Tensor, factors: Factors, name: str) -> None:
        """Add a low-rank update to a weight, as `Factors.on` does, in its memory."""
        target = weight.T if factors.transposed else weight
        if target.shape != (len(factors.b), factors.a.shape[1]):
            raise ModelError(f"{self.label} does not fit the base: the update of {shown(name)} has another shape")
        target.addmm_(factors.b.float(), factors.a.float())
        if factors.lengths is not None:
            target.mul_((factors.lengths.float() / torch.linalg.vector_norm(target, dim=1)).unsqueeze(1))
