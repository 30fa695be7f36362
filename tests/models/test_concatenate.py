"""Adapters merged in memory and joined, against PEFT: base + both = (base + first) + second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from builders import tiny_llama
from lingraft.core.errors import ModelError
from lingraft.models.adapter import take_off
from lingraft.models.adapter_files import read_adapter
from lingraft.models.concatenate import concatenate
from lingraft.models.merge_in_memory import merged
from lingraft.training.span_trainer import save_adapter
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from vocabulary_support import untie

IDS = torch.arange(3, 120)[None]
NEW = range(110, 128)
ALL = {"rank": 4, "embeddings": "all"}
ROWS = {"rank": 4, "embeddings": "new"}


def base(tied: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    model = tiny_llama(128)
    if not tied:
        untie(model)
    return model.to(dtype)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def trained(model: Any, folder: Path, seed: int, **params: Any) -> torch.Tensor:
    """Write an adapter whose weights were all moved at random; return the logits of the model with it."""
    adapted = LoraTuner(LoraTuner.Params(dropout=0.0, **params)).apply(model, TunerInputs(seed=seed, new_ids=NEW))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    found = logits(adapted)
    save_adapter(adapted, folder)
    take_off(adapted)
    return found


def loaded(folder: Path, tied: bool = True) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(base(tied), str(folder)))


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"rank": 4}, {"rank": 4}),
    ({"rank": 2, "alpha": 8}, {"rank": 6, "alpha": 3, "rslora": True}),
    ({"rank": 4, "targets": ("q_proj", "down_proj")}, {"rank": 2, "targets": ("q_proj", "v_proj"), "alpha": 5}),
    ({"rank": 4, "targets": ("embed_tokens", "q_proj")}, {"rank": 2, "targets": ("embed_tokens",)}),
    (ALL, ALL),
    (ROWS, ROWS),
    (ALL, ROWS),
    (ROWS, ALL),
    (ALL, {"rank": 3}),
    ({"rank": 3}, ALL),
    (ALL, {"rank": 3, "targets": ("embed_tokens", "q_proj")}),
]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("first", "second"), CASES)
def test_joined_adapters_do_what_merging_between_does(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], tied: bool
) -> None:
    if tied and "embed_tokens" in second.get("targets", ()):
        pytest.skip("PEFT's low-rank update of an embedding leaves a tied head alone: see below")
    model = base(tied)
    plain, state = logits(model), dict(model.named_parameters())
    after_first = trained(model, tmp_path / "one", 1, **first)
    with merged(model, tmp_path / "one"):
        torch.testing.assert_close(logits(model), after_first, rtol=1e-4, atol=1e-4)
        assert dict(model.named_parameters()).keys() == state.keys()
        both = trained(model, tmp_path / "two", 2, **second)
    assert torch.equal(logits(model), plain)
    assert all(parameter is state[name] for name, parameter in model.named_parameters())
    concatenate(tmp_path / "one", tmp_path / "two", tmp_path / "joined")
    assert (both - after_first).abs().max() > 0.01
    torch.testing.assert_close(loaded(tmp_path / "joined", tied), both, rtol=1e-4, atol=1e-4)
    with merged(model, tmp_path / "joined"):
        torch.testing.assert_close(logits(model), both, rtol=1e-4, atol=1e-4)


def test_three_adapters_become_one_of_their_ranks_together(tmp_path: Path) -> None:
    model = base()
    trained(model, tmp_path / "one", 1, rank=4)
    with merged(model, tmp_path / "one"):
        trained(model, tmp_path / "two", 2, rank=3, rslora=True)
    concatenate(tmp_path / "one", tmp_path / "two", tmp_path / "both")
    with merged(model, tmp_path / "both"):
        expected = trained(model, tmp_path / "three", 3, rank=2)
    concatenate(tmp_path / "both", tmp_path / "three", tmp_path / "all")
    torch.testing.assert_close(loaded(tmp_path / "all"), expected, rtol=1e-4, atol=1e-4)
    config, weights = read_adapter(tmp_path / "all")
    assert (config.r, config.lora_alpha, config.use_rslora) == (9, 9, False)
    assert weights["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (9, 32)


def test_the_same_adapters_give_the_same_files(tmp_path: Path) -> None:
    model = base()
    trained(model, tmp_path / "one", 1, **ALL)
    trained(model, tmp_path / "two", 2, **ALL)
    for out in ("a", "b"):
        concatenate(tmp_path / "one", tmp_path / "two", tmp_path / out)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_rounded_base_holds_whole_layers_unrounded(tmp_path: Path) -> None:
    model = base(dtype=torch.bfloat16)
    trained(base(), tmp_path / "one", 1, **ALL)
    _, weights = read_adapter(tmp_path / "one")
    with merged(model, tmp_path / "one"):
        embedding = model.get_input_embeddings().weight
        assert torch.equal(embedding, weights["base_model.model.model.embed_tokens.weight"])
        assert model.model.layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "options", [{"use_dora": True, "target_modules": ["embed_tokens"]}, {"bias": "all"}, {"lora_bias": True}]
)
def test_other_adapters_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", **{"target_modules": ["q_proj"], **options})
    get_peft_model(base(tied=False), config).save_pretrained(str(tmp_path / "odd"))
    with pytest.raises(ModelError, match="is not a plain LoRA adapter"), merged(base(), tmp_path / "odd"):
        pass


def test_an_update_of_an_embedding_that_is_the_head_as_well_is_not_merged(tmp_path: Path) -> None:
    trained(base(), tmp_path / "one", 1, rank=2, targets=("embed_tokens",))
    with pytest.raises(ModelError, match="shares its weight with another layer"), merged(base(), tmp_path / "one"):
        pass


def test_an_adapter_of_another_base_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    trained(tiny_llama(128, hidden=64), tmp_path / "wide", 1, rank=4)
    trained(base(), tmp_path / "own", 1, rank=4)
    model = base()
    expected = logits(model)
    with pytest.raises(ModelError, match="cannot be merged into the base"), merged(model, tmp_path / "wide"):
        pass
    assert torch.equal(logits(model), expected)
    with pytest.raises(ModelError, match="do not go together"):
        concatenate(tmp_path / "wide", tmp_path / "own", tmp_path / "out")
