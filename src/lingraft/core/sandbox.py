"""Running a program that a model wrote: without network, files, secrets or rights, within limits, or not at all.

Linux alone lets an ordinary process be shut in well enough: user, mount, process, network and IPC namespaces, a root
folder of memory with nothing in it but the interpreter, read-only, and the limits of the kernel. `enclosure.py` does
that; here it is started, watched and ended. Before the first use `canary.py` tries to get out. Where the system refuses
any of it there is no second best: `refusal()` says why, and nothing runs. What this does not hold against is in
docs/sandbox.md.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

from lingraft.core.allowance import Allowance, current_allowance
from lingraft.core.enclosure import BOX
from lingraft.core.errors import LingraftError

OUTPUT = 64 * 1024
"""Bytes kept of each stream of a step; what is written beyond is read and dropped."""
DISK = 64 * 1024**2
"""Bytes of the throw-away folder, which lies in memory."""
WATCH = 0.2
"""Seconds between two looks at the memory of all enclosed processes together."""
_GRACE = 15.0
"""Seconds to build the root, beyond those of the steps."""


class SandboxError(LingraftError):
    """Code that a model wrote cannot be run here without it reaching what is outside."""


@dataclass(frozen=True)
class Limits:
    """What one step may use.

    Attributes:
        cpu_seconds: of processor time, of each of its processes.
        wall_seconds: of all of it; more, so that a busy machine does not make a program fail.
        memory_mb: MiB, of each process and of all together.
        address_space: whether mappings that are not backed count as well; Java and JavaScript reserve gigabytes.
        processes: threads among them.
        open_files: of each process.
        file_mb: MiB of a file.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 90.0
    memory_mb: int = 512
    address_space: bool = True
    processes: int = 16
    open_files: int = 64
    file_mb: int = 32

    def plain(self) -> dict[str, float]:
        """Return them as the enclosure takes them, in bytes."""
        memory = self.memory_mb * 1024**2
        return {
            "cpu_seconds": self.cpu_seconds,
            "wall_seconds": self.wall_seconds,
            "memory": memory,
            "address_space": memory if self.address_space else 0,
            "processes": self.processes + 1,  # the first process of the world counts
            "open_files": self.open_files,
            "file_size": self.file_mb * 1024**2,
        }


@dataclass(frozen=True)
class Step:
    """A program to run: whole path and arguments."""

    argv: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Ending:
    """How a step ended.

    Attributes:
        returncode: of the program; -n where signal n ended it.
        stdout: what it wrote, the first `OUTPUT` bytes.
        stderr: likewise.
        why: `time` or `memory` where a limit ended it, else empty.
        cpu_seconds: processor time of it and those it waited for.
    """

    returncode: int
    stdout: str = ""
    stderr: str = ""
    why: str = ""
    cpu_seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether it ended by itself, without an error."""
        return self.returncode == 0 and not self.why


@dataclass(frozen=True)
class World:
    """What there is in the sandbox beside `/box`, the folder that is thrown away.

    Attributes:
        binds: path there -> path here, read-only: interpreters and libraries, nothing of the user's.
        links: path there -> what the link says.
        env: the whole environment.
    """

    binds: Mapping[str, str]
    links: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def run(files: Mapping[str, str], steps: Sequence[Step], world: World) -> list[Ending]:
    """Run steps one after another in one throw-away folder, until one fails.

    Args:
        files: name -> text, written into the folder before.
        steps: what to run there.
        world: what they find beside it.

    Returns:
        One ending for each step that was begun.

    Raises:
        SandboxError: the system does not shut programs in.
        OutOfTimeError: programs have run for as long as `lingraft.core.allowance.allowing` says.
        ValueError: a file has no plain name.
    """
    if why := refusal():
        raise SandboxError(why)
    if odd := [name for name in files if name in ("", ".", "..") or "/" in name]:
        raise ValueError(f"{odd[0]!r} is no plain name of a file")
    allowance = current_allowance()
    if allowance is not None:
        allowance.check()
    return _run(files, steps, world, allowance=allowance)


def _run(
    files: Mapping[str, str],
    steps: Sequence[Step],
    world: World,
    disk: int = DISK,
    allowance: Allowance | None = None,
) -> list[Ending]:
    env = {"PATH": "/usr/bin", "HOME": BOX, "TMPDIR": BOX, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", **world.env}
    spec = {
        "parent": os.getpid(),
        "place": "/tmp",  # covered by memory, in a namespace of its own
        "binds": dict(world.binds),
        "links": dict(world.links),
        "env": env,
        "files": dict(files),
        "steps": [{"argv": list(step.argv), "limits": step.limits.plain()} for step in steps],
        "disk": disk,
        "output": OUTPUT,
    }
    enclosure = Path(__file__).with_name("enclosure.py")
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as cried:
        given.write(json.dumps(spec).encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(enclosure)],
            stdin=given,
            stdout=said,
            stderr=cried,
            env={},
            cwd="/",
            start_new_session=True,
        )
        began = time.monotonic()
        try:
            why = _watch(process, steps, allowance)
        finally:
            _end(process)
            if allowance is not None:
                allowance.spent += time.monotonic() - began
        return _endings(said, cried, steps, why)


def _watch(process: subprocess.Popen[bytes], steps: Sequence[Step], allowance: Allowance | None = None) -> str:
    """Wait for the end; return why it has to be ended from outside, if it has.

    Raises:
        OutOfTimeError, or what `Allowance.asked` raises: it has to be ended, and so has all beyond it.
    """
    began = time.monotonic()
    last = began + sum(step.limits.wall_seconds for step in steps) + _GRACE
    most = max(step.limits.memory_mb for step in steps) * 1024**2
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], WATCH)[0]:
            if time.monotonic() > last:
                return "time"
            if memory_below(process.pid) > most:
                return "memory"
            if allowance is not None:
                allowance.check(time.monotonic() - began)
    finally:
        os.close(ended)
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the enclosure and all in it; it does so itself when asked, and leaves no process unreaped."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def memory_below(pid: int) -> int:
    """Return the bytes of memory, files aside, of all processes below one: those it started, and what they started.

    Args:
        pid: of a process of this user.
    """
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                fields = Path("/proc", name, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            parents.setdefault(int(fields[1]), []).append(int(name))
    below, waiting = 0, [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        waiting += children
        below += sum(_resident(child) for child in children)
    return below


def _resident(pid: int) -> int:
    try:
        lines = Path("/proc", str(pid), "status").read_text("utf-8", "replace").splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def _endings(said: IO[bytes], cried: IO[bytes], steps: Sequence[Step], why: str) -> list[Ending]:
    said.seek(0)
    endings = []
    for line in said.read().decode().splitlines():
        one: dict[str, Any] = json.loads(line)
        if "refused" in one:
            raise SandboxError(_refused(one["refused"]))
        late = "time" if one["late"] else ""
        endings.append(Ending(one["returncode"], one["stdout"], one["stderr"], late, one["cpu_seconds"]))
    if why:
        return [*endings, Ending(-signal.SIGKILL, why=why)]
    if not endings or (len(endings) < len(steps) and endings[-1].well):
        cried.seek(0)
        lines = cried.read().decode("utf-8", "replace").splitlines() or ["it said nothing"]
        raise SandboxError(_refused(f"the enclosure ended: {lines[-1][:200]}"))
    return endings


def _refused(by: str) -> str:
    return (
        f"programs that a model wrote cannot be shut in on this system ({by}), so they are not run; allow user "
        f"namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0; in a container "
        f"as docs/sandbox.md says), take another machine, or leave out what runs them"
    )


@cache
def refusal() -> str:
    """Return why code that a model wrote cannot be run here, in one sentence; empty where it can.

    The first call sends a program that tries to get out; the answer holds for this process.
    """
    if not sys.platform.startswith("linux"):
        return (
            f"programs that a model wrote are run on Linux alone, where they can be shut in (this is {sys.platform}), "
            f"so they are not run; take a machine with Linux, or leave out what runs them"
        )
    try:
        leaks = probe()
    except SandboxError as error:
        return str(error)
    except OSError as error:
        return _refused(str(error))
    return _refused(f"open to them: {', '.join(leaks)}") if leaks else ""


def probe() -> list[str]:
    """Return what a program in the sandbox reaches that it must not: of the network, files, processes, rights, limits.

    Raises:
        SandboxError: the system refused to shut it in, or it could not be run there.
    """
    world = python_world()
    limits = Limits(cpu_seconds=20, processes=8, memory_mb=128, file_mb=1)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        secret = Path(folder, "secret")
        secret.write_text("secret", "utf-8")
        plain = limits.plain()
        outside = {
            "port": server.getsockname()[1],
            "paths": [str(secret), str(secret.resolve()), "/proc/1", "/sys", "/home", "/etc/passwd", *_own_places()],
            "root": ["box", "tmp", "dev", *{place.split("/")[1] for place in (*world.binds, *world.links)}],
            "variables": ["PATH", "HOME", "TMPDIR", "LANG", "PYTHONHASHSEED", "LC_CTYPE"],
            "bound": [place for place in world.binds if os.path.isdir(place)],
            **{key: plain[key] for key in ("memory", "file_size", "processes")},
        }
        canary = Path(__file__).with_name("canary.py").read_text("utf-8")
        files = {"canary.py": canary, "canary.json": json.dumps(outside)}
        ending = _run(files, [Step((python(), "-I", "-S", "-B", "canary.py"), limits)], world)[-1]
    try:
        leaks = json.loads(ending.stdout)
    except ValueError as error:
        said = (ending.stderr.strip().splitlines() or [f"exit code {ending.returncode}"])[-1]
        raise SandboxError(_refused(f"the canary did not come back: {said[:200]}")) from error
    return [str(leak) for leak in leaks]


def _own_places() -> Iterator[str]:
    """Yield folders of the user that nothing bound lies in."""
    bound = python_world().binds
    for place in {str(Path.home()), str(Path.cwd())}:
        if place != "/" and not any(target.startswith(f"{place}/") or target == place for target in bound):
            yield place


def python() -> str:
    """Return the interpreter of this process, without its virtual environment."""
    return os.path.realpath(sys.executable)


@cache
def python_world() -> World:
    """Return what Python needs: itself, its standard library, and the libraries of the system."""
    base = os.path.realpath(sys.base_prefix)
    own = [python()] if base == "/usr" else [python(), f"{base}/lib"]
    system = system_world()
    return replace(system, binds={**system.binds, **{place: place for place in own}})


@cache
def system_world() -> World:
    """Return the libraries of the system, and its links to them."""
    binds, links = {}, {}
    for place in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"):
        if os.path.islink(place) and os.path.isdir(place):
            links[place] = os.readlink(place)
        elif os.path.exists(place):
            binds[place] = place
    return World(binds, links)
