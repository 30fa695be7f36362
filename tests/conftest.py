"""Settings shared by all tests: no network, one thread, the same examples on every run."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start; of this one below

import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("repeatable")
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Leave what the imports made, millions of objects, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
