"""Loading a base for inference: weights, tokenizer, renderer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.distributed import DistributedConfig

from lingraft.core.errors import ModelError
from lingraft.core.packages import install_command, is_installed
from lingraft.core.strangers import from_strangers
from lingraft.data.records import Message
from lingraft.models.architectures import context_length, make_attention_exact, open_weights, without_weights
from lingraft.models.checks import check_ids, check_numbers, check_size
from lingraft.models.devices import best_device, quiet, resolve_dtype
from lingraft.models.files import ModelFiles, load_tokenizer, longest_sequence
from lingraft.rendering.ends import end_ids, exported_variables
from lingraft.rendering.renderer import Renderer


class AskedModel(Protocol):
    """What is to be known of a model in order to ask it, wherever its weights are."""

    @property
    def files(self) -> ModelFiles:
        """Where it is on disk."""
        ...

    @property
    def renderer(self) -> Renderer:
        """Of its prompts."""
        ...

    @property
    def context(self) -> int | None:
        """Tokens that it can hold, prompt and answer together; None: no limit is known."""
        ...


@dataclass(frozen=True)
class ModelElsewhere:
    """A model whose weights another program has in memory; see `AskedModel`."""

    files: ModelFiles
    renderer: Renderer
    context: int | None

    @classmethod
    def of(cls, files: ModelFiles, renderer: Renderer) -> ModelElsewhere:
        """Return a model as its files describe it.

        Args:
            files: of the model.
            renderer: of its prompts, or of those of a graft on it.
        """
        return cls(files, renderer, longest_sequence(files.folder))


@dataclass
class LoadedModel:
    """A model in memory with its tokenizer's renderer; `new_ids` are those that a vocabulary added to the base's.

    Its attention is exact from then on, see `make_attention_exact`.
    """

    files: ModelFiles
    model: PreTrainedModel
    renderer: Renderer
    new_ids: range = range(0)

    def __post_init__(self) -> None:
        make_attention_exact(self.model)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device

    @property
    def context(self) -> int | None:
        """Tokens that it can hold, prompt and answer together; None: no limit is known."""
        return context_length(self.model.config)

    @property
    def dtype(self) -> str:
        """Name of the weights' type, for example "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")


def load_renderer(
    files: ModelFiles,
    variables: Mapping[str, Any] | None = None,
    *,
    exact: bool = False,
    tokenizer: Path | None = None,
) -> Renderer:
    """Return the renderer of a model's prompts, without loading weights.

    Args:
        files: the model.
        variables: of the chat template, see `lingraft.rendering.template.ChatTemplate`; by default those with which the
            model was trained, where `lingraft export` wrote it.
        exact: whether these are all, see `lingraft.rendering.template.ChatTemplate`.
        tokenizer: folder of the tokenizer, where it is not the model's own.

    Raises:
        ModelError: a damaged tokenizer, or a chat template that cannot be used, or none.
        UsageError: a variable that the template does not have.
    """
    loaded = load_tokenizer(tokenizer or files.folder)
    exported = exported_variables(files.folder) if variables is None else None
    if exported is not None:
        variables, exact = exported, True
    ends = [end for end in end_ids(files.folder) if loaded.convert_ids_to_tokens(end) is not None]
    return Renderer(loaded, ends=ends, variables=variables, exact=exact)


def load_model(
    files: ModelFiles,
    precision: str = "auto",
    device: torch.device | None = None,
    shards: int = 1,
    variables: Mapping[str, Any] | None = None,
    renderer: Renderer | None = None,
) -> LoadedModel:
    """Load weights and tokenizer.

    Args:
        files: the model.
        precision: "auto", "bf16", "fp32", or "nf4" for a base in 4 bits.
        device: by default the accelerator if there is one.
        shards: processes of the run that each hold a part of every weight (FSDP2); all of them call this together.
        variables: of the chat template, see `load_renderer`.
        renderer: with these variables, where it is loaded already.

    Raises:
        ModelError: not a causal language model that transformers knows, damaged or incomplete weights, or no chat
            template.
    """
    device = device or best_device()
    dtype = resolve_dtype(precision, device)
    renderer = renderer or load_renderer(files, variables)
    kwargs: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if precision == "nf4":
        kwargs |= {"quantization_config": _nf4(dtype), "device_map": {"": device}}
    if shards > 1:
        kwargs["distributed_config"] = DistributedConfig(fsdp_size=shards)
    check_size(files.folder, without_weights(files.folder))
    with from_strangers(f"cannot load the model in {files.folder}", "copy it anew"), quiet():
        model, report = open_weights(files.folder, output_loading_info=True, **kwargs)
    lacking = sorted(report["missing_keys"])
    if lacking:  # transformers would go on with random weights
        raise ModelError(
            f"the weights in {files.folder} are incomplete: {len(lacking)} tensors such as {lacking[0]!r} are missing; "
            f"copy all *.safetensors files of the model"
        )
    needed = {renderer.end_of_turn_id, *renderer.prompt_ids([Message("user", "x")]).ids}
    check_ids(model, renderer.tokenizer, needed, files.folder)
    check_numbers(model, files.folder, shared=shards > 1)
    if precision == "nf4":
        for module in model.modules():
            # On some CPUs bitsandbytes repacks weights at the first pass without gradients, for a product through
            # which none flow: training after an evaluation would be silently wrong.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    elif shards == 1:
        model = model.to(device)
    else:
        # Adapters learn beside it. Later, between two passes, only the gathered copy of a weight could be frozen.
        model.requires_grad_(False)
    return LoadedModel(files, model.eval(), renderer)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    if not is_installed("bitsandbytes"):
        raise ModelError(f"precision nf4 needs the package bitsandbytes; run `{install_command('bitsandbytes')}`")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
