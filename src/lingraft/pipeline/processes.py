"""One run by several processes, as `torchrun` and `accelerate launch` start them.

All processes run the same program. The first does everything; the others wait for each artefact and join in training,
for which the rows have been rendered once and are mapped into memory by all.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from lingraft.core.environment import world_size as world_size
from lingraft.store.artefacts import verify

POLL_SECONDS = 0.5


def is_main_process() -> bool:
    """Return whether this is the process that writes artefacts."""
    return int(os.environ.get("RANK", "0")) == 0


def set_device() -> None:
    """Make the accelerator that belongs to this process the current one."""
    import torch

    if world_size() > 1 and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def wait_for(artefact: Path) -> Path:
    """Return the artefact's folder once the first process has finished it.

    If that process fails, the launcher ends this one: nobody else knows how long a stage takes.
    """
    while not (artefact.exists() and verify(artefact)):
        time.sleep(POLL_SECONDS)
    return artefact
