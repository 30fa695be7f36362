"""Trackers of experiments: TensorBoard, MLflow, trackio and Weights & Biases, through the Trainer's own callbacks.

A run that was killed continues its curve: the ids of its runs, and the last step that each was told, are kept beside
its checkpoints. Steps that are done again after a kill are not told again, and what a tracker missed is told from the
loss log first; equal steps have equal values. TensorBoard itself drops what a killed run wrote behind its last
checkpoint (`purge_step`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback, TrackioCallback, WandbCallback
from transformers.integrations.integration_utils import TensorBoardCallback

from lingraft.core.errors import LingraftError, first_line
from lingraft.store.durability import make_folder
from lingraft.store.files import read_sealed, write_sealed
from lingraft.training.checkpoints import TrainPoint

RECORD = "trackers.json"
PROJECT = "lingraft"
REMOTE = {"TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"}
"""Environment variables by which trackio keeps runs elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where a training reports to.

    Attributes:
        name: of the run in the trackers.
        folder: for those that write files.
    """

    name: str = "train"
    folder: Path = Path("tensorboard")


class _Tracker:
    """One tracker, whose run is opened when training begins.

    Most write in the background: what they had not written when the process was killed is lost. Those that can be asked
    for what arrived are asked.

    Args:
        callback: the Trainer's.
        run: id of the run that is continued; None for a new one.
        told: last step that it was told.
    """

    def __init__(self, callback: Any, run: str | None, told: int) -> None:
        self.callback, self.run, self.told = callback, run, told

    def open(self, tracking: Tracking) -> None:
        """Open the run, so that the callback finds it; sets `run`, and `told` to what has arrived."""

    def close(self, failed: bool) -> None:
        """Close it."""


class _TensorBoard(_Tracker):
    def open(self, tracking: Tracking) -> None:
        from torch.utils.tensorboard import SummaryWriter

        make_folder(tracking.folder)
        # Events of later steps in the folder are of a process that was killed, and are hidden.
        self.callback.tb_writer = SummaryWriter(str(tracking.folder), purge_step=self.told + 1)

    def close(self, failed: bool) -> None:
        if self.callback.tb_writer is not None:
            self.callback.tb_writer.close()


class _Wandb(_Tracker):
    _own = True

    def open(self, tracking: Tracking) -> None:
        import wandb

        self._own = wandb.run is None  # otherwise the caller's, which the callback reports to
        if self._own:
            self.run = self.run or uuid.uuid4().hex[:12]
            project = os.environ.get("WANDB_PROJECT", PROJECT)
            wandb.init(project=project, name=tracking.name, id=self.run, resume="allow")

    def close(self, failed: bool) -> None:
        import wandb

        if self._own and wandb.run is not None:
            wandb.finish(exit_code=int(failed))


class _Trackio(_Tracker):
    def open(self, tracking: Tracking) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        known, self.run = self.run, self.run or f"{tracking.name}-{uuid.uuid4().hex[:6]}"  # it knows a run by its name
        if known and not REMOTE & os.environ.keys():
            self.told = SQLiteStorage.get_log_count(PROJECT, known)  # a row a step

    def close(self, failed: bool) -> None:
        import trackio

        trackio.finish()


class _MLflow(_Tracker):
    _own = True

    def open(self, tracking: Tracking) -> None:
        import mlflow

        self._own = mlflow.active_run() is None
        if self._own:
            known = self.run
            if known is None and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
                mlflow.set_experiment(PROJECT)
            self.run = mlflow.start_run(run_id=known, run_name=tracking.name).info.run_id
            arrived = mlflow.MlflowClient().get_metric_history(self.run, "loss")
            self.told = max((int(metric.step) for metric in arrived), default=0)

    def close(self, failed: bool) -> None:
        import mlflow

        mlflow.flush_async_logging()
        if self._own:
            mlflow.end_run("FAILED" if failed else "FINISHED")


_KINDS: dict[str, tuple[Callable[[], TrainerCallback], type[_Tracker]]] = {
    "mlflow": (MLflowCallback, _MLflow),
    "tensorboard": (TensorBoardCallback, _TensorBoard),
    "trackio": (TrackioCallback, _Trackio),
    "wandb": (WandbCallback, _Wandb),
}


class Trackers(TrainerCallback):
    """Tells trackers of each step, from the first process alone; without any it does nothing.

    Nothing but losses, rates, norms, measures of the development set and the Trainer's arguments is reported: neither
    weights nor texts.

    Args:
        kinds: names of trackers, as in the recipe.
        tracking: how the run is called there.
        record: file that keeps what a killed run needs to go on.
        points: the loss log up to where training continues.
        measured: what was measured on the development set up to there, by step.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        tracking: Tracking,
        record: Path,
        points: Sequence[TrainPoint],
        measured: Mapping[int, Mapping[str, float]],
    ) -> None:
        self._tracking, self._record, self._points = tracking, record, list(points)
        self._measured = measured
        known = (read_sealed(record) if kinds else None) or {}
        self._trackers: dict[str, _Tracker] = {}
        for kind in kinds:
            make, kept = _KINDS[kind], known.get(kind, {})
            with _explained(kind):
                self._trackers[kind] = make[1](make[0](), kept.get("run"), int(kept.get("told", 0)))
        self._state: tuple[Any, Any, Any] | None = None

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the runs, and tell what they have missed.

        Raises:
            LingraftError: a tracker refuses.
        """
        if not state.is_world_process_zero:
            self._trackers = {}
        finished = [kind for kind, one in self._trackers.items() if one.told >= state.max_steps]
        for kind in finished:
            del self._trackers[kind]
        if not self._trackers:
            return
        args.project = PROJECT  # trackio's, whose callback opens the run
        self._state = args, control, kwargs.get("model")
        for kind, tracker in self._trackers.items():
            with _explained(kind):
                tracker.open(self._tracking)
                args.run_name = tracker.run or self._tracking.name
                tracker.callback.on_train_begin(args, state, control, model=kwargs.get("model"))
        for point in self._points:
            self.tell(point, self._measured.get(point.step))

    def tell(self, point: TrainPoint, measured: Mapping[str, float] | None = None) -> None:
        """Tell of a step, and of what was measured on the development set after it."""
        if self._state is None:
            return
        args, control, model = self._state
        values = {"loss": point.loss, "learning_rate": point.learning_rate, "grad_norm": point.gradient_norm}
        values |= {f"loss_{role}": loss for role, loss in point.by_role.items()}
        values |= {f"eval_{name}": value for name, value in (measured or {}).items()}
        now = TrainerState(global_step=point.step, is_world_process_zero=True)
        for kind, tracker in self._trackers.items():
            if point.step > tracker.told:
                with _explained(kind):
                    tracker.callback.on_log(args, now, control, logs=dict(values), model=model)
                tracker.told = point.step
        write_sealed(self._record, {kind: {"run": one.run, "told": one.told} for kind, one in self._trackers.items()})

    def close(self, *, failed: bool) -> None:
        """Close the runs; a run that failed is marked so where a tracker knows that."""
        if self._state is None:
            return
        self._state = None
        for kind, tracker in self._trackers.items():
            with _explained(kind):
                tracker.close(failed)


@contextlib.contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Keep a tracker's own words off stdout, and say in one sentence that it does not work.

    Raises:
        LingraftError: it raises whatever it raises.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # of packages that are not ours
        raise LingraftError(
            f"tracker {kind} does not work ({first_line(error)}); mend it, or take it out of train.report_to and run "
            f"again: training goes on where it is"
        ) from error
