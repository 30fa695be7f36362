"""The development set in training: it changes nothing, stops in time, keeps the best weights, and survives a kill."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from builders import tiny_llama
from lingraft.core.errors import NotFiniteError, TrainingError
from lingraft.training.development import Development, DevPoint, best_of, is_over
from lingraft.training.settings import TrainSettings
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners.lora import LoraTuner
from nursery import ran
from processes import flip
from random_rows import random_rows
from trainings import BASE, ROWS

REFERENCES = random_rows(7, seed=99)
Measure = Callable[[Any], Mapping[str, float]]


def greedy(model: Any) -> Mapping[str, float]:
    """Values that depend on the weights, by a pass with dropout off; draws numbers, which must not be missed later."""
    assert not model.training
    torch.rand(3)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[3, 4, 5, 6]])).logits
        with model.disable_adapter():
            base = model(input_ids=torch.tensor([[3, 4, 5, 6]])).logits
    moved = torch.nn.functional.kl_div(logits.log_softmax(-1), base.log_softmax(-1), log_target=True, reduction="sum")
    return {"chrf": float(logits.softmax(-1).max()), "kl": max(0.0, float(moved) / 4)}


def run(
    work: Path,
    *,
    measure: Measure | None = greedy,
    progress: Callable[[TrainProgress], None] | None = None,
    model: Any = None,
    dropout: float = 0.2,
    **changes: Any,
) -> TrainResult:
    return train(
        model or tiny_llama(128),
        ROWS,
        TrainSettings.model_validate(BASE | {"max_steps": 12} | changes),
        LoraTuner(LoraTuner.Params(rank=4, dropout=dropout)),
        pad_id=0,
        work_dir=work,
        seed=3,
        progress=progress,
        development=measure and Development(rows=REFERENCES, measure=measure, identity="of this test"),
    )


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in result.model.named_parameters() if "lora" in name}


def assert_equal(one: TrainResult, two: TrainResult) -> None:
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize("changes", [{}, {"batching": "padded"}, {"gradient_checkpointing": True}])
def test_measuring_changes_no_bit_of_the_training(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = run(tmp_path / "a", measure=None, **changes)
    measured = run(tmp_path / "b", dev_every_steps=5, **changes)
    assert [point.loss for point in plain.log] == [point.loss for point in measured.log]
    assert_equal(plain, measured)
    assert [point.step for point in measured.dev] == [0, 5, 10, 12]
    assert plain.dev == []
    assert [point.tokens for point in measured.dev[1:]] == [measured.log[step - 1].tokens for step in (5, 10, 12)]


def test_the_loss_is_that_of_the_references_under_the_weights(tmp_path: Path) -> None:
    result = run(tmp_path, dev_every_steps=12)
    for point, model in zip(result.dev, (tiny_llama(128), result.model), strict=True):
        total = weight = 0.0
        for row in REFERENCES:
            log_p = model(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
            for t in range(1, len(row.input_ids)):
                total -= row.weights[t] * log_p[t - 1, row.input_ids[t]].item()
                weight += row.weights[t]
        assert point.loss == pytest.approx(total / weight, rel=1e-5)
    assert result.dev[0].kl == 0


def test_without_a_number_of_steps_a_tenth_is_between(tmp_path: Path) -> None:
    assert [point.step for point in run(tmp_path, max_steps=12).dev] == list(range(0, 13, 2))


def points(*losses: float, chrf: tuple[float, ...] = (), kl: tuple[float, ...] = ()) -> list[DevPoint]:
    return [
        DevPoint(
            step=10 * number,
            tokens=0,
            loss=loss,
            chrf=chrf[number] if chrf else None,
            kl=kl[number] if kl else None,
        )
        for number, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("measured", "settings", "best", "over"),
    [
        (points(1.0, 3.0, 2.0, 2.5), {"patience": 1}, 20, True),  # what it begins with is none
        (points(1.0, 3.0, 2.0, 2.5), {"patience": 2}, 20, False),
        (points(9.0, 3.0, 3.0, 3.0), {"patience": 2}, 10, True),  # no better is no better
        (points(9, 3, 2, 1, chrf=(0, 5, 9, 7)), {"patience": 1, "best_by": "chrf"}, 20, True),
        (points(9, 3, 2, 1, chrf=(0, 5, 9, 7)), {"best_by": "chrf"}, 20, False),
        (points(9, 3, 2, 1, kl=(0, 0.1, 0.2, 0.3)), {"patience": 1, "max_kl": 0.1}, 10, True),
        (points(9, 3, 2, 1, kl=(0, 0.3, 0.4, 0.5)), {"patience": 3, "max_kl": 0.1}, None, True),
        (points(9), {"patience": 1}, None, False),
    ],
)
def test_what_is_best_and_when_it_is_over(
    measured: list[DevPoint], settings: dict[str, Any], best: int | None, over: bool
) -> None:
    chosen = TrainSettings.model_validate({"keep": "best"} | settings)
    found = best_of(measured, chosen)
    assert (found and found.step) == best
    assert is_over(measured, chosen) == over


def turning(at: int) -> Measure:
    """Values that get better for `at` calls and worse afterwards."""
    calls = 0

    def measure(model: Any) -> Mapping[str, float]:
        nonlocal calls
        calls += 1
        return {"chrf": float(-abs(calls - 1 - at))}

    return measure


def test_training_stops_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    settings = {"dev_every_steps": 2, "best_by": "chrf", "save_every_steps": 5}
    stopped = run(tmp_path / "a", measure=turning(2), patience=2, keep="best", **settings)
    assert [point.step for point in stopped.dev] == [0, 2, 4, 6, 8]
    assert (stopped.steps, stopped.kept, len(stopped.log)) == (8, 4, 8)
    assert stopped.tokens == stopped.log[-1].tokens
    at_best = run(tmp_path / "b", measure=None, max_steps=12, save_every_steps=4, progress=None)
    assert at_best.steps == 12
    last = run(tmp_path / "c", measure=turning(2), patience=2, **settings)
    assert (last.steps, last.kept) == (8, 8)
    folders = sorted(path.name for path in (tmp_path / "a" / "best").iterdir())
    assert folders == ["step-4"]
    seen: list[int] = []
    again = run(
        tmp_path / "a",
        measure=turning(2),
        patience=2,
        keep="best",
        progress=lambda progress: seen.append(progress.step),
        **settings,
    )
    assert seen == []  # it had stopped
    assert_equal(stopped, again)
    once_more = run(tmp_path / "c", measure=turning(2), patience=2, **settings)
    assert_equal(last, once_more)


def test_the_best_weights_are_those_after_their_step(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dev_every_steps": 4, "best_by": "chrf", "schedule": "constant", "warmup_share": 0}
    kept = run(tmp_path / "a", measure=turning(1), keep="best", **settings)
    assert kept.kept == 4
    assert kept.steps == 12
    assert_equal(kept, run(tmp_path / "b", measure=None, schedule="constant", warmup_share=0, max_steps=4))


KILLED = """
import os, signal, sys
from pathlib import Path
from test_development import greedy, run

calls = 0
def measure(model):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return greedy(model)

run(Path(sys.argv[1]), measure=measure, dev_every_steps=2, save_every_steps=3, keep="best")
"""


@pytest.mark.parametrize("call", [1, pytest.param(4, marks=pytest.mark.long)])
def test_a_run_killed_while_it_measures_ends_alike(tmp_path: Path, call: int) -> None:
    tests = Path(__file__).parents[1]
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    script = f"import sys\nsys.path[:0] = {paths!r}\nimport conftest\n{KILLED}"
    done = ran(script, tmp_path / "b", call, cwd=tests)
    assert done.returncode == -signal.SIGKILL, done.stderr
    settings = {"dev_every_steps": 2, "save_every_steps": 3, "keep": "best"}
    straight, continued = run(tmp_path / "a", **settings), run(tmp_path / "b", **settings)
    assert_equal(straight, continued)
    assert (tmp_path / "a" / "dev.jsonl").read_bytes() == (tmp_path / "b" / "dev.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in (tmp_path / "b" / "dev.jsonl").open()] == [0, 2, 4, 6, 8, 10, 12]


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ["dev.jsonl", "best/*/adapter_model.safetensors"])
def test_damage_to_what_a_checkpoint_names_is_noticed(tmp_path: Path, name: str) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 7:
            raise Stop

    settings = {"dev_every_steps": 2, "save_every_steps": 3, "keep": "best"}
    with pytest.raises(Stop):
        run(tmp_path / "b", progress=stop, **settings)
    (damaged,) = (tmp_path / "b").glob(name)
    flip(damaged)
    seen: list[int] = []
    continued = run(tmp_path / "b", progress=lambda progress: seen.append(progress.step), **settings)
    assert seen[0] == 1
    assert_equal(run(tmp_path / "a", **settings), continued)


@pytest.mark.parametrize("first", [1, 2])
def test_weights_that_give_no_numbers_any_more_are_those_of_a_spoilt_training(tmp_path: Path, first: int) -> None:
    calls: list[bool] = []

    def measure(model: Any) -> Mapping[str, float]:
        calls.append(True)
        if len(calls) == first:
            raise NotFiniteError("no token can be chosen")
        return greedy(model)

    # Before the first step they are the base's own.
    kind, said = (
        (NotFiniteError, "no token") if first == 1 else (TrainingError, "answer of the development set .*step 2")
    )
    with pytest.raises(kind, match=said):
        run(tmp_path, measure=measure, dev_every_steps=2)


def test_a_loss_that_is_no_number_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    def measure(model: Any) -> Mapping[str, float]:
        values = greedy(model)
        assert math.isfinite(values["chrf"])
        return values

    said = r"loss of the development set is no longer a finite number at step \d"
    with pytest.raises(TrainingError, match=said):
        run(tmp_path, measure=measure, dev_every_steps=1, learning_rate=1e15, weight_decay=1.0)
    with pytest.raises(TrainingError, match="kl of the development set is no longer"):
        run(tmp_path / "b", measure=lambda model: {**greedy(model), "kl": math.nan})


def test_a_budget_that_nothing_keeps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"stayed within train\.max_kl 1e-12 \(least: .* nats per token\); raise it"
    ):
        run(tmp_path, keep="best", max_kl=1e-12)


def test_a_budget_that_nobody_asks_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="add `keep: best`"):
        TrainSettings(max_kl=0.1)
