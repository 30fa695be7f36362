"""The optimisers a training may use, by the names that transformers gives them, and a learning rate for embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError, first_line, suggestion
from lingraft.core.packages import install_command, is_installed

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

TORCH, BITSANDBYTES, TORCHAO = "torch", "bitsandbytes", "torchao"

OPTIMIZERS: dict[str, str] = {
    "adamw_torch": TORCH,
    "adamw_torch_fused": TORCH,
    "adafactor": TORCH,
    "adagrad": TORCH,
    "rmsprop": TORCH,
    "sgd": TORCH,
    "adamw_bnb_8bit": BITSANDBYTES,
    "adamw_8bit": BITSANDBYTES,
    "ademamix": BITSANDBYTES,
    "ademamix_8bit": BITSANDBYTES,
    "lion_32bit": BITSANDBYTES,
    "lion_8bit": BITSANDBYTES,
    "rmsprop_bnb": BITSANDBYTES,
    "rmsprop_bnb_8bit": BITSANDBYTES,
    "rmsprop_bnb_32bit": BITSANDBYTES,
    "paged_adamw_32bit": BITSANDBYTES,
    "paged_adamw_8bit": BITSANDBYTES,
    "paged_ademamix_32bit": BITSANDBYTES,
    "paged_ademamix_8bit": BITSANDBYTES,
    "paged_lion_32bit": BITSANDBYTES,
    "paged_lion_8bit": BITSANDBYTES,
    "adamw_torch_4bit": TORCHAO,
    "adamw_torch_8bit": TORCHAO,
    "grokadamw": "grokadamw",
    "stable_adamw": "torch-optimi",
}
"""Names as in transformers' `optim`, with the package that has the optimiser."""

_MODULES = {"torch-optimi": "optimi"}

_UNFIT = {
    "galore": "projects whole weights and finds none among low-rank updates",
    "apollo": "projects whole weights and finds none among low-rank updates",
    "lomo": "updates during the backward pass, and a step here has several",
    "adalomo": "updates during the backward pass, and a step here has several",
    "schedule": "keeps other weights than it trains, so that an interrupted run would not continue exactly",
    "adamw_torch_xla": "is for TPUs",
    "adamw_torch_npu": "is for NPUs",
    "adamw_anyprecision": "is of torchdistx, which is no longer maintained",
}
"""Beginnings of other names that transformers knows, and why they do not fit."""


def check_name(name: str) -> str:
    """Return a name of an optimiser.

    Raises:
        ValueError: it does not fit, or there is none of that name.
    """
    if name in OPTIMIZERS:
        return name
    for begin, reason in _UNFIT.items():
        if name.startswith(begin):
            raise ValueError(f"the optimiser {name!r} {reason}; choose another, such as adamw_torch")
    near, known = suggestion(name, OPTIMIZERS), f"; known: {', '.join(OPTIMIZERS)}"
    raise ValueError(f"there is no optimiser {name!r}{known if near.startswith('; known') else near + known}")


def missing_package(name: str) -> str:
    """Return what to install for an optimiser, in words; "" where all is there."""
    package = OPTIMIZERS[name]
    module = _MODULES.get(package, package)
    if is_installed(module):
        return ""
    return f"optimizer {name} needs the package {package}; run `{install_command(module)}`"


def try_optimizer(name: str, device: torch.device) -> None:
    """Take a step of the optimiser with a small matrix, which some packages cannot on every device.

    Raises:
        UsageError: it does not work.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    if reason := missing_package(name):
        raise UsageError(reason)
    if name == "adamw_torch":
        return
    weight = torch.nn.Parameter(torch.ones(64, 128, device=device))  # too small a one is never in 8 bits
    weight.grad = torch.ones_like(weight)
    args = TrainingArguments(output_dir=".", optim=name, report_to=[], use_cpu=device.type == "cpu")
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
        kind([weight], **options).step()
    except Exception as error:  # whatever a package raises that was not made for the device
        raise UsageError(
            f"train.optimizer {name} does not work on {device.type} ({first_line(error)}); choose another, such as "
            f"adamw_torch"
        ) from error


def give_embeddings_their_rate(optimizer: torch.optim.Optimizer, adapted: PeftModel, rate: float) -> None:
    """Move what learns of embeddings and output head into parameter groups with a rate of their own.

    These are rows that a vocabulary has added, or whole layers; low-rank updates beside an output head are not.

    Args:
        optimizer: new, without state.
        adapted: the model it trains.
        rate: highest of the schedule.

    Raises:
        UsageError: nothing of them learns.
    """
    theirs = _learning_embeddings(adapted)
    if not theirs:
        raise UsageError(
            "train.embedding_learning_rate: neither embeddings nor output head learn; drop it, or set the tuner's "
            "`embeddings`"
        )
    for group in list(optimizer.param_groups):
        moved = [weight for weight in group["params"] if id(weight) in theirs]
        if moved:
            group["params"] = [weight for weight in group["params"] if id(weight) not in theirs]
            optimizer.add_param_group({**group, "params": moved, "lr": rate})


def _learning_embeddings(adapted: PeftModel) -> set[int]:
    base: Any = adapted.get_base_model()
    ends = [module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module is not None]
    return {
        id(weight)
        for end in ends
        for name, weight in end.named_parameters()
        if weight.requires_grad and "lora_" not in name
    }
