"""Devices: the best one, its free memory, the number format it computes in."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.utils import logging as transformers_logging

from lingraft.core.environment import peak_memory_mb as resident_peak_mb


@contextmanager
def one_core_left() -> Iterator[None]:
    """Compute with one thread less than there are for the block, but for a user who says how many (OMP_NUM_THREADS).

    Threads that compute wait for each other: where something else takes one core now and then, all are slower than
    without it.
    """
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or threads < 2:
        yield
        return
    torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of transformers off the terminal: ours say more; and what PEFT warns of, from a line of
    its own on this machine: what is wrong is refused, and all else is meant."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="peft")
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def best_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that this process has used of a device so far, in MiB.

    Args:
        device: of a CPU it is the largest resident size of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident_peak_mb()


def free_memory() -> None:
    """Give back the memory of models that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that is computed in: "auto" (and "nf4") is bfloat16 where the device has it, else float32."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    # What the machine has counts only if PyTorch's kernels may use it: ATEN_CPU_CAPABILITY can hold them to less.
    used = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    return torch.bfloat16 if native and used else torch.float32
