"""Which process works in a folder, told from outside: without touching its lock, which would keep others out."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.record import Record
from lingraft.store.artefacts import LOCK

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Holder(Record):
    """A process, such that another with its number is told from it.

    Attributes:
        pid: its number.
        born: when it began, as the system counts; 0 where that is not known.
        host: name of its machine.
        machine: that start of the machine, and the numbering of processes, in which `pid` counts.
    """

    pid: int
    born: int = 0
    host: str = ""
    machine: str = ""

    @classmethod
    def own(cls) -> Holder:
        """Return this process."""
        pid = os.getpid()
        return cls(pid=pid, born=_born(pid) or 0, host=platform.node(), machine=_machine())

    @property
    def works(self) -> bool | None:
        """Whether it still runs; None where that cannot be told, on another machine or in another container."""
        if self.machine != _machine():
            return None
        if _PROC.joinpath("self/stat").exists():
            return _born(self.pid) == self.born
        return is_running(self.pid)


def is_running(pid: int) -> bool:
    """Say whether there is a process of a number on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def lock_holder(folder: Path) -> int | None:
    """Return the number of the process that holds a folder's lock; None where none is known to hold it.

    Known are the processes of this machine that this one can see, on Linux alone.
    """
    try:
        place = (folder / LOCK).stat()
        listed = (_PROC / "locks").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    wanted = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}:{place.st_ino}"
    for line in listed.splitlines():  # 1: FLOCK ADVISORY WRITE 1859 fe:00:2148223 0 EOF
        words = line.split()
        if len(words) > 5 and words[5] == wanted and words[4].isdecimal():
            return int(words[4])
    return None


def _born(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None for one that has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()  # the name before may hold anything
    ended = not words or words[0] in "ZX"
    return None if ended or len(words) < 20 else int(words[19])


def _machine() -> str:
    """Return a name of this machine since it was started, and of this numbering of processes."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except (OSError, UnicodeDecodeError):
        return platform.node()
