"""Settings shared by all tests: no network, one thread, the same examples on every run."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start; of this one below

import pytest
import torch
from hypothesis import settings

from lingraft.core.environment import cache_folder

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("repeatable")
torch.set_num_threads(1)

CACHE = "lingraft-tests-"
SHARED = ("models", "environments", "nltk_data")
"""What takes long to make: the converted embedded model, what COMET runs in, and what a task of lm-eval reads."""


MEMORY = Path("/dev/shm")
GIB = 2**30


def in_memory() -> Path | None:
    """Return a file system in memory, if there is one that takes what the tests write, about a gigabyte, and starts
    programs. All that counts is synced as it is written, thousands of times: a disk takes up to 10 ms for each."""
    try:
        place = os.statvfs(MEMORY)
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        (available,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    room = place.f_bavail * place.f_frsize >= 3 * GIB and available >= 8 * GIB
    usable = os.access(MEMORY, os.W_OK | os.X_OK) and not place.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    return MEMORY if room and usable else None


def own_cache(place: Path | None) -> None:
    """Give the tests, and the processes that they start, a cache of their own: notes of models that exist for a test
    have no place in the user's. What takes long to make lies in that all the same."""
    users = cache_folder()
    if users.name.startswith(CACHE):  # of the process that has started this one
        return
    own = Path(tempfile.mkdtemp(prefix=CACHE, dir=place))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    for name in SHARED:
        (users / name).mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to((users / name).resolve())
    os.environ["LINGRAFT_CACHE"] = str(own)


if memory := in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # where `tmp_path` is
own_cache(memory)

TESTS = Path(__file__).parent
LONGEST = (
    "models/test_export",
    "training/objectives/test_contract",
    "models/test_files",
    "training/test_tuner_contract",
    "docs/test_notebook",
    "pipeline/test_run_chain",
    "pipeline/test_run_fresh",
    "training/test_train",
    "data/test_fuzz_readers",
    "engines/test_openai_faults",
    "models/test_architectures",
    "pipeline/test_run",
    "training/test_embeddings",
    "recipe/test_imports",
    "pipeline/test_run_processes",
    "training/test_processes",
    "docs/test_python",
    "engines/test_transformers",
    "training/test_development",
    "serving/test_server",
    "suites/test_harness",
)


def _length(item: pytest.Item) -> int:
    name = item.path.relative_to(TESTS).with_suffix("").as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that two processes end together (with `--no-loadscope-reorder`)."""
    items.sort(key=_length)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the option of `make test-times`."""
    parser.addoption(
        "--times", type=int, default=0, metavar="N", help="say which N files took longest, and each process"
    )
    parser.addoption("--serve-engine", default="transformers", help="what writes in the tests of the server")


def pytest_configure(config: pytest.Config) -> None:
    """Have the tests of the server run with the engine that is wanted."""
    if (engine := config.getoption("--serve-engine")) != "transformers":
        importlib.import_module("serving_engines").CHOSEN = engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which files took longest, with the fixtures that they made first, and what each process has done."""
    if not (shown := config.getoption("--times")):
        return
    files: Counter[str] = Counter()
    processes: Counter[str] = Counter()
    for report in (one for kind in terminalreporter.stats.values() for one in kind):
        if isinstance(report, pytest.TestReport):
            files[report.nodeid.split("::")[0]] += report.duration
            processes[getattr(report, "worker_id", "")] += report.duration
    terminalreporter.section(f"{shown} longest of {len(files)} files, which took {files.total():.0f} seconds in all")
    for name, seconds in [*files.most_common(shown), *sorted(processes.items())]:
        terminalreporter.line(f"{seconds:8.1f}  {name}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have failures named as they come: of tests that are killed, the summary is never printed."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # in the processes of xdist there is none
        config.pluginmanager.register(_Failures(terminal))


class _Failures:
    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name a test that has failed, and its last words."""
        if report.failed:
            said = str(report.longrepr).rstrip().splitlines()
            words = next((line for line in reversed(said) if line.startswith("E ")), "".join(said[-1:]))
            self.terminal.write_line(f"\n{report.when} of {report.nodeid}: {words}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Look for no garbage while the tests are imported, which would take a third of that time, and leave what the
    imports made, millions of objects, out of every later collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)  # what tests make is freed by its count of references, nearly all of it
