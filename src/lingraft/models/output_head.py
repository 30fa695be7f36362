"""From a model's tokens to its final hidden states, and from these to the logits that it would give itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lingraft.core.errors import ModelError

LOGITS_PER_CHUNK = 2**24  # 64 MiB of float32; larger chunks are not faster
WEIGHTS_PER_PART = 2**25
"""Weights that are in float32 at the same time where they are not so anyway."""
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
SCALES = (("logits_scaling", True), ("logit_scale", False), ("lm_head_multiplier", False))


@dataclass(frozen=True)
class OutputHead:
    """From final hidden states (n, hidden) to the logits (n, vocabulary) that the model itself would give.

    Attributes:
        module: the layer.
        scale: what logits are multiplied by.
        softcap: then, bounded by tanh to this.
        from_decoder: whether the final hidden states are what the decoder returns, not the last of the model's
            `hidden_states`, which are several streams in some models (AltUp of Gemma 3n).
    """

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    from_decoder: bool = False

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        weight: Any = self.module.weight
        return int(weight.shape[0])

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits in the dtype of the head."""
        weight: Any = self.module.weight
        if weight.is_floating_point() and not torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(weight.dtype)  # states are float32 in some models whose weights are not (Mamba)
        return self._bounded(self.module(hidden))

    @property
    def rounds(self) -> bool:
        """Whether its logits are in 16 bits, though it could give them in 32: a linear layer whose weights are."""
        weight: Any = self.module.weight
        return type(self.module) is nn.Linear and weight.dtype in (torch.bfloat16, torch.float16)

    def float32(self, hidden: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the logits in float32 by parts of the vocabulary: the first token of each, and its logits.

        In bfloat16 logits of 16 to 32 lie on steps of 0.125, so that the log-probabilities of like texts are often
        equal, and a ranking by them is one by chance. From the same hidden states a product in float32 has no steps.
        A layer of which only its own result can be had (quantised, or with an adapter) gives one part, as it is.

        Args:
            hidden: (n, hidden) final states.
        """
        if not self.rounds:
            yield 0, self(hidden).float()
            return
        assert isinstance(self.module, nn.Linear)
        weight, bias = self.module.weight, self.module.bias
        states, count, size = hidden.float(), max(1, len(hidden)), weight.shape[1]
        width = max(1, min(LOGITS_PER_CHUNK // count, WEIGHTS_PER_PART // size))
        for begin in range(0, len(weight), width):
            part = states @ weight[begin : begin + width].float().T
            if bias is not None:
                part = part + bias[begin : begin + width].float()
            yield begin, self._bounded(part)

    def _bounded(self, logits: torch.Tensor) -> torch.Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def final_states(
    model: Any, inputs: dict[str, Any], *, from_decoder: bool = False, inner: Any = None, keep: Any = 1
) -> torch.Tensor:
    """Return the final hidden states, (rows, tokens, hidden), of a forward pass.

    Args:
        model: with or without an adapter.
        inputs: arguments of the model.
        from_decoder: see `OutputHead`.
        inner: the language model itself, where `model` is a wrapper of it for distributed training.
        keep: for which positions the model shall compute logits, which are not used.
    """
    # Without use_cache=False transformers lets packed examples see each other.
    settings: dict[str, Any] = {"use_cache": False, "logits_to_keep": keep}
    if not from_decoder:
        hidden: torch.Tensor = model(**inputs, **settings, output_hidden_states=True).hidden_states[-1]
        return hidden
    with _decoder_states(model if inner is None else inner) as found:
        model(**inputs, **settings)
    return found[-1]


@contextmanager
def _decoder_states(model: Any) -> Iterator[list[torch.Tensor]]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found: list[torch.Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", output)
        if torch.is_tensor(states):
            found.append(states)

    handle = base.get_decoder().register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def find_head(model: Any, input_ids: Sequence[int]) -> OutputHead:
    """Return the output head of a causal language model, checked against the model's own logits on one row.

    Knows soft caps (Gemma), scales by their names in the configuration (`logits_scaling` of Granite divides, that of
    others multiplies; `logit_scale` of Cohere, `lm_head_multiplier` of Falcon-H1), and any other constant factor.

    Raises:
        ModelError: the model has no output head, gives no hidden states, or does something else to its logits.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = type(base).__name__
    module = model.get_output_embeddings()
    if module is None:
        raise ModelError(f"{name} has no output head; Lingraft trains causal language models only")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), _decoder_states(model) as found:
            row = torch.tensor([list(input_ids)], device=module.weight.device)
            outputs = model(input_ids=row, output_hidden_states=True, use_cache=False)
            expected = outputs.logits.float()
            known = [*(outputs.hidden_states or ())[-1:]]
            if not known and not found:
                raise ModelError(f"{name} returns no hidden states; Lingraft cannot train this architecture")
            for states, from_decoder in [*((states, False) for states in known), *((states, True) for states in found)]:
                if states.shape[:-1] == row.shape and states.shape[-1] == module.weight.shape[-1]:
                    for head in _candidates(module, model.config.get_text_config(), from_decoder, states, expected):
                        logits = head(states).float()
                        tolerance = 1e-4 if outputs.logits.dtype == torch.float32 else 2e-2
                        if logits.shape != expected.shape:
                            continue
                        if (logits - expected).abs().max() <= tolerance * expected.abs().max():
                            return head
    finally:
        model.train(was_training)
    raise ModelError(
        f"{name} changes its logits after the output head in a way Lingraft does not know; its training would be wrong"
    )


def _candidates(
    module: nn.Module, config: Any, from_decoder: bool, states: torch.Tensor, expected: torch.Tensor
) -> Iterator[OutputHead]:
    """Yield what the head may be, the likeliest first."""
    caps = [cap for key in SOFTCAPS if (cap := getattr(config, key, None))]
    scales = [1.0]
    for key, inverse_first in SCALES:
        value = getattr(config, key, None)
        if value:
            scales = [1.0 / value, value] if inverse_first else [value]
    for scale, cap in itertools.product(scales, (*caps, None)):
        yield OutputHead(module, scale, cap, from_decoder)
    plain = OutputHead(module)(states).float()
    if plain.shape == expected.shape:
        yield OutputHead(module, float((plain * expected).sum() / plain.square().sum()), None, from_decoder)
