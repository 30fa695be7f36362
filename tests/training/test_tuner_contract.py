"""What training with every registered tuner must do: resumed it is the same, without it the base is the base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from builders import tiny_llama
from lingraft.models.adapter import take_off
from lingraft.models.concatenate import concatenate
from lingraft.models.export import export_graft
from lingraft.models.graft import GraftInfo, grafted, write_info
from lingraft.models.merge_in_memory import merged
from lingraft.training.development import Development
from lingraft.training.settings import TrainSettings
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import ALL, TUNERS, Tuner, TunerInputs
from random_rows import random_rows
from vocabulary_support import load_base, save_base

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"rslora": True, "layers": ["first 1"]}),
    ("lora", {"dora": True, "dropout": 0.0}),
    ("lora", {"orthogonal": 4}),
    ("full", {"layers": "last 1"}),
    ("lora", {"layers": {"by": "drift", "keep": 0.5}}),
    ("osf", {"layers": {"by": "drift", "keep": 0.5}}),
]
"""Beside each entry of the registry by its defaults; what they change is tested apart, but for what is no sum."""
CASES = [
    *(pytest.param((name, {}), id=name) for name in TUNERS),
    *(
        pytest.param((name, params), id="-".join([name, *params]), marks=[] if "dora" in params else pytest.mark.long)
        for name, params in VARIANTS
    ),
]
IDS = torch.arange(5, 60)[None]
SETTINGS = {"learning_rate": 1e-2, "tokens_per_step": 60, "save_every_steps": 1, "precision": "fp32"}
ROWS = random_rows(16, vocab=128, weight=0.3)


def tuner_of(case: tuple[str, dict[str, Any]]) -> Tuner:
    entry: Any = TUNERS.get(case[0])
    tuner: Tuner = entry(entry.Params.model_validate(case[1]))
    return tuner


def base() -> Any:
    return tiny_llama(128)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def tuned(model: Any, work: Path, tuner: Tuner, **options: Any) -> TrainResult:
    given = {key: options.pop(key) for key in ("initial", "progress", "development") if key in options}
    settings = TrainSettings.model_validate(SETTINGS | options)
    masks = selected(model, work / "first", tuner)
    return train(model, ROWS, settings, tuner, pad_id=0, work_dir=work, seed=3, selected=masks, **given)


def selected(model: Any, work: Path, tuner: Tuner) -> Mapping[str, torch.Tensor]:
    """Return what a tuner selects, after a first training where it takes one."""
    if not tuner.selects:
        return ALL
    trained = None
    if tuner.passes == 2:
        settings, trained = TrainSettings.model_validate(SETTINGS), work / "trained"
        first = train(model, ROWS, settings, tuner, pad_id=0, work_dir=work / "work", seed=3)
        tuner.save(first.model, trained)
        take_off(first.model)
    return tuner.select(model, TunerInputs(seed=3, rows=ROWS, replay=ROWS, trained=trained))


@dataclass(frozen=True)
class Trained:
    """An adapter that a tuner has trained on the tiny base."""

    tuner: Tuner
    folder: Path
    losses: list[float]
    logits: torch.Tensor
    off: torch.Tensor


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, tuner, model = tmp_path_factory.mktemp("tuned"), tuner_of(request.param), base()
    weights = dict(model.named_parameters())
    values = {name: weight.clone() for name, weight in weights.items()}
    result = tuned(model, folder / "work", tuner)
    on = logits(result.model)
    with result.model.disable_adapter():
        off = logits(result.model)
    tuner.save(result.model, folder / "adapter")
    take_off(result.model)
    assert dict(model.named_parameters()).keys() == weights.keys()
    assert all(weight is weights[name] for name, weight in model.named_parameters())
    assert all(torch.equal(weight, values[name]) for name, weight in model.named_parameters())
    return Trained(tuner, folder / "adapter", [point.loss for point in result.log], on, off)


def test_what_servers_cannot_load_is_known_before_training(trained: Trained) -> None:
    """A server (vLLM) loads plain low-rank updates: no whole layers, rows of embeddings, lengths of rows."""
    config = json.loads((trained.folder / "adapter_config.json").read_text("utf-8"))
    odd = config["peft_type"] != "LORA" or any(
        config.get(key) for key in ("modules_to_save", "trainable_token_indices", "target_parameters", "use_dora")
    )
    assert bool(trained.tuner.beyond_updates) == odd


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def test_the_best_weights_are_put_back_to_the_bit(case: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    calls: list[int] = []

    def measure(model: Any) -> dict[str, float]:
        calls.append(len(calls))
        return {"chrf": -float(abs(calls[-1] - 1))}  # the second call, after the first step, is the best

    settings = {"schedule": "constant", "warmup_share": 0.0}
    development = Development(rows=random_rows(3, vocab=128, seed=9), measure=measure, identity="of this test")
    best = {"dev_every_steps": 1, "keep": "best", "best_by": "chrf", "max_steps": 3}
    kept = tuned(base(), tmp_path / "kept", tuner_of(case), development=development, **best, **settings)
    plain = tuned(base(), tmp_path / "plain", tuner_of(case), max_steps=1, **settings)
    assert (kept.steps, kept.kept) == (3, 1)
    learnt = {name: weight for name, weight in plain.model.named_parameters() if weight.requires_grad}
    assert learnt
    assert all(torch.equal(dict(kept.model.named_parameters())[name], weight) for name, weight in learnt.items())
    assert torch.equal(logits(kept.model), logits(plain.model))


def test_it_learns_and_the_base_is_untouched(trained: Trained) -> None:
    expected = logits(base())
    assert torch.equal(trained.off, expected)
    assert (trained.logits - expected).abs().max() > 1e-3
    assert len(trained.losses) > 3


def test_an_interrupted_training_ends_as_an_uninterrupted_one(trained: Trained, tmp_path: Path) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    model = base()
    with pytest.raises(KeyboardInterrupt):
        tuned(model, tmp_path / "cut", trained.tuner, progress=stop)
    again = tuned(model, tmp_path / "cut", trained.tuner)
    assert [point.loss for point in again.log] == trained.losses
    assert torch.equal(logits(again.model), trained.logits)
    trained.tuner.save(again.model, tmp_path / "adapter")
    for file in sorted(trained.folder.iterdir()):
        if file.name != "README.md":
            assert (tmp_path / "adapter" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_best_weights_are_kept(trained: Trained, tmp_path: Path) -> None:
    values = iter((0.0, 2.0, 1.0))  # at the beginning, and after two steps and four
    options = {"schedule": "constant", "dev_every_steps": 2, "best_by": "chrf", "save_every_steps": 2}
    development = Development(rows=ROWS[:2], measure=lambda model: {"chrf": next(values), "kl": 0.0}, identity="x")
    short = tuned(base(), tmp_path / "short", trained.tuner, schedule="constant", max_steps=2)
    best = tuned(base(), tmp_path / "best", trained.tuner, development=development, max_steps=4, keep="best", **options)
    assert [point.step for point in best.dev] == [0, 2, 4]
    assert torch.equal(logits(best.model), logits(short.model))


def test_plain_peft_loads_and_merges_it(trained: Trained) -> None:
    loaded = PeftModel.from_pretrained(base(), str(trained.folder))
    torch.testing.assert_close(logits(loaded), trained.logits, rtol=1e-4, atol=1e-5)
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(base()))
    torch.testing.assert_close(logits(loaded.merge_and_unload()), trained.logits, rtol=1e-4, atol=1e-5)


def test_it_is_merged_in_memory(trained: Trained) -> None:
    model = base()
    with merged(model, trained.folder):
        torch.testing.assert_close(logits(model), trained.logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(model), logits(base()))


def test_the_next_stage_goes_on_from_it(trained: Trained, tmp_path: Path) -> None:
    model = base()
    still = tuned(model, tmp_path / "still", trained.tuner, initial=trained.folder, learning_rate=1e-12)
    torch.testing.assert_close(logits(still.model), trained.logits, rtol=1e-4, atol=1e-5)
    take_off(still.model)
    assert torch.equal(logits(model), logits(base()))


def test_a_new_one_is_trained_on_it_and_both_are_one_adapter(trained: Trained, tmp_path: Path) -> None:
    if not trained.tuner.adds_up:
        pytest.skip("refused when a recipe is read")
    model = base()
    with merged(model, trained.folder):
        result = tuned(model, tmp_path / "work", trained.tuner)
        expected = logits(result.model)
        trained.tuner.save(result.model, tmp_path / "own")
        take_off(result.model)
    concatenate(trained.folder, tmp_path / "own", tmp_path / "both")
    assert (expected - trained.logits).abs().max() > 1e-3
    loaded = PeftModel.from_pretrained(base(), str(tmp_path / "both"))
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_the_graft_is_put_on_its_base_and_exported(case: Any, precision: str, tmp_path: Path) -> None:
    files, tuner = save_base(tmp_path / "base", tied=True), tuner_of(case)
    loaded = load_base(files)
    before = logits(loaded.model)
    result = tuned(loaded.model, tmp_path / "work", tuner, precision=precision)
    trained = logits(result.model)
    tuner.save(result.model, tmp_path / "graft")
    take_off(result.model)
    assert (trained - before).abs().max() > 1e-3
    info = {"method": "x", "instruction": "x {source}", "base_id": str(files.folder), "base_sha256": files.sha256}
    write_info(tmp_path / "graft", GraftInfo.model_validate({**info, "directions": [{"source": "en", "target": "de"}]}))
    with grafted(loaded, tmp_path / "graft") as on:
        torch.testing.assert_close(logits(on.model), trained, rtol=1e-3, atol=1e-3)
    assert torch.equal(logits(loaded.model), before)
    assert export_graft(tmp_path / "graft", tmp_path / "out", dtype="fp32")["max_logit_difference"] < 1e-4
