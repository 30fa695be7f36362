"""Native code from the hub is kept out: what `transformers` and `bitsandbytes` fetch by the package `kernels`.

Where that package is installed, bitsandbytes asks it for a kernel while it is imported (on processors with
AVX512-BF16), and transformers while a model is built whose configuration names such an attention, experts or a way of
quantising: a program of somebody else, unpinned, from the network.
"""

from __future__ import annotations

import logging
import os
import sys

SWITCH = "USE_HUB_KERNELS"
"""The variable that transformers reads; bitsandbytes reads none."""
_YES = {"1", "ON", "YES", "TRUE"}


def keep_out() -> None:
    """Let this process, and by the variable those it starts, take no kernels from the hub: that of a command, or of a
    worker. A program that imports Lingraft decides for itself, and may call this before it imports the libraries.

    Has no effect where the user has set `USE_HUB_KERNELS` to yes, or imported `kernels` before.
    """
    if os.environ.setdefault(SWITCH, "0").upper() in _YES:
        return
    # With None for a module Python takes it for one that is not installed, and so do both libraries.
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
    # bitsandbytes then warns, whoever imports it first, and tells to install what is kept out.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
