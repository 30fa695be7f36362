"""Logits in float32 of a head in 16 bits, against float64; what cannot be had so is given as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lingraft.models import output_head
from lingraft.models.output_head import OutputHead


def exact(head: OutputHead, states: torch.Tensor) -> torch.Tensor:
    """Return the logits by their definition."""
    layer = head.module
    assert isinstance(layer, nn.Linear)
    logits = states.double() @ layer.weight.double().T
    logits = (logits if layer.bias is None else logits + layer.bias.double()) * head.scale
    return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap


@pytest.mark.parametrize(("bias", "scale", "softcap"), [(False, 1.0, None), (True, 0.5, None), (False, 1.0, 20.0)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parts_in_float32_have_no_steps(
    bias: bool, scale: float, softcap: float | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_head, "LOGITS_PER_CHUNK", 350)
    torch.manual_seed(1)
    head = OutputHead(nn.Linear(32, 300, bias=bias).to(dtype).requires_grad_(False), scale, softcap)
    head.module.weight.mul_(30)  # type: ignore[operator]
    states = torch.randn(5, 32).to(dtype)
    parts = list(head.float32(states))
    assert [begin for begin, _ in parts] == list(range(0, 300, 70))
    found = torch.cat([logits for _, logits in parts], -1)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact(head, states), atol=1e-3)
    assert (head(states).double() - exact(head, states)).abs().max() > 5e-3


def test_few_weights_are_converted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_head, "WEIGHTS_PER_PART", 32 * 100)
    head = OutputHead(nn.Linear(32, 300, bias=False).to(torch.bfloat16))
    assert [begin for begin, _ in head.float32(torch.randn(1, 32).to(torch.bfloat16))] == [0, 100, 200]


class Adapted(nn.Linear):
    """Does more than its weights say."""


@pytest.mark.parametrize("layer", [nn.Linear(8, 20), Adapted(8, 20).to(torch.bfloat16)])
def test_what_is_in_float32_or_no_plain_layer_gives_one_part(layer: nn.Linear) -> None:
    head, states = OutputHead(layer), torch.randn(3, 8)
    (part,) = head.float32(states)
    assert part[0] == 0
    assert torch.equal(part[1], head(states).float())
