"""What happens around each optimiser step: loss log, progress, checkpoint markers, a stop at non-finite gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainingArguments

from lingraft.core.errors import TrainingError
from lingraft.training.checkpoints import LossLog, TrainPoint, mark_complete
from lingraft.training.development import DevLog, DevPoint
from lingraft.training.step_dataset import StepDataset
from lingraft.training.trackers import Trackers


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """Where training stands, after a step. Rates are of this session, without what an earlier one did.

    Attributes:
        step: done so far.
        steps: planned.
        loss: of the step.
        by_role: the same per role.
        tokens: real tokens of the whole run so far.
        supervised_tokens: tokens with a weight of the whole run so far.
        seconds: training time of the whole run so far.
        eta_seconds: expected time to the end.
    """

    step: int
    steps: int
    loss: float
    by_role: dict[str, float]
    tokens: int
    supervised_tokens: int
    tokens_per_second: float
    supervised_tokens_per_second: float
    seconds: float
    eta_seconds: float


def not_finite(what: str, step: int, steps: int, learning_rate: float) -> TrainingError:
    """Return the error for a loss or gradient that has become infinite or NaN.

    Args:
        what: "loss" or "gradient".
        step: in which it was found, from 1.
        steps: of the whole run.
        learning_rate: highest rate of the run, as the settings have it.
    """
    return TrainingError(
        f"the {what} is no longer a finite number at step {step} of {steps}; lower train.learning_rate "
        f"(now {learning_rate:g}) or set train.precision to fp32; the last complete checkpoint is kept"
    )


class AfterStep(TrainerCallback):
    """Calls something after each optimiser step, before it is logged or saved: what learns is put where it may be.

    Args:
        act: is called without gradients being recorded; they are still those of the step.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def on_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Call it."""
        with torch.no_grad():
            self.act()


class Watched(Protocol):
    """What is asked of the trainer: the plan, loss and gradient norm of the step just done, its processes, and what the
    development set says."""

    planned: StepDataset
    last_loss: float
    last_by_role: dict[str, float]
    last_objectives: dict[str, float]
    last_norm: float
    accelerator: Any

    def after_step(self) -> None:
        """Change what the optimiser has just updated."""

    def measured(self, step: int, tokens: int) -> DevPoint:
        """Return what the development set says now, the same in all processes."""

    def save_weights(self, folder: Path) -> None:
        """Write what has learnt so far."""


class Recorder(TrainerCallback):
    """Watches the trainer: keeps the loss log, reports progress, marks checkpoints, stops at non-finite gradients.

    Args:
        log: where losses go.
        fingerprint: of the run, for the checkpoints' markers.
        progress: called after each step, on the first device only.
        trackers: are told of each step.
        development: keeps what the development set says.
    """

    def __init__(
        self,
        log: LossLog,
        fingerprint: str,
        progress: Callable[[TrainProgress], None] | None,
        trackers: Trackers,
        development: DevLog,
    ) -> None:
        self.log, self.fingerprint, self.progress, self.trackers = log, fingerprint, progress, trackers
        self.development = development
        self.trainer: Watched
        self._began = self._rate = 0.0
        self._earlier_seconds = log.points[-1].seconds if log.points else 0.0
        self._done_before = (0, 0)  # real and supervised tokens

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure what training begins with, and start the clock."""
        self._measure(state.global_step)
        self._began = time.perf_counter()
        self._done_before = self._tokens(state.global_step)

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise LingraftError if the gradient is not finite, before it reaches the weights."""
        self._rate = float(kwargs["optimizer"].param_groups[0]["lr"])
        if not math.isfinite(self.trainer.last_norm):
            raise not_finite("gradient", state.global_step + 1, state.max_steps, args.learning_rate)

    def on_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the trainer change what the optimiser has just updated."""
        self.trainer.after_step()

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the step and report progress."""
        step = state.global_step
        session = time.perf_counter() - self._began
        tokens, supervised = self._tokens(step)
        rates = [(now - before) / session for now, before in zip((tokens, supervised), self._done_before, strict=True)]
        earlier = self._earlier_seconds
        loss, by_role = self.trainer.last_loss, self.trainer.last_by_role
        point = TrainPoint(
            step=step,
            loss=loss,
            tokens=tokens,
            by_role=by_role,
            objectives=self.trainer.last_objectives,
            seconds=earlier + session,
            learning_rate=self._rate,
            gradient_norm=self.trainer.last_norm,
        )
        self.log.append(point)
        self.trackers.tell(point, self._measure(step))
        if self.development.over:
            control.should_training_stop = control.should_save = True
        if self.progress is None or not state.is_world_process_zero:
            return
        left = self._tokens(state.max_steps)[0] - tokens
        self.progress(
            TrainProgress(
                step=step,
                steps=state.max_steps,
                loss=loss,
                by_role=by_role,
                tokens=tokens,
                supervised_tokens=supervised,
                tokens_per_second=rates[0],
                supervised_tokens_per_second=rates[1],
                seconds=earlier + session,
                eta_seconds=left / rates[0],
            )
        )

    def _measure(self, step: int) -> Mapping[str, float]:
        """Measure the development set if it is time, and keep it; it is no part of the training's time."""
        if not self.development.due(step):
            return {}
        begin = time.perf_counter()
        point = self.trainer.measured(step, self._tokens(step)[0])
        self.development.add(point, self.trainer.save_weights)
        self._began += time.perf_counter() - begin
        return point.values

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as complete."""
        self.trainer.accelerator.wait_for_everyone()  # every device has written its random state
        if state.is_world_process_zero:
            self.log.sync()
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            mark_complete(folder, self.fingerprint, self.log.path, self.development.state(state.global_step))
            self.development.prune()

    def _tokens(self, step: int) -> tuple[int, int]:
        return self.trainer.planned.steps.done(step)
