"""The faults of the soak: each trial disturbs runs in one way and returns what it did; `Check` holds the comparison."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from essence import differences
from soak.subject import BETWEEN, EVALUATE, PUBLISH, Attempt, Running, finish

FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


@dataclass
class Soak:
    """What all trials share: the recipe, the undisturbed run's files, its stages with their seconds, and chance."""

    recipe: Path
    work: Path
    reference: Mapping[str, str]
    seconds: Mapping[str, float]
    chance: random.Random
    say: Callable[[str], None]

    @property
    def stages(self) -> list[str]:
        """The stages in which the undisturbed run was seen, in order."""
        return list(self.seconds)

    def finish(self, folder: Path) -> None:
        """Let a disturbed run come to its end, and compare it with the undisturbed one."""
        last = finish(self.recipe, folder)
        assert last.code == 0, last.err
        odd = differences(folder, self.reference)
        assert not odd, f"{folder} differs from the undisturbed run in {odd}"

    def fresh(self, name: str) -> Path:
        """Return a folder for a new run."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def killed(self, folder: Path, stage: str, signum: int = signal.SIGKILL) -> Attempt:
        """Start the command, and end it at a random moment of a stage, or when it is done if the stage is behind it."""
        running = Running(self.recipe, folder)
        after = self.stages[self.stages.index(stage) :] if stage != BETWEEN else [*self.stages, BETWEEN]
        running.wait(until=lambda now: now in after)
        length = self.seconds.get(stage, 6.0)  # start-up: mostly imports
        time.sleep(self.chance.uniform(0, length))
        return running.end(signum)


def kills(soak: Soak, wanted: int, each: int) -> tuple[Counter[str], Counter[str]]:
    """Kill runs with SIGKILL at random moments of every stage, and damage files between two starts.

    Returns:
        Kills by stage (where the process was found dead, not where it was aimed at), and damages by kind.
    """
    hits: Counter[str] = Counter()
    damages: Counter[str] = Counter()
    rounds = 0
    while hits.total() < wanted or min(hits[stage] for stage in soak.stages) < each:
        rounds += 1
        assert rounds < 40, f"some stage is never hit: {hits}"
        folder = soak.fresh(f"killed-{rounds}")
        for stage in [BETWEEN, *soak.stages]:
            for _ in range(soak.chance.choice((1, 1, 2))):
                attempt = soak.killed(folder, stage)
                if attempt.code == 0:
                    break
                assert attempt.code == -signal.SIGKILL, attempt.err
                hits[attempt.stage] += 1
                if soak.chance.random() < (0.8 if attempt.stage.startswith("train") else 0.4):
                    damages[damage(folder, soak.chance)] += 1
        soak.finish(folder)
        for _ in range(4):
            damages[damage(folder, soak.chance)] += 1
        soak.finish(folder)
        soak.say(f"round {rounds}: {hits.total()} kills so far, final artefacts identical")
        shutil.rmtree(folder)
    return hits, damages


def damage(folder: Path, chance: random.Random) -> str:
    """Flip a bit of a random file of a run, or cut it short; returns what was done to which kind of file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock" and path.stat().st_size]
    if not files:
        return "nothing there yet"
    group = chance.choice(sorted({_kind(path, folder) for path in files}))
    path = chance.choice(sorted(path for path in files if _kind(path, folder) == group))
    size = path.stat().st_size
    if chance.random() < 0.5:
        with path.open("rb+") as handle:
            position = chance.randrange(size)
            handle.seek(position)
            byte = handle.read(1)[0]
            handle.seek(position)
            handle.write(bytes([byte ^ 1 << chance.randrange(8)]))
        return f"bit flipped in {group}"
    os.truncate(path, chance.randrange(size))
    return f"cut short: {group}"


def _kind(path: Path, folder: Path) -> str:
    top = path.relative_to(folder).parts[0]
    if "checkpoints" in path.parts:
        return "a checkpoint"
    if path.name.startswith("part-"):
        return "a part of a stage not finished" if top.endswith(".partial") else "a part"
    if path.name == "manifest.json":
        return "a manifest"
    if top.endswith(".partial"):
        return "another file of a stage not finished"
    return "a published file" if (folder / top).is_file() or top == "graft" else "another file of an artefact"


def signals(soak: Soak) -> list[str]:
    """End runs with SIGINT and SIGTERM: one sentence, and the next start continues."""
    done = []
    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        folder = soak.fresh(f"signal-{signum}")
        for stage in [stage for stage in soak.stages if stage not in (EVALUATE, PUBLISH)][::2]:
            attempt = soak.killed(folder, stage, signum)
            if attempt.code == 0:
                break
            assert attempt.code == code, (attempt.code, attempt.err)
            assert "same command again" in attempt.sentence
            done.append(f"{signum.name} in {attempt.stage}")
        assert any(text.startswith(signum.name) for text in done), f"{signum.name} is ignored"
        soak.finish(folder)
    return done


def two_at_once(soak: Soak) -> str:
    """Start a second run while the first works: it is refused with one sentence, and the first is unharmed."""
    folder = soak.fresh("twins")
    first = Running(soak.recipe, folder)
    first.wait(until=lambda stage: stage == soak.stages[0])
    os.kill(first.process.pid, signal.SIGSTOP)  # so that it does not end before the other begins
    try:
        second = finish(soak.recipe, folder)
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert second.code == 1
    assert "another run is working in" in second.sentence
    assert first.end().code == 0
    soak.finish(folder)
    return second.sentence


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disk(soak: Soak) -> str:
    """Let the disk run full again and again, each time a little larger; and make it read-only in between.

    Needs the right to mount a file system in memory. Without it, files are limited in size instead, and the folder's
    permissions are taken away.
    """
    folder = soak.fresh("disk")
    size, step = 60_000, 1.25
    try:
        with _small_disk(folder, size):
            failures = 0
            while (attempt := finish(soak.recipe, folder / "run")).code:
                assert attempt.code == 1, attempt.err
                told = ("the disk is full", "are free on its disk")  # while it works, or before it starts
                assert any(words in attempt.sentence for words in told), attempt.sentence
                failures += 1
                if failures == 3:
                    _remount(folder, "ro")
                    refused = finish(soak.recipe, folder / "run")
                    assert refused.code == 1
                    assert "read-only" in refused.sentence, refused.sentence
                    _remount(folder, "rw")
                size = int(size * step) + 20_000
                _remount(folder, f"size={size}")
            soak.finish(folder / "run")
        return f"{failures} times full before {size / 1e6:.1f} MB sufficed, once read-only"
    except (subprocess.CalledProcessError, FileNotFoundError):
        shutil.rmtree(folder, ignore_errors=True)
        return _limited_files(soak)


def _limited_files(soak: Soak) -> str:
    folder = soak.fresh("disk")
    limit, failures = 10_000, 0

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    while (attempt := finish(soak.recipe, folder, preexec_fn=limited)).code:
        assert attempt.code == 1
        assert "cannot write to" in attempt.sentence
        failures, limit = failures + 1, limit * 3
    soak.finish(folder)
    locked_away = soak.fresh("no-permission")
    locked_away.mkdir(mode=0o500)
    refused = finish(soak.recipe, locked_away / "run")
    assert refused.code == 1
    assert "permission denied" in refused.sentence
    return f"{failures} times refused by `ulimit -f` before {limit / 1e6:.1f} MB sufficed, once without permission"


def clock_jumps(soak: Soak) -> str:
    """Let the wall clock jump by years, forwards and backwards, while runs work and are killed (libfaketime)."""
    library = next((path for pattern in FAKETIME for path in Path("/").glob(pattern[1:])), None)
    if library is None:
        return "not done: libfaketime is not installed (Debian: apt-get install libfaketime)"
    folder, clock = soak.fresh("clock"), soak.work / "clock.txt"
    clock.write_text("+0d\n")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a jump of the wall clock leaves it alone
    }
    jumps = deaths = 0
    for stage in soak.stages[::2]:
        running = Running(soak.recipe, folder, environment)
        running.wait(until=lambda now, stage=stage: now == stage)  # type: ignore[misc]
        end = time.monotonic() + soak.chance.uniform(0, soak.seconds[stage])
        while time.monotonic() < end:
            clock.write_text(f"{soak.chance.choice('+-')}{soak.chance.randrange(1, 4000)}d\n")
            jumps += 1
            time.sleep(0.02)
        deaths += running.end(signal.SIGKILL).code < 0
    running = Running(soak.recipe, folder, environment)
    while running.process.poll() is None:
        clock.write_text(f"{soak.chance.choice('+-')}{soak.chance.randrange(1, 4000)}d\n")
        jumps += 1
        time.sleep(0.05)
    last = running.end()
    assert last.code == 0, last.err
    soak.finish(folder)
    return f"{jumps} jumps of up to 4,000 days while it ran, {deaths} kills"
