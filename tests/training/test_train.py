"""Training trajectories: equal whatever the micro-batches, equal after an interruption, and honest about failures."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from builders import tiny_llama
from lingraft.core.errors import DataError, ModelError, StoreError, TrainingError, UsageError
from lingraft.training.plan import Plan
from lingraft.training.settings import TrainSettings
from lingraft.training.step_callback import TrainProgress
from lingraft.training.step_dataset import StepDataset
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from nursery import ran
from processes import flip
from trainings import BASE, ROWS, run


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in result.model.named_parameters() if "lora" in name}


def losses(result: TrainResult) -> list[float]:
    return [point.loss for point in result.log]


def assert_same(one: TrainResult, two: TrainResult) -> None:
    assert losses(one) == losses(two)
    assert [point.by_role for point in one.log] == [point.by_role for point in two.log]
    for name, weight in weights(one).items():
        assert torch.equal(weight, weights(two)[name]), name


def test_loss_is_the_weighted_mean_over_the_step(tmp_path: Path) -> None:
    result = run(tmp_path, tokens_per_step=10_000, epochs=1)  # one step: all rows under the untouched base
    model, total, weight = tiny_llama(128), 0.0, 0.0
    for row in ROWS:
        log_p = model(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for t in range(1, len(row.input_ids)):
            total -= row.weights[t] * log_p[t - 1, row.input_ids[t]].item()
            weight += row.weights[t]
    assert len(result.log) == 1
    assert result.log[0].loss == pytest.approx(total / weight, rel=1e-6)
    assert result.tokens == sum(len(row.input_ids) for row in ROWS)
    assert result.supervised_tokens == sum(row.supervised for row in ROWS)


def test_one_step_with_warm_up_moves_the_adapter_and_few_steps_are_said(tmp_path: Path) -> None:
    """The first step of AdamW moves a weight by the rate, whatever the gradient: here half the highest rate."""
    said: list[str] = []
    result = train(
        tiny_llama(128),
        ROWS,
        TrainSettings.model_validate(BASE | {"tokens_per_step": 100_000, "epochs": 1}),
        LoraTuner(LoraTuner.Params(rank=4, dropout=0.0)),
        pad_id=0,
        work_dir=tmp_path,
        seed=3,
        say=said.append,
    )
    moved = [weight.abs().max().item() for name, weight in weights(result).items() if "lora_B" in name]
    assert moved
    assert all(most == pytest.approx(5e-3, rel=1e-2) for most in moved)
    tokens = sum(len(row.input_ids) for row in ROWS)
    (sentence,) = said
    assert sentence.startswith(
        f"1 optimiser step ({tokens:,} tokens, 100,000 a step) teach little; use tokens_per_step: "
    )
    better = int(sentence.split("tokens_per_step: ")[1].split()[0])
    assert tokens / better >= 10
    assert sentence.endswith("or epochs: 10")


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_micro_batches_change_nothing(tmp_path: Path, batching: str) -> None:
    whole = run(tmp_path / "a", batching=batching)
    cut = run(tmp_path / "b", batching=batching, micro_tokens=1)  # 1: every row goes alone
    assert whole.packed == cut.packed == (batching == "packed")
    assert cut.padded_tokens == cut.tokens == whole.tokens
    assert (whole.padded_tokens > whole.tokens) == (batching == "padded")
    gaps = np.subtract(losses(whole), losses(cut))
    assert np.abs(gaps).max() < 2e-5
    assert abs(gaps.mean()) < 5e-6  # no one-sided shift
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weight, weights(cut)[name], rtol=1e-3, atol=1e-4)


def test_plain_loop_gives_the_same_trajectory(tmp_path: Path) -> None:
    result = run(tmp_path, rows=ROWS[:8], tokens_per_step=10_000, epochs=6, schedule="constant", warmup_share=0)
    model = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0)).apply(tiny_llama(128), TunerInputs(seed=3))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.0)
    expected = []
    for _ in range(6):
        total = torch.zeros(())
        for row in ROWS[:8]:
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0]
            values = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(row.input_ids[1:]), reduction="none")
            total = total + (values * torch.tensor(row.weights[1:])).sum()
        loss = total / sum(sum(row.weights[1:]) for row in ROWS[:8])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        expected.append(loss.item())
    assert losses(result) == pytest.approx(expected, abs=2e-5)
    assert expected[-1] < expected[0] - 0.01


def test_only_ratios_of_weights_matter(tmp_path: Path) -> None:
    tripled = [replace(row, weights=tuple(3 * weight for weight in row.weights)) for row in ROWS]
    one, two = run(tmp_path / "a"), run(tmp_path / "b", rows=tripled)
    assert losses(one) == pytest.approx(losses(two), abs=2e-5)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    model = tiny_llama(128)
    plain, recomputed = run(tmp_path / "a"), run(tmp_path / "b", model=model, gradient_checkpointing=True)
    assert losses(plain) == pytest.approx(losses(recomputed), abs=1e-5)
    assert not model.is_gradient_checkpointing


def test_bfloat16_follows_float32(tmp_path: Path) -> None:
    exact, rough = run(tmp_path / "a"), run(tmp_path / "b", precision="bf16")
    assert losses(exact) == pytest.approx(losses(rough), abs=0.02)
    assert {weight.dtype for weight in weights(rough).values()} == {torch.float32}


class Stop(Exception):
    pass


def test_stopped_run_continues_with_equal_losses_and_weights(tmp_path: Path) -> None:
    straight = run(tmp_path / "a", dropout=0.3)
    model = tiny_llama(128)

    def stop(progress: TrainProgress) -> None:
        if progress.step == 6:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "b", dropout=0.3, model=model, save_every_steps=4, progress=stop)
    assert not any("lora" in name for name, _ in model.named_parameters())
    seen: list[TrainProgress] = []
    continued = run(tmp_path / "b", dropout=0.3, model=model, save_every_steps=4, progress=seen.append)
    assert [progress.step for progress in seen] == list(range(5, straight.steps + 1))
    assert_same(straight, continued)
    assert seen[-1].tokens == continued.tokens
    assert seen[-1].eta_seconds == 0
    assert_same(straight, run(tmp_path / "b", dropout=0.3, save_every_steps=4))  # finished: nothing left to do


KILLED = """
import os, signal, sys
from pathlib import Path
from trainings import run

def kill(progress):
    if progress.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)

run(Path(sys.argv[1]), dropout=0.3, save_every_steps=3, progress=kill)
"""


def test_killed_process_continues_with_equal_losses_and_weights(tmp_path: Path) -> None:
    paths = [str(path) for path in sys.path if path]
    script = f"import sys\nsys.path[:0] = {paths!r}\nimport conftest\n{KILLED}"
    tests = Path(__file__).parents[1]
    done = ran(script, tmp_path / "b", cwd=tests)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((tmp_path / "b" / "losses.jsonl").read_text().splitlines()) == 7
    continued = run(tmp_path / "b", dropout=0.3, save_every_steps=3)
    assert_same(run(tmp_path / "a", dropout=0.3), continued)
    logged = [json.loads(line)["loss"] for line in (tmp_path / "b" / "losses.jsonl").read_text().splitlines()]
    assert logged == losses(continued)


def test_checkpoint_without_marker_does_not_count(tmp_path: Path) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 6:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "b", dropout=0.3, save_every_steps=4, progress=stop)
    torn = tmp_path / "b" / "checkpoints" / "checkpoint-6"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half a fi")
    with (tmp_path / "b" / "losses.jsonl").open("a") as handle:
        handle.write('{"step": 7, "lo')  # the process died while it wrote
    assert_same(run(tmp_path / "a", dropout=0.3), run(tmp_path / "b", dropout=0.3, save_every_steps=4))
    assert not torn.exists()


def test_one_complete_checkpoint_is_kept(tmp_path: Path) -> None:
    steps = run(tmp_path, save_every_steps=4).steps
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"checkpoint-{steps}"]


@pytest.mark.parametrize("change", [{"learning_rate": 5e-3}, {"seed": 4}, {"rows": ROWS[1:]}, {"dropout": 0.1}])
def test_other_run_in_the_folder_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    run(tmp_path)
    with pytest.raises(StoreError, match="other rows, settings or seed"):
        run(tmp_path, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("losses.jsonl", flip),
        ("losses.jsonl", Path.unlink),
        ("checkpoints/checkpoint-4/optimizer.pt", flip),
        ("checkpoints/checkpoint-4/adapter_model.safetensors", flip),
        ("checkpoints/checkpoint-4/adapter_model.safetensors", lambda path: os.truncate(path, 1000)),
        ("checkpoints/checkpoint-4/complete.json", flip),
    ],
)
def test_a_damaged_checkpoint_or_log_is_not_continued_from(tmp_path: Path, name: str, damage: Any) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 6:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "b", save_every_steps=4, progress=stop)
    damage(tmp_path / "b" / name)
    seen: list[TrainProgress] = []
    continued = run(tmp_path / "b", save_every_steps=4, progress=seen.append)
    assert seen[0].step == 1
    assert_same(run(tmp_path / "a"), continued)


def test_adapter_loads_with_plain_peft(tmp_path: Path) -> None:
    result = run(tmp_path / "work")
    result.model.save_pretrained(str(tmp_path / "graft"), safe_serialization=True, save_embedding_layers=False)
    plain = PeftModel.from_pretrained(tiny_llama(128), str(tmp_path / "graft")).eval()
    ids = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(plain(input_ids=ids).logits, result.model(input_ids=ids).logits)
    assert not torch.allclose(tiny_llama(128)(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-3)


def test_base_and_random_states_are_left_alone(tmp_path: Path) -> None:
    model = tiny_llama(128)
    before = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    result = run(tmp_path, model=model, precision="bf16", dropout=0.2)
    drawn = torch.rand(1).item(), random.random(), np.random.rand()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())
    assert not result.model.training
    assert model.config.use_cache
    result.model.unload()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_diverging_loss_stops_before_the_weights_change(tmp_path: Path) -> None:
    model = tiny_llama(128)

    def poison(progress: TrainProgress) -> None:
        if progress.step == 5:
            model.get_input_embeddings().weight.data.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"loss is no longer a finite number at step 6 of .*learning_rate"):
        run(tmp_path, model=model, save_every_steps=3, progress=poison)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]


def test_infinite_gradient_stops_before_the_weights_change(tmp_path: Path) -> None:
    model = tiny_llama(128)
    # Finite values whose gradient is not: 0 x inf in the backward pass of a square root at 0.
    model.model.norm.register_forward_hook(lambda module, inputs, out: out + (out - out.detach()).abs().sqrt())
    with pytest.raises(TrainingError, match="gradient is no longer a finite number at step 1 of"):
        run(tmp_path, model=model)


def test_nothing_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, save_every_steps=4)
    run(tmp_path, save_every_steps=4)
    assert capfd.readouterr() == ("", "")


def test_unusable_rows_are_refused(tmp_path: Path) -> None:
    row = ROWS[0]
    with pytest.raises(DataError, match="no example"):
        run(tmp_path, rows=[])
    with pytest.raises(DataError, match="'row-0' has no supervised token"):
        run(tmp_path, rows=[replace(row, weights=(1.0, *[0.0] * (len(row.weights) - 1)))])
    with pytest.raises(UsageError, match="unknown loss 'cee'; did you mean 'ce'"):
        run(tmp_path, rows=[replace(row, losses=("ce", "cee"))])
    with pytest.raises(ModelError, match="token 128, but the model knows only 128"):
        run(tmp_path, rows=[replace(row, input_ids=(128, *row.input_ids[1:]))])


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError):
        TrainSettings.model_validate({"learning_rates": 1e-4})
    with pytest.raises(ValidationError):
        TrainSettings.model_validate({"schedule": "cosinus"})
    assert all(field.description for field in TrainSettings.model_fields.values())


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_devices_share_a_step_and_make_equally_many_passes(ranks: int) -> None:
    micros = ((0, 1), (2,), (3, 4, 5), (6,), (7,))
    steps = Plan()
    steps.add([np.array(micro) for micro in micros], tokens=0, padded_tokens=0, supervised=0)
    roles = ("rationale", "translation")
    shares = [StepDataset(ROWS, steps, 0, roles, rank=rank, ranks=ranks)[0] for rank in range(ranks)]
    assert {len(share["micros"]) for share in shares} == {-(-len(micros) // ranks)}
    taught = sum(batch.targets.weights.sum().item() for share in shares for batch in share["micros"])
    expected = sum(weight for row in ROWS[:8] for weight in row.weights)
    assert taught == pytest.approx(expected, rel=1e-6)
    assert all(share["role_weights"].sum() == pytest.approx(expected, rel=1e-6) for share in shares)
