"""What differs between the library's architectures: how a model is opened, and what of it is the language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from lingraft.core.errors import ModelError
from lingraft.core.strangers import from_strangers


def model_class(config: Any, folder: Path) -> Any:
    """Return the library's class that opens a model: that of causal models, else that of models with pictures.

    Args:
        config: of the model as a whole.
        folder: where it is.

    Raises:
        ModelError: neither opens it.
    """
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise ModelError(
        f"cannot load the model in {folder}: transformers knows no causal language model of the kind "
        f"{getattr(config, 'model_type', '?')!r}; if there is one within it, save its language model alone, with the "
        f"tokenizer (`model.language_model.save_pretrained(...)`), and give that folder"
    )


def config_of(folder: Path) -> Any:
    """Return the configuration of the model in a folder, that of the whole.

    Of the implementations of attention it keeps those of PyTorch; with another one the library chooses for itself.

    Raises:
        ModelError: damaged, or of a kind that the installed library does not know.
    """
    with from_strangers(f"cannot load the model in {folder}", "copy it anew"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))]
        if any(getattr(part, "_attn_implementation", None) not in _OWN_ATTENTION for part in parts):
            config._attn_implementation = None  # of all its parts
        return config


_OWN_ATTENTION = (None, "eager", "sdpa")
"""Others come from packages that may fetch their programs, and measure something else on each machine."""


def context_length(config: Any) -> int | None:
    """Return the longest sequence that a model can hold, in tokens; None: its configuration knows no limit.

    Args:
        config: of the model as a whole, or of its language model.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit and limit > 0 else None


def open_weights(folder: Path, **kwargs: Any) -> Any:
    """Return the model in a folder, with exact attention; errors are the library's.

    Args:
        folder: of the model.
        **kwargs: of `from_pretrained`; with `output_loading_info` its report is returned as well.
    """
    config = config_of(folder)
    found = model_class(config, folder).from_pretrained(folder, config=config, trust_remote_code=False, **kwargs)
    make_attention_exact(found[0] if isinstance(found, tuple) else found)
    return found


def without_weights(folder: Path) -> Any:
    """Return the model in a folder on the meta device: its layers and their shapes, in moments.

    Raises:
        ModelError: as `config_of` and `model_class`.
    """
    config = config_of(folder)
    kind = model_class(config, folder)
    with from_strangers(f"cannot load the model in {folder}", "copy it anew"), torch.device("meta"):
        return kind.from_config(config, trust_remote_code=False)


def language_part(model: Any) -> tuple[str, nn.Module]:
    """Return the name and the module of what turns tokens into hidden states: a model with pictures has more parts."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    name = next((name for name, module in model.named_modules() if module is decoder), "")
    return name, decoder


def has_softcap(config: Any) -> bool:
    """Whether a model bounds its attention scores by tanh (Gemma 2), which transformers' "sdpa" leaves out unsaid.

    Args:
        config: of the model as a whole.
    """
    return bool(getattr(config.get_text_config(), "attn_logit_softcapping", None))


@dataclass(frozen=True)
class Loading:
    """How a program of the user's own opens a model: the library's class, and the attention to name, if any."""

    kind: str = "AutoModelForCausalLM"
    attention: str = ""

    @classmethod
    def of(cls, folder: Path) -> Loading:
        """Return that of the model in a folder.

        Raises:
            ModelError: as `config_of` and `model_class`.
        """
        config = config_of(folder)
        return cls(model_class(config, folder).__name__, "eager" if has_softcap(config) else "")

    def arguments(self, *more: str) -> str:
        """Return the arguments of `from_pretrained` behind the model, as a program has them.

        Args:
            more: further ones, such as `dtype="auto"`.
        """
        named = (f'attn_implementation="{self.attention}"',) if self.attention else ()
        return "".join(f", {argument}" for argument in (*more, *named))


def make_attention_exact(model: Any) -> None:
    """Let a model compute its attention as it is defined: "eager" instead of "sdpa" where it has a soft cap."""
    if has_softcap(model.config) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
