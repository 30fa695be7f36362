"""Processes that begin with everything imported: forks of one that has imported the package and its libraries.

A test that kills a job, or ends a server by a signal, wants a process of its own, not the ten seconds of processor time
in which that would import what it computes with. What a command imports, and when, is for `recipe/test_imports.py`.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

IMPORTED = ("lingraft.cli.main", "lingraft.pipeline.run", "lingraft.serving.server", "builders")
LONGEST_REQUEST = 1 << 20


class Child:
    """A process as `subprocess.Popen` gives it: what tests need of that."""

    stdin: None = None

    def __init__(self, pid: int, ended: int, stdout: IO[Any] | None, stderr: IO[Any]) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._ended = ended

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wait()

    def poll(self) -> int | None:
        """Return how the process ended; None while it runs."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return its code, the negative number of the signal that killed it."""
        if (found := self._status(timeout)) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return found

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Wait for the end and return what is left of output and errors."""
        errors: list[Any] = []
        reader = threading.Thread(target=lambda: errors.append(self.stderr.read()), daemon=True)
        reader.start()
        output = self.stdout.read() if self.stdout else None
        self.wait(timeout)
        reader.join(timeout)
        return output, errors[0]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def _status(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = int(os.read(self._ended, 16))
            os.close(self._ended)
        return self.returncode


def born(
    program: str = "",
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: IO[Any] | None = None,
    text: bool = True,
) -> Child:
    """Start a process that has everything imported, and return at once.

    Args:
        program: in Python; "" is the command line of the package.
        arguments: what follows the program's name in `sys.argv`.
        cwd: folder to work in; this process's when None.
        env: environment, read from now on: not what a library read when it was imported. This process's when None.
        stdout: where output goes; a pipe when None, as for errors.
        text: whether the pipes are read as text.
    """
    asked = {"program": textwrap.dedent(program), "arguments": [*map(str, arguments)]}
    asked |= {"cwd": str(cwd or Path.cwd()), "env": dict(os.environ if env is None else env)}
    reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
    ended, out, errors = reads
    sent = [writes[0], writes[1] if stdout is None else stdout.fileno(), writes[2]]
    nursery = _nursery()
    nursery.sendmsg([json.dumps(asked).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))])
    for one in writes:
        os.close(one)
    pid = int(nursery.recv(16))
    mode: Any = {"mode": "r", "encoding": "utf-8"} if text else {"mode": "rb"}
    if stdout is not None:
        os.close(out)
    return Child(pid, ended, None if stdout is not None else open(out, **mode), open(errors, **mode))


def ran(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program in such a process to its end; the arguments are those of `born`."""
    child = born(program, *arguments, **options)
    output, errors = child.communicate()
    return subprocess.CompletedProcess(arguments, child.wait(), output, errors)


@cache
def _nursery() -> socket.socket:
    """Start the process that the others are forks of; it ends when this one does."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    for one in (ours, its):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
    null: Any = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()], env=environment, stdin=null, stdout=null
    )
    its.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # before: what is registered last is called first
    return ours


def _raise(control: socket.socket) -> dict[str, Any]:
    """Fork for each request; return that request in the fork, and end where nobody can ask any more."""
    heard, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    ends: dict[int, int] = {}
    while True:
        ready = select.select([control, heard], [], [])[0]
        if heard in ready:
            os.read(heard, 4096)
            while ends:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                os.write(end := ends.pop(pid), str(os.waitstatus_to_exitcode(status)).encode())
                os.close(end)
        if control not in ready:
            continue
        data, passed, _, _ = control.recvmsg(LONGEST_REQUEST, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        if not data:
            raise SystemExit
        given = array.array("i")
        given.frombytes(passed[0][2])
        end, out, errors = given
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(out, 1)
            os.dup2(errors, 2)
            for one in (control.detach(), heard, woken, *given, *ends.values()):
                os.close(one)
            sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
            return dict(json.loads(data))
        ends[pid] = end
        os.close(out)
        os.close(errors)
        control.send(str(pid).encode())


def _main() -> None:
    import gc
    import importlib
    import runpy
    import types

    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    asked = _raise(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.argv = ["-c" if asked["program"] else "lingraft", *asked["arguments"]]
    if not asked["program"]:
        runpy.run_module("lingraft", run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, "")
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(asked["program"], "<program>", "exec"), main.__dict__)


if __name__ == "__main__":
    _main()
