"""The program that encloses another one: started as a script by `lingraft.core.sandbox`, standard library alone.

It reads what to run as JSON from standard input, goes into namespaces of its own (user, mount, process, network, IPC,
host name, cgroup), builds a root of memory with the wanted folders bound read-only, gives up every right, and runs the
steps one after another as the first process of that world: when it ends, all in it ends. What comes out are lines of
JSON, one a step, or one line that says what the system refused. Nothing is run where any part of it fails.

Three processes: the outermost stays outside and writes the maps of users, the second makes the namespaces, the third
is process 1 in them. Each dies with the one that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import selectors
import signal
import sys
import time
from typing import Any, NoReturn

INSIDE = 65534
"""User and group of enclosed programs: nobody. Where the caller is root, nobody's outside as well: what belongs to
root, such as the settings of the kernel under /proc, would be open to it else, whatever its capabilities."""
BOX = "/box"
"""The one folder in which enclosed programs can write."""
DEVICES = ("null", "zero", "urandom", "random", "full")

# From linux/sched.h, linux/mount.h and linux/prctl.h.
_NEW = {"NS": 0x20000, "CGROUP": 0x2000000, "UTS": 0x4000000, "IPC": 0x8000000, "USER": 0x10000000, "PID": 0x20000000}
_NEW["NET"] = 0x40000000
_RDONLY, _NOSUID, _NODEV, _BIND, _REC, _PRIVATE, _DETACH, _REMOUNT = 1, 2, 4, 4096, 16384, 1 << 18, 2, 32
_PDEATHSIG, _DUMPABLE, _CAPBSET_DROP, _CHILD_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 24, 36, 38
_MOUNT_SETATTR, _RECURSIVE = 442, 0x8000  # the number is the same on every architecture
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The system does not let a program be enclosed; the message says at what."""


def checked(what: str, result: int) -> None:
    """Turn the failure of a system call into `Refused`."""
    if result != 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())}")


def written(path: str, text: str) -> None:
    """Write to a file of the kernel."""
    try:
        with open(path, "w", encoding="ascii") as stream:
            stream.write(text)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def die_with_parent(parent: int) -> None:
    """Be killed when the process that started this one ends, also where it has ended by now.

    Args:
        parent: its process id as this process sees it: 0 beyond the border of a process namespace.
    """
    checked("prctl", libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount, as mount(2)."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    checked(f"mount {target}", libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("ns", ctypes.c_uint64),
    )


def bind(source: str, target: str, folder: bool, device: bool = False) -> None:
    """Bind what lies at a path to another, read-only with all that is mounted below it."""
    if folder:
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    mount(source, target, None, _BIND | _REC)
    flags = _NOSUID if device else _RDONLY | _NOSUID | _NODEV  # of mount_setattr: the same values
    wanted = _Attributes(flags, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    result = libc.syscall(_MOUNT_SETATTR, -100, target.encode(), _RECURSIVE, ctypes.byref(wanted), size)
    checked(f"mount_setattr {target}", result)


def new_root(spec: dict[str, Any]) -> None:
    """Make the root: links and read-only binds as wanted, a few devices, one folder to write in; the rest is gone."""
    mount(None, "/", None, _REC | _PRIVATE)
    place = spec["place"]
    mount("lingraft", place, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    os.mkdir(f"{place}/old")
    os.mkdir(f"{place}/new")
    os.chdir(place)
    checked("pivot_root", libc.pivot_root(b".", b"old"))
    os.chdir("/")
    mount("lingraft", "/new", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for target, source in spec["binds"].items():
        bind(f"/old{source}", f"/new{target}", os.path.isdir(f"/old{source}"))
    for name, target in spec["links"].items():
        os.makedirs(os.path.dirname(f"/new{name}"), exist_ok=True)
        os.symlink(target, f"/new{name}")
    for name in DEVICES:
        bind(f"/old/dev/{name}", f"/new/dev/{name}", folder=False, device=True)
    os.mkdir(f"/new{BOX}")
    os.symlink(BOX, "/new/tmp")
    mount("lingraft", f"/new{BOX}", "tmpfs", _NOSUID | _NODEV, f"mode=0700,size={spec['disk']},nr_inodes=4096")
    os.chown(f"/new{BOX}", INSIDE, INSIDE)
    os.chdir("/new")
    checked("pivot_root", libc.pivot_root(b".", b"."))
    checked("umount", libc.umount2(b".", _DETACH))
    os.chdir("/")
    mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def give_up_rights() -> None:
    """Become nobody, without a capability, a way to a new one, or the keys of the session."""
    for capability in range(64):
        if libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        libc.syscall(number, 1, None)  # a new session keyring; without one in the kernel there is nothing to leave
    os.setresgid(INSIDE, INSIDE, INSIDE)
    os.setresuid(INSIDE, INSIDE, INSIDE)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    checked("capset", libc.capset(header, none))
    checked("no_new_privs", libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    # Another program of the same user could look into this process else.
    checked("dumpable", libc.prctl(_DUMPABLE, 0, 0, 0, 0))


def limit(limits: dict[str, int]) -> None:
    """Set the limits of this process, beyond which neither it nor its children get."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_STACK: 64 * 1024**2,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if limits["address_space"]:
        wanted[resource.RLIMIT_AS] = limits["address_space"]
    for kind, most in wanted.items():
        hard = most + 1 if kind == resource.RLIMIT_CPU else most  # first a signal, a second later the end
        before = resource.getrlimit(kind)[1]
        if before != resource.RLIM_INFINITY:
            most, hard = min(most, before), min(hard, before)
        resource.setrlimit(kind, (most, hard))


def start(step: dict[str, Any], env: dict[str, str], out: int, err: int) -> NoReturn:
    """Become the program of a step."""
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, 4096)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        limit(step["limits"])
        os.execve(step["argv"][0], step["argv"], env)
    except OSError as error:
        os.write(2, f"{step['argv'][0]}: {error.strerror}\n".encode())
    os._exit(127)


def run(step: dict[str, Any], env: dict[str, str], most: int) -> dict[str, Any]:
    """Run one step, with all that it starts, to its end; say how it ended and what it wrote."""
    pipes = [os.pipe(), os.pipe()]
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        start(step, env, pipes[0][1], pipes[1][1])
    watched = selectors.DefaultSelector()
    kept: dict[int, bytearray] = {}
    for reading, writing in pipes:
        os.close(writing)
        watched.register(reading, selectors.EVENT_READ)
        kept[reading] = bytearray()
    ended = os.pidfd_open(child)
    watched.register(ended, selectors.EVENT_READ)
    late = cut = False
    while watched.get_map():
        left = began + step["limits"]["wall_seconds"] - time.monotonic()
        ready = watched.select(max(left, 0))
        if not ready and ended in watched.get_map():
            late = True
        if (late or any(key.fd == ended for key, _ in ready)) and ended in watched.get_map():
            watched.unregister(ended)
            end_all_others()
        for key, _ in ready:
            if key.fd != ended:
                data = os.read(key.fd, 65536)
                room = most - len(kept[key.fd])
                cut = cut or len(data) > room
                kept[key.fd] += data[: max(room, 0)]
                if not data:
                    watched.unregister(key.fd)
    _, status, used = os.wait4(child, 0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    for reading in (ended, *kept):
        os.close(reading)
    out, err = (bytes(data).decode("utf-8", "replace") for data in kept.values())
    code, cpu = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    late = late or code == -signal.SIGXCPU or (code < 0 and cpu >= step["limits"]["cpu_seconds"])
    return {"returncode": code, "stdout": out, "stderr": err, "late": late, "cut": cut, "cpu_seconds": cpu}


def end_all_others() -> None:
    """Kill every process of this world but this one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def first_process(spec: dict[str, Any]) -> None:
    """Be process 1: build the root, give up all rights, and run the steps until one fails."""
    die_with_parent(0)
    written("/proc/self/oom_score_adj", "1000")
    new_root(spec)
    checked("sethostname", libc.sethostname(b"sandbox", 7))
    give_up_rights()
    die_with_parent(0)  # a change of user takes it back
    os.chdir(BOX)
    os.umask(0o077)
    for name, text in spec["files"].items():
        with open(os.path.join(BOX, name), "w", encoding="utf-8", errors="surrogatepass", newline="") as stream:
            stream.write(text)
    for step in spec["steps"]:
        done = run(step, spec["env"], spec["output"])
        print(json.dumps(done), flush=True)
        if done["returncode"] != 0 or done["late"]:
            break


def second_process(spec: dict[str, Any], parent: int, ready: int, go: int) -> None:
    """Make the namespaces, have the users mapped, and wait for process 1 of them."""
    flags = 0
    for value in _NEW.values():
        flags |= value
    checked("unshare", libc.unshare(flags))
    die_with_parent(parent)
    os.write(ready, b"r")
    if os.read(go, 1) != b"g":
        return
    # No namespaces within: with a user namespace of its own a program would hold capabilities again.
    written("/proc/sys/user/max_user_namespaces", "0")
    first = os.fork()
    if first == 0:
        guarded(lambda: first_process(spec))
    os.waitpid(first, 0)


def map_users(child: int) -> None:
    """Map nobody within to the caller outside, or to nobody where the caller is root."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        users = groups = f"0 0 1\n{INSIDE} {INSIDE} 1\n"
    else:
        users, groups = f"{INSIDE} {uid} 1\n", f"{INSIDE} {gid} 1\n"
        written(f"/proc/{child}/setgroups", "deny")
    written(f"/proc/{child}/uid_map", users)
    written(f"/proc/{child}/gid_map", groups)


def guarded(work: Any) -> NoReturn:
    """Do the work of a process and end it; what is refused is one line of the output."""
    try:
        work()
        sys.stdout.flush()
    except (Refused, OSError) as error:
        os.write(1, json.dumps({"refused": str(error)}).encode() + b"\n")
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Be the outermost process."""
    spec = json.load(sys.stdin.buffer)
    die_with_parent(spec["parent"])
    if os.geteuid() == 0:
        os.setgroups([])
    ready, go = os.pipe(), os.pipe()
    outermost = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(ready[0])
        os.close(go[1])
        guarded(lambda: second_process(spec, outermost, ready[1], go[0]))
    # Ended from outside, it ends all within and leaves nobody unreaped: process 1 becomes its child then.
    checked("prctl", libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    os.close(ready[1])
    os.close(go[0])
    if os.read(ready[0], 1) == b"r":
        map_users(child)
        os.write(go[1], b"g")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    guarded(main)
