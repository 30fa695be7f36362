"""Decoder layers that stay frozen by a rule: by what tuning changed in them, by signal to noise, or by drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.adapter import take_off
from lingraft.training.decoder_layers import chosen_layers, decoder_layers, layer_share
from lingraft.training.layer_choice import LayerChoice, learning_layers, signal_to_noise
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.layer_drift import drift
from lingraft.training.tuners.lora import LoraTuner
from lingraft.training.tuners.osf import OsfTuner
from random_rows import random_rows

DRIFT = {"by": "drift", "keep": 0.5}
SPECTRUM = {"by": "spectrum", "keep": 0.5}


def choice(**values: Any) -> LayerChoice:
    return LayerChoice.model_validate({**SPECTRUM, **values})


def learning(model: Any, chosen: LayerChoice) -> list[int]:
    return learning_layers(model, decoder_layers(model), chosen)


def test_signal_to_noise_by_hand() -> None:
    """Singular values 10, 4, 3, 2, 1: the interquartile range is 2, so the threshold of a square matrix is
    2 / 1.349 * 2 = 2.965; signal 17, noise 3, largest 10."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q for _ in range(2))
    weight = left @ torch.diag(torch.tensor([10.0, 4, 3, 2, 1])) @ right
    assert signal_to_noise(weight) == pytest.approx(17 / 3 / 10, rel=1e-4)
    assert signal_to_noise(3 * weight) == pytest.approx(17 / 3 / 30, rel=1e-4)
    # Of a (5, 20) matrix the threshold is 2 / 1.349 * 1.5 = 2.224: 2 is noise still.
    assert signal_to_noise(torch.cat([weight, torch.zeros(15, 5)])) == pytest.approx(17 / 3 / 10, rel=1e-4)
    assert signal_to_noise(torch.zeros(3, 3)) == 0
    assert signal_to_noise(torch.eye(3)) == float("inf")


def test_the_layers_with_the_most_signal_learn() -> None:
    model = tiny_llama(60, layers=4)
    with torch.no_grad():
        for number in (1, 3):
            for weight in model.model.layers[number].parameters():
                if weight.dim() == 2:  # one strong direction of small values above the noise
                    weight[:] = 0.01 * weight
                    weight[0, 0] = 1.0
    assert learning(model, choice()) == [1, 3]
    assert set(learning(model, choice(keep=0.7))) < {1, 3}
    assert len(learning(model, choice(keep=0.25))) == 3


def test_the_layers_that_changed_most_are_kept(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer, layers=4)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        for number, factor in enumerate((1.01, 1.5, 1.02, 1.3)):
            for weight in model.model.layers[number].parameters():
                weight *= factor
    by_change = choice(by="weight_change", pretrained=str(tmp_path))
    assert learning(model, by_change) == [0, 2]
    assert learning(model, by_change.model_copy(update={"keep": 0.25})) == [0, 2, 3]
    other = tiny_llama(tokenizer, layers=4, hidden=16)
    with pytest.raises(UsageError, match=r"has no weights model\.layers\.0"):
        learning(other, by_change)
    with pytest.raises(ModelError, match="there is no model at 'nowhere'"):
        learning(model, choice(by="weight_change", pretrained="nowhere"))


def test_drift_by_hand() -> None:
    """Two rows, two layers: angles of 0 and 60 degrees, then of 90 and 180; lengths do not count."""
    before = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [1.0, 1.0]]])
    after = torch.tensor([[[5.0, 0.0], [1.0, 3**0.5]], [[1.0, 0.0], [-2.0, -2.0]]])
    torch.testing.assert_close(drift(before, after).tolist(), [(0 + 1) / 2, (0.5 + 2) / 2])


@pytest.mark.parametrize("kind", [LoraTuner, FullTuner, OsfTuner])
def test_the_layers_that_a_first_training_moves_most_are_kept(kind: Any, tmp_path: Path) -> None:
    """What changes in a layer moves the hidden states behind it and behind all that follow."""
    tuner = kind(kind.Params.model_validate({"layers": DRIFT}))
    assert (tuner.passes, tuner.needs_prompts, tuner.selects) == (2, True, True)
    assert "aggarwal-2024-cft" in tuner.cited
    model, rows = tiny_llama(128, layers=4), random_rows(3, vocab=128)
    values = {name: weight.clone() for name, weight in model.named_parameters()}
    adapted = tuner.apply(model, TunerInputs(seed=1))
    learnt = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {number for number in range(4) if any(f".layers.{number}." in name for name in learnt)} == {0, 1, 2, 3}
    assert tuner.learning(adapted) == sum(weight.numel() for weight in learnt.values()) // 2
    with torch.no_grad():
        for name, weight in learnt.items():
            if ".layers.2." in name:
                weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    if isinstance(tuner, OsfTuner):  # back where its directions may be
        project = tuner.constraint(adapted)
        assert project is not None
        with torch.no_grad():
            project()
    tuner.save(adapted, tmp_path)
    take_off(adapted)
    masks = tuner.select(model, TunerInputs(seed=1, replay=rows, trained=tmp_path))
    assert {name.split(".")[2] for name in masks} == {"0", "1"}
    assert all(weight is dict(model.named_parameters())[name] for name, weight in model.named_parameters())
    assert all(torch.equal(weight, values[name]) for name, weight in model.named_parameters())
    adapted = tuner.apply(model, TunerInputs(seed=1), masks)
    learnt = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {number for number in range(4) if any(f".layers.{number}." in name for name in learnt)} == {0, 1}
    assert tuner.learning(adapted) == sum(weight.numel() for weight in learnt.values())


def test_drift_needs_prompts() -> None:
    tuner = LoraTuner(LoraTuner.Params.model_validate({"layers": DRIFT}))
    with pytest.raises(UsageError, match="no prompts in the replay half to measure drift on"):
        tuner.select(tiny_llama(60, layers=2), TunerInputs(seed=1))
    with pytest.raises(UsageError, match="the model has one layer"):
        tuner.apply(tiny_llama(60, layers=1), TunerInputs(seed=1))


def test_other_weights_are_looked_at_anew() -> None:
    model = tiny_llama(60, layers=2)
    first = learning(model, choice())
    assert learning(model, choice()) == first
    with torch.no_grad():
        strong = 1 - first[0]
        for weight in model.model.layers[strong].parameters():
            if weight.dim() == 2:
                weight[:] = 0.01 * weight
                weight[0, 0] = 1.0
    assert learning(model, choice()) == [strong]


@pytest.mark.parametrize("kind", [LoraTuner, FullTuner])
def test_tuners_train_the_chosen_layers_alone(kind: Any) -> None:
    model = tiny_llama(60, layers=4)
    params = kind.Params.model_validate({"layers": SPECTRUM})
    assert kind.Params.model_validate_json(params.model_dump_json()) == params
    names = chosen_layers(model, params.layers)
    assert names is not None
    assert len(names) == 2
    adapted = kind(params).apply(model, TunerInputs(seed=1))
    learnt = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learnt
    assert {name for name in names if any(f".{name}." in one for one in learnt)} == set(names)
    assert all(any(f".{name}." in one for name in names) for one in learnt)


def test_how_many_learn_is_known_before_which() -> None:
    with torch.device("meta"):
        model = tiny_llama(60, layers=4)
    assert learning(model, choice()) == [2, 3]
    assert layer_share(choice(), 4) == 0.5
    assert layer_share(choice(keep=0.9), 4) == 0.25  # one learns at least
    assert layer_share(choice(keep=0.01), 4) == 0.75  # and one is kept
    assert layer_share(choice(by="drift"), 4) == 1  # in the first of two trainings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"by": "weight_change"}, "give `pretrained` with it alone"),
        ({"by": "spectrum", "pretrained": "x"}, "give `pretrained` with it alone"),
        ({"by": "luck"}, "by"),
        ({"by": "spectrum", "keep": 1}, "keep"),
        ({"by": "spectrum", "most": 1}, "most"),
        ({"keep": 0.5}, "by"),
    ],
)
def test_what_is_no_rule_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoraTuner.Params.model_validate({"layers": values})


@pytest.mark.parametrize(("setting", "value"), [("precision", "nf4"), ("sharding", "full")])
def test_what_hides_whole_weights_is_refused_when_the_recipe_is_read(setting: str, value: str) -> None:
    ruled, named = (LoraTuner(LoraTuner.Params.model_validate({"layers": one})) for one in (SPECTRUM, "first 1"))
    train = TrainSettings.model_validate({setting: value})
    assert named.refusal(train) is None
    refused = ruled.refusal(train)
    assert refused is not None
    assert refused[0] == setting
    assert "a rule for layers looks at whole weights" in refused[1]


def test_weights_in_four_bits_and_a_single_layer_are_refused() -> None:
    with pytest.raises(UsageError, match="the model has one layer"):
        learning(tiny_llama(60, layers=1), choice())
    model = tiny_llama(60, layers=2)
    packed = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    model.model.layers[0].mlp.up_proj.weight = packed
    with pytest.raises(UsageError, match="needs whole weights"):
        learning(model, choice())
