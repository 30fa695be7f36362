"""Settings shared by all tests: no network, one thread, the same examples on every run."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start; of this one below

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("repeatable")
torch.set_num_threads(1)

LONGEST = (
    "test_models",
    "test_processes",
    "test_run_chain",
    "test_run_processes",
    "test_run",
    "test_run_fresh",
    "test_trainer",
    "test_server",
    "test_harness",
    "test_openai_faults",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that two processes end together (with `--no-loadscope-reorder`)."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Leave what the imports made, millions of objects, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
