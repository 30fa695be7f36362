"""Grafts of another strength, against the weights of the merged model: theta_0 + s (theta - theta_0)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from builders import tiny_llama
from lingraft.core.errors import ModelError
from lingraft.merging.strength import at_strength, write_at_strength
from lingraft.models.adapter import read_parts, write_parts
from lingraft.models.adapter_files import read_adapter
from lingraft.models.growth import extended
from lingraft.models.merge_in_memory import merged as in_memory
from lingraft.models.vocabulary import Vocabulary
from lingraft.training.span_trainer import save_adapter
from lingraft.training.tuners import Tuner, TunerInputs
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.lora import LoraTuner
from vocabulary_support import load_base, make_graft, untie

IDS = torch.arange(3, 128)[None]
NEW = range(110, 128)
FULL = FullTuner(FullTuner.Params())
SOME = FullTuner(FullTuner.Params(layers=("last 1",)))


def lora(**params: Any) -> Tuner:
    return LoraTuner(LoraTuner.Params(rank=4, dropout=0.0, **params))


def base(tied: bool) -> Any:
    model = tiny_llama(128)
    if not tied:
        untie(model)
    return model


def trained(tuner: Tuner, tied: bool, folder: Path) -> dict[str, torch.Tensor]:
    """Write an adapter whose weights were all moved at random; return the weights of the model that it makes."""
    adapted = tuner.apply(base(tied), TunerInputs(seed=1, new_ids=NEW))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_adapter(adapted, folder)
    return merged(folder, tied).state_dict()


def merged(folder: Path, tied: bool) -> Any:
    return PeftModel.from_pretrained(base(tied), str(folder)).merge_and_unload()


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


CASES = {
    "plain": lora(),
    "embeddings": lora(embeddings="all"),
    "rows": lora(embeddings="new"),
    "lengths": lora(dora=True),
    "lengths and embeddings": lora(dora=True, embeddings="all"),
    "all weights": FULL,
    "weights of some layers": SOME,
}


@pytest.mark.parametrize(
    ("strength", "tied"),
    [
        (0.5, True),
        (1.5, False),
        pytest.param(0.5, False, marks=pytest.mark.long),
        pytest.param(1.5, True, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_on_the_line_and_new_rows_stay(tmp_path: Path, case: str, strength: float, tied: bool) -> None:
    whole, start = trained(CASES[case], tied, tmp_path / "graft"), base(tied).state_dict()
    new = NEW if "rows" in case or "embeddings" in case else ()
    expected = {name: value + strength * (whole[name] - value) for name, value in start.items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        expected[name][list(new)] = whole[name][list(new)]
    folder, model = tmp_path / "scaled", base(tied)
    write_parts(at_strength(read_parts(tmp_path / "graft"), model, strength, new), folder)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    found = merged(folder, tied)
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)
    # Beside the base it computes what it does when merged.
    read_adapter(folder)
    beside = logits(PeftModel.from_pretrained(base(tied), str(folder)))
    torch.testing.assert_close(beside, logits(found), rtol=1e-4, atol=1e-4)


def test_rows_of_known_tokens_go_by_the_line(tmp_path: Path) -> None:
    whole = trained(lora(embeddings="new"), True, tmp_path / "graft")["model.embed_tokens.weight"]
    ids, start = list(NEW), base(True).state_dict()["model.embed_tokens.weight"]
    parts = at_strength(read_parts(tmp_path / "graft"), base(True), 0.5, new=NEW[4:])
    (_, rows), *_ = parts.rows.values()
    torch.testing.assert_close(rows[:4], 0.5 * (whole + start)[ids[:4]])
    assert torch.equal(rows[4:], whole[ids[4:]])


@pytest.mark.parametrize("embeddings", ["new", "all"])
def test_a_vocabulary_of_its_own_keeps_its_rows(tmp_path: Path, embeddings: str) -> None:
    files, graft = make_graft(tmp_path, embeddings)
    half = tmp_path / "half"
    Vocabulary.of(graft).copy_to(half)
    write_at_strength(load_base(files), graft, 0.5, half)
    start = load_base(files).model.get_input_embeddings().weight.detach()
    known, rows, layer = len(load_base(files).renderer.tokenizer), {}, {}
    for folder in (graft, half):
        loaded = load_base(files)
        with extended(loaded, Vocabulary.of(folder)) as grown, in_memory(grown.model, folder):
            rows[folder] = grown.model.get_input_embeddings().weight.detach().clone()
            layer[folder] = grown.model.get_parameter("model.layers.0.mlp.up_proj.weight").detach().clone()
    assert torch.equal(rows[half][known:], rows[graft][known:])
    torch.testing.assert_close(rows[half][:known], 0.5 * (start + rows[graft][:known]), rtol=1e-5, atol=1e-6)
    plain = load_base(files).model.get_parameter("model.layers.0.mlp.up_proj.weight").detach()
    torch.testing.assert_close(layer[half], 0.5 * (plain + layer[graft]), rtol=1e-4, atol=1e-6)


def test_a_graft_of_another_base_is_refused(tmp_path: Path) -> None:
    trained(lora(embeddings="all"), True, tmp_path / "graft")
    with pytest.raises(RuntimeError, match="numbers for"):
        at_strength(read_parts(tmp_path / "graft"), tiny_llama(96), 0.5)
    files, _ = make_graft(tmp_path / "other", vocabulary=False)
    with pytest.raises(ModelError, match=r"does not fit the base .*give the base it was trained on"):
        write_at_strength(load_base(files), tmp_path / "graft", 0.5, tmp_path / "out")
