"""The training loop: a subclass of the transformers Trainer whose unit of work is one whole optimiser step.

One dataset item is one planned step with all its micro-batches, so that the loss is normalised over exactly what the
step holds, however it is cut and however many devices share it. Everything around it (optimiser, schedule, clipping,
distribution, checkpoints, random states) is the Trainer's.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from lingraft.rendered import Rendered
from lingraft.training.batching import Step
from lingraft.training.collate import Batch, collate
from lingraft.training.losses import OutputHead, span_loss
from lingraft.training.recorder import Recorder, not_finite


class StepDataset(Dataset[dict[str, Any]]):
    """Planned steps as dataset items: this device's micro-batches and the weight of the whole step.

    Devices take every n-th micro-batch; where one gets fewer than another, it repeats one with weight 0, since
    collective operations need equally many passes everywhere.
    """

    def __init__(
        self,
        rows: Sequence[Rendered],
        steps: Sequence[Step],
        pad_id: int,
        roles: Sequence[str],
        *,
        packed: bool = False,
        share: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.rows, self.steps, self.pad_id, self.roles = rows, steps, pad_id, roles
        self.packed, self.share, self.rank, self.ranks = packed, share, rank, ranks

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        micros = self.steps[index].micros
        mine = [self._batch(micro) for micro in micros[self.rank :: self.ranks]]
        while len(mine) < math.ceil(len(micros) / self.ranks):
            mine.append((mine[0] if mine else self._batch(micros[0])).silent())
        return {"micros": mine, "role_weights": self._role_weights(row for micro in micros for row in micro)}

    def _batch(self, micro: Sequence[int]) -> Batch:
        rows = [self.rows[i] for i in micro]
        return collate(rows, self.pad_id, self.roles, packed=self.packed, share=self.share)

    def _role_weights(self, indices: Iterable[int]) -> np.ndarray:
        """Return the sum of weights of each role, (roles,), over these rows."""
        number = {role: i for i, role in enumerate(self.roles)}
        sums = np.zeros(len(self.roles))
        for row in map(self.rows.__getitem__, indices):
            weights, spans = np.asarray(row.weights[1:], dtype=np.float64), np.asarray(row.span_of[1:])
            of_span = np.bincount(spans[weights > 0], weights[weights > 0], minlength=len(row.roles))
            np.add.at(sums, [number[role] for role in row.roles], of_span)
        return sums


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


class SpanTrainer(Trainer):
    """The transformers Trainer with planned steps and span losses.

    Args:
        model: what to train. head: its checked output head. steps: the plan.
        autocast: type of matrix products; None leaves them in the type of the weights.
        recorder: is told of each step.
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
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=steps, data_collator=_only, callbacks=[recorder])
        self.remove_callback(PrinterCallback)
        self.adapted, self.planned, self.head, self.autocast = model, steps, head, autocast
        recorder.trainer = self
        self.last_loss = math.nan
        self.last_by_role: dict[str, float] = {}

    def get_train_dataloader(self) -> DataLoader:
        """Return the steps in their order; each device makes its own share, so nothing is sharded or moved here."""
        return DataLoader(self.planned, batch_size=1, shuffle=False, collate_fn=_only)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the Trainer's own count walks over all parameters at each step, and nothing here reads it."""
        return 0

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run forward and backward over a whole optimiser step.

        Returns:
            The loss of the step: sum(weight x term) / sum(weight) over all its micro-batches on all devices.

        Raises:
            LingraftError: the loss is not finite; nothing has been updated.
        """
        model.train()
        micros, role_weights = inputs["micros"], inputs["role_weights"]
        weight = float(role_weights.sum())
        sums = torch.zeros(len(role_weights), device=self.args.device)
        for i, micro in enumerate(micros):
            batch = micro.to(self.args.device)
            last = i == len(micros) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                base = self._base_hidden(batch) if batch.targets.need_base else None
                with self._typed():
                    result = span_loss(self._hidden(model, batch), batch.targets, self.head, base_hidden=base)
                # Distributed training averages gradients over devices; the sum is wanted.
                self.accelerator.backward(result.total * (self.accelerator.num_processes / weight))
            sums += result.by_role
        sums = self.accelerator.reduce(sums, "sum")
        by_role = sums.double().tolist()
        self.last_loss = sum(by_role) / weight
        self.last_by_role = {
            role: total / of_role
            for role, total, of_role in zip(self.planned.roles, by_role, role_weights.tolist(), strict=True)
            if of_role
        }
        if not math.isfinite(self.last_loss):
            raise not_finite("loss", self.state.global_step + 1, self.state.max_steps, self.args.learning_rate)
        return sums.sum() / weight

    def _typed(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, self.autocast, enabled=self.autocast is not None)

    def _hidden(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        # Without use_cache=False transformers lets packed examples see each other.
        outputs = model(**batch.model_inputs(), use_cache=False, output_hidden_states=True, logits_to_keep=1)
        hidden: torch.Tensor = outputs.hidden_states[-1]
        return hidden

    @torch.no_grad()
    def _base_hidden(self, batch: Batch) -> torch.Tensor:
        """Return the final hidden states of the base: adapter off, dropout off."""
        self.adapted.eval()
        try:
            # Its own autocast: a shared one would hand the training pass weights that were cast here, without gradient.
            with self.adapted.disable_adapter(), self._typed():
                return self._hidden(self.adapted, batch)
        finally:
            self.adapted.train()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # PEFT would ask the hub whether the base's vocabulary was resized; adapters here never touch embeddings.
        self.adapted.save_pretrained(str(output_dir), state_dict=state_dict, save_embedding_layers=False)
