"""The training loop: a subclass of the transformers Trainer whose unit of work is one whole optimiser step.

One dataset item is one planned step with all its micro-batches, so that the loss is normalised over exactly what the
step holds, however it is cut and however many devices share it. Everything around it (optimiser, schedule, clipping,
distribution, checkpoints, random states) is the Trainer's.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from lingraft.core.errors import LingraftError, NotFiniteError
from lingraft.models.devices import free_memory
from lingraft.models.output_head import OutputHead
from lingraft.training.collate import Batch
from lingraft.training.development import Development, DevPoint
from lingraft.training.losses import span_loss
from lingraft.training.objectives import Objective, Regulariser, TokenObjective, in_force
from lingraft.training.objectives.base_pairs import PairObjective
from lingraft.training.optimizers import give_embeddings_their_rate
from lingraft.training.pair_losses import StepPairs, pair_loss
from lingraft.training.saving import save_adapter
from lingraft.training.schedule import schedule
from lingraft.training.step_callback import Recorder, not_finite
from lingraft.training.step_dataset import StepDataset
from lingraft.training.wrapping import base_states, batch_states, random_states_kept

__all__ = ["SpanTrainer", "save_adapter"]


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


class SpanTrainer(Trainer):
    """The transformers Trainer with planned steps and span losses.

    Args:
        model: what to train.
        args: of the transformers Trainer.
        steps: the plan.
        head: the model's checked output head.
        autocast: type of matrix products; None leaves them in the type of the weights.
        recorder: is told of each step.
        development: what the training is measured on, with the references in one planned step; None: nothing.
        hooks: are called around each step, after the recorder and what objectives change.
        objectives: what else the loss is made of; regularisers have begun.
        embedding_rate: highest learning rate of embeddings and output head; None: that of all.
        sharded: whether each process holds a part of the base's weights (FSDP2); adapters are whole everywhere.
        before_step: is given the model before each optimiser step, its gradients being whole.
        say: is told when memory was short.

    Attributes:
        computed_tokens: so far, on this device.
    """

    def __init__(
        self,
        model: PeftModel,
        args: TrainingArguments,
        *,
        steps: StepDataset,
        head: OutputHead,
        autocast: torch.dtype | None,
        recorder: Recorder,
        development: tuple[Development, StepDataset] | None = None,
        hooks: Sequence[TrainerCallback] = (),
        objectives: Sequence[Objective] = (),
        embedding_rate: float | None = None,
        sharded: bool = False,
        before_step: Callable[[PeftModel], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        saves = args.save_strategy
        if sharded:
            # The Trainer refuses to save optimiser states of sharded models; here they belong to adapters, which are
            # whole.
            args.save_strategy = SaveStrategy.NO
        super().__init__(
            model=model,
            args=args,
            train_dataset=steps,
            data_collator=_only,
            callbacks=[recorder, *hooks, recorder.trackers],
        )
        self.args.save_strategy = saves
        self.say = say or (lambda text: None)
        self.remove_callback(PrinterCallback)
        self._before_step = before_step
        self.adapted, self.planned, self.head, self.autocast = model, steps, head, autocast
        recorder.trainer = self
        self.development, self.embedding_rate = development, embedding_rate
        self.computed_tokens = 0
        self.last_loss = self.last_norm = math.nan
        self.last_by_role: dict[str, float] = {}
        self.last_objectives: dict[str, float] = {}
        active = in_force(objectives)
        self.of_tokens = [one for one in active if isinstance(one, TokenObjective)]
        self.of_pairs = [one for one in active if isinstance(one, PairObjective)]
        self.regularisers = [one for one in active if isinstance(one, Regulariser)]

    def get_train_dataloader(self) -> DataLoader:
        """Return the steps in their order; each device makes its own share, so nothing is sharded or moved here."""
        return DataLoader(self.planned, batch_size=1, shuffle=False, collate_fn=_only)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimiser that the arguments name, with the learning rate of embeddings where it is another; the
        tuner sees the gradients of each step first.

        Raises:
            UsageError: they have one and do not learn.
        """
        new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if new and self.embedding_rate is not None:
            give_embeddings_their_rate(optimizer, self.adapted, self.embedding_rate)
        if new and self._before_step is not None:
            change, adapted = self._before_step, self.adapted
            optimizer.register_step_pre_hook(lambda *_: change(adapted))
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make the schedule of `schedule`, whose first step has a rate above 0."""
        if self.lr_scheduler is None:
            found = optimizer or self.optimizer
            assert found is not None
            self.lr_scheduler = schedule(
                self.args.lr_scheduler_type,
                found,
                steps=num_training_steps,
                warmup_steps=self.args.get_warmup_steps(num_training_steps),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the Trainer's own count walks over all parameters at each step, and nothing here reads it."""
        return 0

    def after_step(self) -> None:
        """Let regularisers change what the optimiser has just updated."""
        rate = float(self._get_learning_rate()) if self.regularisers else 0.0
        for one in self.regularisers:
            one.after_step(rate)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run forward and backward over a whole optimiser step.

        Returns:
            The loss of the step: sum(weight x term) / sum(weight) over all its micro-batches on all devices, and what
            regularisers add.

        Raises:
            LingraftError: the loss is not finite, or there is too little memory for a single row; nothing has been
                updated.
        """
        model.train()
        role_weights = inputs["role_weights"]
        weight = float(role_weights.sum())
        sums = self._passes(model, inputs["micros"], weight, inputs["pairs"])
        while sums is None:
            sums = self._passes(model, self._smaller(), weight, inputs["pairs"])
        sums = self.accelerator.reduce(sums, "sum")
        by_role = sums[: len(role_weights)].double().tolist()
        said = sums[len(role_weights) :].view(-1, 2).double().tolist()
        self.last_objectives = {
            one.name: total / of_tokens
            for one, (total, of_tokens) in zip([*self.of_tokens, *self.of_pairs], said, strict=True)
            if of_tokens
        }
        penalties = {one: one.add_gradient() for one in self.regularisers}
        self.last_objectives |= {one.name: value for one, value in penalties.items()}
        added = sum(one.params.weight * value for one, value in penalties.items())
        self.last_loss = sum(by_role) / weight + added
        self.last_by_role = {
            role: total / of_role
            for role, total, of_role in zip(self.planned.roles, by_role, role_weights.tolist(), strict=True)
            if of_role
        }
        if not math.isfinite(self.last_loss):
            raise not_finite("loss", self.state.global_step + 1, self.state.max_steps, self.args.learning_rate)
        # Of the whole step; the Trainer clips it next.
        gradients = [weight.grad for weight in self.adapted.parameters() if weight.grad is not None]
        self.last_norm = float(torch.nn.utils.get_total_norm(gradients))
        return sums[: len(role_weights)].sum() / weight + added

    def _passes(
        self, model: torch.nn.Module, micros: Sequence[Batch], weight: float, pairs: StepPairs
    ) -> torch.Tensor | None:
        """Accumulate the gradient of a step and return its sums: of the loss by role, (roles,), and behind them two for
        each objective of tokens and of pairs, see `SpanLoss`; None where memory was too short."""
        roles = len(self.planned.roles)
        sums = torch.zeros(roles + 2 * len(self.of_tokens) + 2 * len(self.of_pairs), device=self.args.device)
        try:
            for i, micro in enumerate(micros):
                compared = micro.targets.need_base(self.of_tokens)  # asked on the CPU
                compared = compared or (micro.pairs is not None and any(one.base for one in self.of_pairs))
                batch = micro.to(self.args.device)
                last = i == len(micros) - 1
                self.accelerator.sync_gradients = last  # for adapters beside a sharded base
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    base = base_states(self.adapted, batch, self.head, self._typed()) if compared else None
                    with self._typed():
                        states = batch_states(model, batch, self.head, self.adapted)
                        result = span_loss(
                            states, batch.targets, self.head, base_hidden=base, objectives=self.of_tokens
                        )
                        total = result.total
                        if batch.pairs is not None:
                            of_pairs = pair_loss(states, batch.pairs, pairs, self.head, self.of_pairs, base)
                            total = total + of_pairs.total
                    # Distributed training averages gradients over devices; the sum is wanted.
                    self.accelerator.backward(total * (self.accelerator.num_processes / weight))
                sums[: roles + 2 * len(self.of_tokens)] += torch.cat([result.by_role, result.of_objectives.flatten()])
                if batch.pairs is not None:
                    sums[:roles] += of_pairs.by_role
                    sums[roles + 2 * len(self.of_tokens) :] += of_pairs.of_objectives.flatten()
                self.computed_tokens += batch.input_ids.numel()
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return None  # what the failed pass holds is freed once this frame and the error are gone
        return sums

    def _smaller(self) -> list[Batch]:
        """Return the current step in smaller micro-batches, its gradient so far discarded.

        Raises:
            LingraftError: they cannot be smaller, or other processes would wait for passes that were given up.
        """
        step = self.state.global_step
        remedy = "lower train.micro_tokens or set train.gradient_checkpointing"
        if self.accelerator.num_processes > 1:
            raise LingraftError(f"out of memory at step {step + 1}; {remedy}")
        self.adapted.zero_grad(set_to_none=True)
        free_memory()
        limit = self.planned.halve(step)
        if not limit:
            raise LingraftError(
                f"out of memory at step {step + 1} with {self.planned.smallest(step)}; "
                f"set train.gradient_checkpointing, or checks.max_tokens to leave out long rows"
            )
        self.say(f"Out of memory at step {step + 1}: going on with micro-batches of at most {limit:,} tokens")
        micros: list[Batch] = self.planned[step]["micros"]
        return micros

    def measured(self, step: int, tokens: int) -> DevPoint:
        """Return what the development set says now, the same in all processes; nothing of the training changes."""
        assert self.development is not None, "without a development set nothing is due"
        development, references = self.development
        with random_states_kept(), self._typed():
            self.adapted.eval()
            try:
                values = {"loss": self._mean_loss(references)}
                if not step or math.isfinite(values["loss"]):  # else it cannot be asked anything, either
                    values |= development.measure(self.adapted)
            except NotFiniteError:
                if not step:  # the base itself
                    raise
                values = {"answer": math.nan}
            finally:
                self.adapted.train()
        if self.accelerator.num_processes > 1:  # all have computed them; rounding may differ
            (values,) = broadcast_object_list([values])
        for name, value in values.items():
            if not math.isfinite(value):
                what = f"{name} of the development set"
                raise not_finite(what, step, self.state.max_steps, self.args.learning_rate)
        return DevPoint(step=step, tokens=tokens, **values)

    @torch.no_grad()
    def _mean_loss(self, references: StepDataset) -> float:
        step = references[0]
        sums = torch.zeros(len(references.roles), device=self.args.device)
        for micro in step["micros"]:
            batch = micro.to(self.args.device)
            sums += span_loss(batch_states(self.adapted, batch, self.head), batch.targets, self.head).by_role
        return float(sums.double().sum()) / float(step["role_weights"].sum())

    def save_weights(self, folder: Path) -> None:
        """Write what has learnt so far as a PEFT adapter."""
        save_adapter(self.adapted, folder)

    def _typed(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, self.autocast, enabled=self.autocast is not None)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_adapter(self.adapted, Path(str(output_dir)))
