"""A trial of training: one pass forward and backward over one row; what would fail after hours fails at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from lingraft.core.errors import LingraftError, ModelError, first_line
from lingraft.models.adapter import take_off
from lingraft.models.output_head import find_head
from lingraft.rendering.rows import Rendered
from lingraft.training.collate import collate
from lingraft.training.losses import span_loss
from lingraft.training.objective_checks import check_head
from lingraft.training.objectives import Objective, TokenObjective, in_force
from lingraft.training.optimizers import try_optimizer
from lingraft.training.settings import TrainSettings
from lingraft.training.survey import Survey, survey_rows
from lingraft.training.targets import adapted_share
from lingraft.training.tuners import ALL, Tuner, TunerInputs
from lingraft.training.wrapping import CHECKED_TOKENS, Base, adapter_on, base_in_training, base_states, batch_states


@dataclass(frozen=True)
class Trial:
    """What a trial has shown.

    Attributes:
        packed: whether rows are laid end to end, see `BatchLayout`.
        singly: whether each row has a pass of its own, see `BatchLayout`.
        learning: numbers that learn.
        share: of the language part's matrix weights that have a low-rank update; None where whole weights learn.
    """

    packed: bool
    singly: bool
    learning: int
    share: float | None

    @property
    def learns(self) -> str:
        """Say what learns."""
        share = "" if self.share is None else f" beside {self.share:.0%} of the language model's matrix weights"
        return f"{self.learning:,} numbers learn{share}"

    def __str__(self) -> str:
        rows = "packed" if self.packed else "one by one" if self.singly else "padded"
        return f"{self.learns}; rows are {rows}"


def try_training(
    model: PreTrainedModel,
    row: Rendered,
    settings: TrainSettings,
    tuner: Tuner,
    *,
    pad_id: int,
    seed: int,
    new_ids: Sequence[int] = (),
    objectives: Sequence[Objective] = (),
) -> Trial:
    """Wrap a base as for training, take one row forward and backward, and take the adapter off again.

    The base's weights are afterwards bit for bit as before, and so are the random states.

    Args:
        model: the base, on the device to train on.
        row: of those to train on.
        settings: how to train.
        tuner: which parameters learn.
        pad_id: token id that fills short rows.
        seed: of adapter weights and dropout.
        new_ids: token ids that a vocabulary has added to the base's.
        objectives: what the loss is made of beside the spans' own.

    Raises:
        UsageError, ModelError: as `train`, or the model cannot be trained so, with what would help.
        LingraftError: the loss is not finite, or memory is short.
    """
    try_optimizer(settings.optimizer, model.device)
    attempt = _Attempt(
        model=model,
        row=row,
        survey=survey_rows(model, [row]),
        settings=settings,
        tuner=tuner,
        pad_id=pad_id,
        seed=seed,
        new_ids=new_ids,
        objectives=[one for one in in_force(objectives) if isinstance(one, TokenObjective)],
    )
    try:
        return attempt.trial()
    except LingraftError:
        raise
    except torch.OutOfMemoryError as error:
        raise LingraftError(
            f"a single row of {len(row.input_ids)} tokens is more than the memory of {model.device} holds while it is "
            f"trained; set train.gradient_checkpointing, train.precision: nf4 or a smaller rank"
        ) from error
    except Exception as error:  # whatever layers of the libraries raise that were not made for each other
        reason = first_line(error)
        raise ModelError(f"{type(model).__name__} cannot be trained so ({reason}); {attempt.remedy()}") from error


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """What is tried, as given to `try_training`, and what the row is."""

    model: PreTrainedModel
    row: Rendered
    survey: Survey
    settings: TrainSettings
    tuner: Tuner
    pad_id: int
    seed: int
    new_ids: Sequence[int]
    objectives: Sequence[TokenObjective]

    def trial(self) -> Trial:
        """Try it."""
        model, settings = self.model, self.settings
        learnt = [(weight, weight.requires_grad) for weight in model.parameters()]
        with base_in_training(model, settings, self.row.input_ids) as base:
            inputs = TunerInputs(seed=self.seed, new_ids=self.new_ids, rows=[self.row], replay=[self.row])
            # A first pass of two is tried, in which all learns.
            selected = self.tuner.select(model, inputs) if self.tuner.passes == 1 else ALL
            adapted = adapter_on(model, base, self.tuner, inputs, selected)
            checkpointed = model.is_gradient_checkpointing
            try:
                if settings.gradient_checkpointing:
                    adapted.gradient_checkpointing_enable({"use_reentrant": False})
                _pass(adapted, base, self)
                learning = self.tuner.learning(adapted)
                share = adapted_share(adapted) if self.tuner.low_rank else None
                return Trial(base.layout.packed, base.layout.singly, learning, share)
            finally:
                if settings.gradient_checkpointing and not checkpointed:
                    model.gradient_checkpointing_disable()
                take_off(adapted)
                for weight, learns in learnt:  # PEFT has frozen all
                    weight.requires_grad_(learns)

    def remedy(self) -> str:
        """Return what helps, as tried."""
        for change in ({"kernels": "plain"}, {"batching": "padded"}, {"kernels": "plain", "batching": "padded"}):
            try:
                replace(self, settings=self.settings.model_copy(update=change)).trial()
            except Exception:  # no remedy, then
                continue
            return "set " + " and ".join(f"train.{key}: {value}" for key, value in change.items())
        return "name other layers in tuner.targets, such as those of the attention alone"


def _pass(adapted: Any, base: Base, attempt: _Attempt) -> None:
    """Take its row forward and backward."""
    row, objectives = attempt.row, attempt.objectives
    head = find_head(adapted, row.input_ids[:CHECKED_TOKENS])
    check_head(attempt.survey, objectives, head)
    batch = collate([row], attempt.pad_id, packed=base.layout.packed)
    compared = batch.targets.need_base(objectives)
    batch = batch.to(adapted.device)

    def typed() -> torch.autocast:
        return torch.autocast(adapted.device.type, base.autocast, enabled=base.autocast is not None)

    adapted.train()
    try:
        with base.fast(adapted):
            of_base = base_states(adapted, batch, head, typed()) if compared else None
            with typed():
                states = batch_states(adapted, batch, head)
                loss = span_loss(states, batch.targets, head, base_hidden=of_base, objectives=objectives).total
            loss.backward()
    finally:
        adapted.eval()
        adapted.zero_grad(set_to_none=True)
    if not math.isfinite(loss.item()):
        raise LingraftError(
            f"the loss of {row.id!r} is {loss.item()} before any training; check the model's weights, or set "
            f"train.precision: fp32"
        )
