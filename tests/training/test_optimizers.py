"""Optimisers by transformers' names, embeddings with a learning rate of their own, and what the log says of a step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from builders import tiny_llama
from lingraft.core.errors import LingraftError, UsageError
from lingraft.models.adapter import take_off
from lingraft.models.growth import extended
from lingraft.models.vocabulary import Vocabulary
from lingraft.recipe.files import missing_parts
from lingraft.recipe.load import parse_recipe
from lingraft.training.optimizers import OPTIMIZERS, missing_package, try_optimizer
from lingraft.training.settings import TrainSettings
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows
from tiny_runs import values
from trainings import BASE, ROWS, run
from vocabulary_support import learn, load_base, save_base

CPU = torch.device("cpu")
HERE = [name for name, package in OPTIMIZERS.items() if package == "torch"]


class Stop(Exception):
    pass


def stop_at_six(progress: TrainProgress) -> None:
    if progress.step == 6:
        raise Stop


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith("adamw") else pytest.mark.long) for name in HERE]
)
def test_each_optimizer_learns_and_continues_exactly(tmp_path: Path, name: str) -> None:
    changes = {"optimizer": name, "max_steps": 9, "save_every_steps": 4}
    straight = run(tmp_path / "a", dropout=0.2, **changes)
    with pytest.raises(Stop):
        run(tmp_path / "b", dropout=0.2, progress=stop_at_six, **changes)
    continued = run(tmp_path / "b", dropout=0.2, **changes)
    plain = dict(straight.model.named_parameters())
    moved = 0.0
    for key, weight in continued.model.named_parameters():
        assert torch.equal(weight, plain[key]), key
        moved += float(weight.detach().abs().sum()) if "lora_B" in key else 0.0
    assert moved > 0
    assert [point.gradient_norm for point in straight.log] == [point.gradient_norm for point in continued.log]


def test_the_optimizer_is_the_one_named(tmp_path: Path) -> None:
    """One step of plain gradient descent without clipping: the weight is minus rate x gradient."""
    settings = {"tokens_per_step": 10_000, "epochs": 1, "max_grad_norm": 0, "warmup_share": 0, "schedule": "constant"}
    trained = run(tmp_path, optimizer="sgd", **settings)
    model = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0)).apply(tiny_llama(128), TunerInputs(seed=3))
    total = torch.zeros(())
    for row in ROWS:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0]
        nats = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(row.input_ids[1:]), reduction="none")
        total = total + (nats * torch.tensor(row.weights[1:])).sum()
    (total / sum(sum(row.weights[1:]) for row in ROWS)).backward()
    learnt = dict(trained.model.named_parameters())
    squares = 0.0
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            squares += float(weight.grad.double().square().sum())
            torch.testing.assert_close(learnt[name], weight.detach() - 1e-2 * weight.grad, rtol=1e-4, atol=1e-7)
    assert trained.log[0].gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_the_norm_is_that_before_clipping_and_the_rate_that_of_the_step(tmp_path: Path) -> None:
    changes = {"schedule": "linear", "warmup_share": 0.0, "max_steps": 4}
    free = run(tmp_path / "a", max_grad_norm=0, **changes)
    clipped = run(tmp_path / "b", max_grad_norm=1e-3, **changes)
    assert free.log[0].gradient_norm == pytest.approx(clipped.log[0].gradient_norm, rel=1e-6)
    assert clipped.log[0].gradient_norm > 1e-3
    assert [point.learning_rate for point in free.log] == pytest.approx(
        [1e-2 * share for share in (1, 0.75, 0.5, 0.25)]
    )


@pytest.mark.parametrize("limit", [1, 3])
def test_max_steps_ends_the_plan_and_its_schedule(tmp_path: Path, limit: int) -> None:
    whole, short = run(tmp_path / "a", schedule="constant"), run(tmp_path / "b", schedule="constant", max_steps=limit)
    assert short.steps == len(short.log) == limit < whole.steps
    assert [point.loss for point in short.log] == pytest.approx([point.loss for point in whole.log[:limit]], abs=0.02)
    assert short.tokens == whole.log[limit - 1].tokens
    assert run(tmp_path / "c", max_steps=10_000).steps == whole.steps
    decayed = run(tmp_path / "d", schedule="linear", max_steps=3, warmup_share=0)
    assert decayed.log[-1].learning_rate < 0.5 * decayed.log[0].learning_rate


@pytest.mark.parametrize("embeddings", ["new", "all"])
def test_embeddings_learn_at_their_own_rate(tmp_path: Path, embeddings: str) -> None:
    """The first step of AdamW moves a weight by the rate, whatever its gradient."""
    files = save_base(tmp_path / "base")
    learn(files, tmp_path / "v")
    with extended(load_base(files), Vocabulary.of(tmp_path / "v")) as grown:
        tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0, embeddings=embeddings))  # type: ignore[arg-type]
        fresh = tuner.apply(grown.model, TunerInputs(seed=3, new_ids=grown.new_ids))
        before = {key: weight.detach().clone() for key, weight in fresh.named_parameters()}
        take_off(fresh)
        changes = {"max_steps": 1, "warmup_share": 0, "schedule": "constant", "embedding_learning_rate": 1e-4}
        trained = train(
            grown.model,
            random_rows(30, vocab=grown.new_ids.stop, weight=0.3),
            TrainSettings.model_validate(BASE | changes),
            tuner,
            pad_id=0,
            work_dir=tmp_path / "work",
            seed=3,
            new_ids=grown.new_ids,
        )
        rates = {"lora_B": 0.0, "embed": 0.0}
        for key, weight in trained.model.named_parameters():
            if weight.requires_grad and "lora_A" not in key:
                kind = "lora_B" if "lora_B" in key else "embed"
                rates[kind] = max(rates[kind], float((weight.detach() - before[key]).abs().max()))
        assert rates == pytest.approx({"lora_B": 1e-2, "embed": 1e-4}, rel=2e-2)
        take_off(trained.model)


def test_a_rate_for_embeddings_that_do_not_learn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither embeddings nor output head learn; drop it, or set"):
        run(tmp_path, embedding_learning_rate=1e-4)
    changed = values(tmp_path)
    changed["stages"][0]["train"]["embedding_learning_rate"] = 1e-4
    with pytest.raises(
        UsageError, match=r"stage 'vanilla': train\.embedding_learning_rate is for embeddings that learn"
    ):
        parse_recipe(changed, "", tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adamw_torhc", "did you mean 'adamw_torch'"),
        ("lomo", "'lomo' updates during the backward pass"),
        ("galore_adamw", "projects whole weights"),
        ("schedule_free_adamw", "would not continue exactly"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainSettings.model_validate({"optimizer": name})


def test_every_name_is_one_of_transformers() -> None:
    from transformers.training_args import OptimizerNames

    assert {one.value for one in OptimizerNames} >= OPTIMIZERS.keys()


def test_a_missing_package_is_named_before_anything_starts(tmp_path: Path) -> None:
    absent = [name for name in OPTIMIZERS if missing_package(name)]
    assert "grokadamw" in absent
    changed = values(tmp_path)
    changed["stages"][0]["train"]["optimizer"] = "grokadamw"
    assert missing_parts(parse_recipe(changed, "", tmp_path)) == [
        "optimizer grokadamw needs the package grokadamw; run `pip install grokadamw`"
    ]
    with pytest.raises(UsageError, match="needs the package grokadamw"):
        run(tmp_path, optimizer="grokadamw")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_works_or_says_why_not(name: str) -> None:
    said = ""
    try:
        try_optimizer(name, CPU)
    except LingraftError as error:
        said = str(error)
    assert not said or (name in said and OPTIMIZERS[name] != "torch")


def test_settings_at_their_defaults_are_not_part_of_what_training_is_known_by() -> None:
    plain = TrainSettings().identity()
    assert not plain.keys() & {"max_steps", "optimizer", "embedding_learning_rate"}
    assert TrainSettings(max_steps=3).identity() == plain | {"max_steps": 3}
