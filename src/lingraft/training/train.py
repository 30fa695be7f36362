"""Training from rendered examples to a trained adapter: checks, plan, checkpoints to continue from, and cleaning up.

The loop itself is in `lingraft.training.span_trainer`.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments

from lingraft.core.errors import LingraftError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.models.adapter import take_off
from lingraft.models.adapter_files import WEIGHTS
from lingraft.models.devices import peak_memory_mb
from lingraft.models.output_head import OutputHead, final_states, find_head
from lingraft.rendering.rows import Rendered
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder
from lingraft.training.batching import plan_steps
from lingraft.training.checkpoints import LossLog, TrainPoint, newest_complete
from lingraft.training.collate import model_inputs
from lingraft.training.development import Development, DevLog, DevPoint
from lingraft.training.objective_checks import check_head, check_rows
from lingraft.training.objectives import Objective, RegulariserInputs, described
from lingraft.training.optimizers import try_optimizer
from lingraft.training.packing import OWN, BatchLayout
from lingraft.training.plan import Plan
from lingraft.training.saving import restore_adapter
from lingraft.training.selection import masks_hash
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import SpanTrainer, save_adapter
from lingraft.training.step_callback import AfterStep, Recorder, TrainProgress
from lingraft.training.step_dataset import StepDataset
from lingraft.training.survey import survey_rows
from lingraft.training.trackers import RECORD, Trackers, Tracking
from lingraft.training.tuners import ALL, Tuner, TunerInputs
from lingraft.training.wrapping import CHECKED_TOKENS, adapter_on, base_in_training, row_loss

__all__ = [
    "SpanTrainer",
    "StepDataset",
    "TrainPoint",
    "TrainProgress",
    "TrainResult",
    "TrainSettings",
    "save_adapter",
    "train",
]

MICRO_COST_CPU, MICRO_COST_ACCELERATOR = 48, 1024  # fixed cost of a micro-batch, in padded tokens
PACKED_TOKENS_CPU = 1024  # more tokens at once are not faster on a CPU and need more memory
FEW_STEPS = 10
"""Fewer optimiser steps are said to be few: an adapter begins at zero, and each step moves it by a learning rate."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model and what it cost.

    Attributes:
        log: one point a step.
        dev: what was measured on the development set.
        kept: the step whose weights the model has.
        steps: taken.
        tokens: real tokens trained on, repeated epochs counted.
        supervised_tokens: those of them with a weight.
        padded_tokens: with padding, repeated epochs counted.
        computed_tokens: that went through the model in this call, on this device: padding counted, shared beginnings
            counted once.
        packed: whether rows were packed; padded otherwise.
        seconds: training time without interruptions.
        peak_memory_mb: of the device; on a CPU, the highest resident size this process has had.
    """

    model: PeftModel
    log: list[TrainPoint]
    dev: list[DevPoint]
    kept: int
    steps: int
    tokens: int
    supervised_tokens: int
    padded_tokens: int
    computed_tokens: int
    packed: bool
    seconds: float
    peak_memory_mb: float


def train(
    model: PreTrainedModel,
    rows: Sequence[Rendered],
    settings: TrainSettings,
    tuner: Tuner,
    *,
    pad_id: int,
    work_dir: Path,
    seed: int,
    initial: Path | None = None,
    new_ids: Sequence[int] = (),
    selected: Mapping[str, torch.Tensor] = ALL,
    objectives: Sequence[Objective] = (),
    progress: Callable[[TrainProgress], None] | None = None,
    development: Development | None = None,
    tracking: Tracking | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train on rendered examples, or continue where an interrupted call with the same arguments stopped.

    Losses and weights of a continued run equal those of an uninterrupted one. The caller's random states, and the
    base's weights and their type, are afterwards as before; when this raises, the base has no adapter either. Take the
    trained one off with `lingraft.models.adapter.take_off`.

    Args:
        model: the base, on the device to train on. It is wrapped in place.
        rows: what to train on.
        settings: how to train.
        tuner: which parameters learn.
        pad_id: token id that fills short rows.
        work_dir: for checkpoints and `losses.jsonl`; remove it when the result is stored elsewhere.
        seed: of adapter weights, order of rows and dropout.
        initial: folder of an adapter of the same form, whose weights training begins with.
        new_ids: token ids that a vocabulary has added to the base's, see `LoadedModel.new_ids`.
        selected: what the tuner has selected, see `Tuner.select`.
        objectives: what the loss is made of beside the spans' own.
        progress: called after each step.
        development: what the training is measured on while it goes on; None: nothing.
        tracking: how the trackers of `settings.report_to` know the training.
        say: is told in words when memory was short, or when an objective does nothing.

    Raises:
        DataError: no rows, a row without supervised token, or a loss without the teacher it needs.
        UsageError: a span has an unknown loss kind, or one that the tuner rules out; rows are to be packed and the
            model does not allow it; kernels or optimiser do not fit the device; no embeddings learn, and they have
            a learning rate.
        ModelError: the model lacks a token of the rows, or is of an architecture whose logits cannot be reproduced;
            `initial` is damaged or of another form than `tuner` makes.
        StoreError: `work_dir` holds a run with other rows or settings, or cannot be written to.
        LingraftError: the loss or the gradient is no longer finite, a tracker does not work, or the best weights are to
            be kept and none are within the budget of divergence.
    """
    survey = survey_rows(model, rows)
    for words in check_rows(survey, objectives):
        if say:
            say(words)
    try_optimizer(settings.optimizer, model.device)
    on_cpu = model.device.type == "cpu"
    with explain_os_errors(work_dir), base_in_training(model, settings, rows[0].input_ids) as base:
        packed = base.layout.packed
        args = _arguments(model, settings, work_dir / "checkpoints", seed)
        steps = plan_steps(
            survey.lengths,
            survey.supervised,
            tokens_per_step=settings.tokens_per_step,
            micro_tokens=_micro_tokens(settings.micro_tokens, base.layout, on_cpu),
            epochs=settings.epochs,
            seed=seed,
            world_size=args.world_size,
            max_tokens=settings.max_tokens,
            max_steps=settings.max_steps,
            micro_cost=MICRO_COST_CPU if on_cpu else MICRO_COST_ACCELERATOR,
            packed=packed,
            units=survey.units,
        )
        if len(steps) < FEW_STEPS and say:
            say(_few(len(steps), steps.tokens, settings))
        args.max_steps = len(steps)
        args.warmup_steps = math.ceil(settings.warmup_share * len(steps))
        begun = None if initial is None else file_hash(initial / WEIGHTS)
        also = [*([development.identity] if development else []), *([masks_hash(selected)] if selected else [])]
        start = [seed, list(new_ids), begun, *described(objectives), *also]
        fingerprint = _fingerprint(model, survey.digest, settings, tuner, steps, start)
        make_folder(work_dir)
        with args.main_process_first(local=False):
            losses = work_dir / "losses.jsonl"
            first, has = args.process_index == 0, development is not None
            dev = DevLog(work_dir, settings, len(steps), measured=has, writes=first)
            newest = newest_complete(work_dir / "checkpoints", fingerprint, losses, dev.state)
            done = 0 if newest is None else int(newest.name.rpartition("-")[2])
            log = LossLog(losses, done, writes=first)
            dev.go_back(done if newest else None)
        tracking = tracking or Tracking(folder=work_dir / "tensorboard")
        kinds = settings.report_to if first else ()
        told = {point.step: point.values for point in dev.points}
        trackers = Trackers(kinds, tracking, work_dir / RECORD, log.points, told)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        checkpointed = model.is_gradient_checkpointing
        adapted = adapter_on(model, base, tuner, TunerInputs(seed=seed, new_ids=new_ids, rows=rows), selected, initial)
        try:
            hold = tuner.constraint(adapted, base.originals)
            head = find_head(adapted, rows[0].input_ids[:CHECKED_TOKENS])
            check_head(survey, objectives, head)
            if args.world_size > 1:
                args.ddp_find_unused_parameters = not _all_reached(adapted, head, rows[0].input_ids[:CHECKED_TOKENS])
            measured = None
            if development:
                measured = development, references(development, model, base.layout, settings, pad_id)
            trainer = SpanTrainer(
                adapted,
                args,
                steps=StepDataset(
                    rows,
                    steps,
                    pad_id,
                    survey.roles,
                    packed=packed,
                    share=packed and settings.share_prefix and model.config._attn_implementation == OWN,
                    rank=args.process_index,
                    ranks=args.world_size,
                    units=survey.units,
                    singly=base.layout.singly,
                ),
                head=head,
                autocast=base.autocast,
                recorder=Recorder(log, fingerprint, progress, trackers, dev),
                development=measured,
                embedding_rate=settings.embedding_learning_rate,
                hooks=() if hold is None else (AfterStep(hold),),
                objectives=objectives,
                sharded=base.sharded,
                before_step=tuner.before_step,
                say=say,
            )
            for one in trainer.regularisers:
                loss = partial(row_loss, adapted, head=head)
                one.begin(RegulariserInputs(model=adapted, rows=rows, seed=seed, loss=loss))
            if newest and dev.over:  # it had stopped
                restore_adapter(adapted, newest)
            else:
                with base.fast(adapted):
                    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
            if kept := dev.kept:
                trainer.accelerator.wait_for_everyone()
                restore_adapter(adapted, dev.folder_of(kept))
            trackers.close(failed=False)
        except BaseException:
            take_off(adapted)
            with contextlib.suppress(LingraftError):  # what has failed before is said
                trackers.close(failed=True)
            raise
        finally:
            if settings.gradient_checkpointing and not checkpointed:
                model.gradient_checkpointing_disable()
    adapted.zero_grad(set_to_none=True)
    taken = len(log.points)  # less than was planned where training has stopped early
    tokens, supervised = steps.done(taken)
    return TrainResult(
        model=adapted.eval(),
        log=log.points,
        dev=dev.points,
        kept=kept.step if kept else taken,
        steps=taken,
        tokens=tokens,
        supervised_tokens=supervised,
        padded_tokens=steps.padded_done(taken),
        computed_tokens=trainer.computed_tokens,
        packed=packed,
        seconds=log.points[-1].seconds,
        peak_memory_mb=peak_memory_mb(model.device),
    )


def _micro_tokens(limit: int, layout: BatchLayout, on_cpu: bool) -> int:
    if layout.singly:
        return 1  # a row that is longer than the limit goes alone
    return min(limit, PACKED_TOKENS_CPU) if layout.packed and on_cpu else limit


def references(
    development: Development, model: PreTrainedModel, layout: BatchLayout, settings: TrainSettings, pad_id: int
) -> StepDataset:
    """Return the references of a development set as one planned step, laid out as in training.

    Args:
        development: whose rows are checked.
        model: that reads them.
        layout: how rows share a pass.
        settings: how to train.
        pad_id: token id that fills short rows.

    Raises:
        DataError, ModelError: as `survey_rows`.
    """
    survey = survey_rows(model, development.rows)
    plan = plan_steps(
        survey.lengths,
        survey.supervised,
        tokens_per_step=int(survey.lengths.sum()),
        micro_tokens=_micro_tokens(settings.micro_tokens, layout, model.device.type == "cpu"),
        epochs=1,
        seed=0,
        packed=layout.packed,
    )
    return StepDataset(development.rows, plan, pad_id, survey.roles, packed=layout.packed)


def _few(steps: int, tokens: int, settings: TrainSettings) -> str:
    smaller = max(32, 1 << int(math.log2(max(1, tokens / (2 * FEW_STEPS)))))
    longer = math.ceil(settings.epochs * FEW_STEPS / steps)
    return (
        f"{steps} optimiser step{'s' if steps > 1 else ''} ({tokens:,} tokens, {settings.tokens_per_step:,} a step) "
        f"teach little; use tokens_per_step: {smaller} or epochs: {longer}"
    )


def _all_reached(adapted: PeftModel, head: OutputHead, input_ids: Sequence[int]) -> bool:
    """Whether every pass gives all that learns a gradient, which distributed training takes for granted unless told."""
    learning = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    if any(re.search(r"experts\.\d+\.", name) for name in learning):  # each token goes to a few of them
        return False
    ids = torch.tensor([list(input_ids)], device=adapted.device)
    hidden = final_states(adapted, model_inputs(ids), from_decoder=head.from_decoder)
    total = head(hidden).float().square().sum()
    gradients = torch.autograd.grad(total, list(learning.values()), allow_unused=True)
    return all(gradient is not None for gradient in gradients)


def _arguments(model: PreTrainedModel, settings: TrainSettings, folder: Path, seed: int) -> TrainingArguments:
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optimizer,
        save_strategy="steps",
        save_steps=settings.save_every_steps,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,
        use_cpu=model.device.type == "cpu",
        use_cache=bool(getattr(model.config, "use_cache", True)),  # the Trainer writes it into the model's config
        use_liger_kernel=settings.kernels == "liger",
        # The logits that Liger would fuse into a loss are not used: span losses compute their own.
        liger_kernel_config={"cross_entropy": False, "fused_linear_cross_entropy": False},
        torch_compile=settings.compile,
        seed=seed,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # otherwise the Trainer would wrap the model in DataParallel
    return args


def _fingerprint(
    model: PreTrainedModel,
    rows: str,
    settings: TrainSettings,
    tuner: Tuner,
    steps: Plan,
    start: list[Any],
) -> str:
    """Return a hash of all that decides the course of training but the base's weights.

    `rows`: their hash. `start`: what the adapter begins as.
    """
    return content_hash(
        {
            "parameters": [[name, list(parameter.shape)] for name, parameter in model.named_parameters()],
            "rows": rows,
            "settings": {key: value for key, value in settings.identity().items() if key != "save_every_steps"},
            "tuner": [tuner.name, tuner.params.model_dump(mode="json")],
            "steps": steps.digest(),
            "start": start,
            "schedule": "from 1 / (w + 1)",  # a checkpoint of another schedule is not continued from
        }
    )
