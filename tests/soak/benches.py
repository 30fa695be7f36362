"""A bench in two processes that is killed at random moments: it must end like one that nobody killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import yaml

from essence import differences, essence
from soak.subject import Attempt, Running
from soak.trials import Soak

ROWS: list[dict[str, Any]] = [
    {"name": "vanilla", "set": {"stages.0.method": "vanilla", "stages.0.params": {}}},
    {"name": "radis"},
    {
        "name": "eaft",
        "set": {"stages.0.method": "vanilla", "stages.0.params": {}, "stages.0.objective": [{"kind": "eaft"}]},
    },
    {
        "name": "half",
        "set": {"stages": [], "merge": [{"kind": "linear", "name": "half", "of": ["row:vanilla"], "strength": 0.5}]},
    },
]
AFTER_START = 4.0
"""Seconds that a command imports before it writes anything, about: few kills fall there."""


class RunningBench(Running):
    """The command `bench`."""

    command: ClassVar[str] = "bench"
    options: ClassVar[tuple[str, ...]] = ("--workers", "2")

    def stage(self) -> str:
        """Return which rows are being run, by what is on the disk."""
        rows = {path.parent.name for path in self.folder.glob("rows/*/*.partial")}
        return " and ".join(sorted(rows)) or "between rows"

    def kill(self, alone: bool) -> Attempt:
        """Kill the command with its workers, or alone: they must end by themselves."""
        if alone and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            return self.end()
        return self.end(signal.SIGKILL)


def make_bench(soak: Soak) -> Path:
    """Write a bench of the soak's recipe, in which a row needs the graft of another and two ask different things."""
    recipe = yaml.safe_load(soak.recipe.read_text("utf-8"))
    recipe["compare"] = []
    file = soak.work / "bench.yaml"
    file.write_text(yaml.safe_dump({"name": "soak", "recipe": recipe, "rows": ROWS}), "utf-8")
    return file


def ended(file: Path, folder: Path) -> Attempt:
    """Let a bench come to its end."""
    running = RunningBench(file, folder)
    running.wait(timeout=1800)
    found = running.end()
    assert found.code == 0, found.err
    return found


def bench_kills(soak: Soak, wanted: int) -> Counter[str]:
    """Kill benches at random moments, each until it ends, and compare them with one that nobody killed.

    Returns:
        Kills by the rows that were being run.
    """
    file, folder = make_bench(soak), soak.fresh("bench")
    start = time.monotonic()
    ended(file, folder)
    length, wholly = time.monotonic() - start, essence(folder)
    hits: Counter[str] = Counter()
    rounds = 0
    while hits.total() < wanted:
        rounds += 1
        folder = soak.fresh("bench")  # the same for all: a row's recipe names the folder of another
        while True:
            running = RunningBench(file, folder)
            end = time.monotonic() + AFTER_START + soak.chance.uniform(0, length / 3)
            while time.monotonic() < end and running.process.poll() is None:
                time.sleep(0.01)
            attempt = running.kill(alone=soak.chance.random() < 0.5)
            if attempt.code == 0:
                break
            assert attempt.code == -signal.SIGKILL, attempt.err
            hits[attempt.stage] += 1
            if hits.total() >= wanted:
                break
        ended(file, folder)
        odd = differences(folder, wholly)
        assert not odd, f"{folder} differs from the bench that nobody killed in {odd}"
        soak.say(f"bench {rounds}: {hits.total()} kills so far, final artefacts identical")
    return hits
