"""How vLLM is started: what it reads when it is imported, what it can load, and how its end is noticed."""

from __future__ import annotations

import os
import time
from threading import Thread
from typing import Any, get_args

from lingraft.core.errors import first_line


def set_environment() -> bool:
    """Set what vLLM reads when it is imported, where the user has not; return whether its output is to be hidden."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # else it reports the model's architecture and the machine
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for data
    # A fork of a process in which OpenMP threads have run can hang; with CUDA initialised it fails.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    return os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR") == "ERROR"


def highest_rank(config: dict[str, Any]) -> tuple[int, str]:
    """Return the rank to start vLLM with for an adapter, or why vLLM cannot load it: asked of vLLM's own checks."""
    set_environment()
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.lora.peft_helper import PEFTHelper

    if config.get("peft_type") != "LORA":
        return 0, f"it is of type {config.get('peft_type')}, not LoRA"
    if odd := [key for key in ("modules_to_save", "trainable_token_indices", "target_parameters") if config.get(key)]:
        return 0, f"it uses {odd[0]}"
    if isinstance(config.get("target_modules"), str) and config["target_modules"] != "all-linear":
        return 0, "it names its layers by an expression"  # which vLLM would run, however long that takes
    ranks = sorted(get_args(MaxLoRARanks))
    try:
        helper = PEFTHelper.from_dict(config)
        needed = max([helper.r, *helper.rank_pattern.values()])
        helper.validate_legal(LoRAConfig(max_lora_rank=ranks[-1]))
    except (ValueError, TypeError) as error:
        return 0, first_line(error)
    return next(rank for rank in ranks if rank >= needed), ""


def wake_when_dead(core: Any) -> None:
    """Let a step end that waits for an engine which was killed, for example for want of memory.

    vLLM 0.32 notices the death in a thread of its own, but its `get_output` goes on waiting for ever.
    """
    from vllm.v1.engine.core_client import SyncMPClient
    from vllm.v1.engine.exceptions import EngineDeadError

    if not isinstance(core, SyncMPClient):
        return
    resources, outputs = core.resources, core.outputs_queue

    def watch() -> None:
        while not resources.engine_dead:  # set by a regular end as well
            time.sleep(1.0)
        outputs.put_nowait(EngineDeadError())

    Thread(target=watch, name="lingraft-vllm-watch", daemon=True).start()


def has_died(core: Any) -> bool:
    """Whether vLLM's process has ended, as vLLM notices it beside its steps."""
    return bool(getattr(getattr(core, "resources", None), "engine_dead", False))


def is_dead(error: Exception) -> bool:
    """Whether an exception says that vLLM's process has ended."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)
