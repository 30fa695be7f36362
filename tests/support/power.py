"""Power cuts: what a disk may hold when the current fails at any moment of a piece of work (as dm-log-writes does it).

`recorded` notes, before and after each call that orders writes (fsync, rename, unlink, mkdir, rmdir), what is in a
folder and what of it had been synced: contents by `fsync` of the file, names by `fsync` of their folder. Files are read
from the disk then, so that it does not matter who wrote them; what a library in Rust or C++ syncs or renames by itself
is not seen, and taken for not synced. `restore` builds
what may be left of such a moment:

| state | names | contents |
|---|---|---|
| LOST | those that were synced | as synced, else empty |
| NAMED | the newest | as synced, else cut in half |
| KEPT | the newest, and removed ones that were synced | as synced, else zeros |
| REMOVED | synced ones but those removed since | as synced, else empty |

A rename is there or not: no state lacks the old name and the new one. All file systems in use promise that.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOST, NAMED, KEPT, REMOVED = "lost", "named", "kept", "removed"
STATES = (LOST, NAMED, KEPT, REMOVED)
_CALLS = ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir")


@dataclass(frozen=True)
class Thing:
    """A file or folder by the identity that it keeps when it is renamed. `names`: of a folder; `data`: of a file."""

    number: int
    names: tuple[tuple[str, int], ...] | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class Moment:
    """What was on its way to the disk. `call`: what came next. `now`, `synced`: things by number; 0 is the folder."""

    call: str
    now: dict[int, Thing]
    synced: dict[int, Thing]


@dataclass
class Recorder:
    """Watches a folder; see `recorded`."""

    root: Path
    moments: list[Moment] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)
    _next: int = 1
    _synced: dict[int, Thing] = field(default_factory=dict)
    _contents: dict[tuple[int, ...], bytes] = field(default_factory=dict)
    _busy: bool = False

    def look(self) -> dict[int, Thing]:
        """Return all things in the folder, and give new ones a number."""
        found: dict[int, Thing] = {}
        numbers: dict[int, int] = {}

        def number(inode: int) -> int:
            if inode not in numbers:
                if inode in self._numbers:
                    numbers[inode] = self._numbers[inode]
                else:
                    numbers[inode], self._next = self._next, self._next + 1
            return numbers[inode]

        def walk(path: Path, own: int) -> None:
            names = []
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                info = entry.stat(follow_symlinks=False)
                one = number(info.st_ino)
                names.append((entry.name, one))
                if stat.S_ISDIR(info.st_mode):
                    walk(Path(entry.path), one)
                elif stat.S_ISREG(info.st_mode):
                    key = (one, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                    if key not in self._contents:
                        self._contents[key] = Path(entry.path).read_bytes()
                    found[one] = Thing(one, data=self._contents[key])
            found[own] = Thing(own, names=tuple(names))

        walk(self.root, 0)
        self._numbers = numbers
        return found

    def before(self, call: str) -> None:
        """Note the moment before a call."""
        self.moments.append(Moment(call, self.look(), dict(self._synced)))

    def after(self, inode: int | None) -> None:
        """Note what a call has done. `inode`: of what was synced."""
        now = self.look()
        own = 0 if inode == self.root.stat().st_ino else self._numbers.get(inode or -1)
        if own is not None:
            self._synced[own] = now[own]


@contextmanager
def recorded(root: Path) -> Iterator[list[Moment]]:
    """Record all moments of what is done in a folder meanwhile; the last is when it is done."""
    recorder = Recorder(root)
    recorder._synced = dict(recorder.look())  # what was there before lies on the disk
    originals = {name: getattr(os, name) for name in _CALLS}

    def watched(name: str) -> Callable[..., Any]:
        original = originals[name]

        @functools.wraps(original)
        def call(*args: Any, **options: Any) -> Any:
            if recorder._busy:
                return original(*args, **options)
            recorder._busy = True
            try:
                recorder.before(f"{name} {_target(root, args, options)}")
                inode = os.fstat(args[0]).st_ino if name == "fsync" else None
                result = original(*args, **options)
                recorder.after(inode)
            finally:
                recorder._busy = False
            return result

        return call

    for name in _CALLS:
        setattr(os, name, watched(name))
    try:
        yield recorder.moments
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
    recorder.before("end")


def _target(root: Path, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    path = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
    if options.get("dir_fd") is not None:
        path = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), path)
    return os.path.relpath(path, root)


def left_of(moment: Moment, state: str) -> dict[str, bytes | None]:
    """Return what a disk may hold when the current fails at a moment: content of files, None of folders, by path."""
    rest: dict[str, Callable[[bytes], bytes]] = {
        NAMED: lambda data: data[: len(data) // 2],
        KEPT: lambda data: bytes(len(data)),
    }
    unsynced = rest.get(state, lambda data: b"")
    found: dict[str, bytes | None] = {}

    def walk(number: int, path: str) -> None:
        now, synced = moment.now.get(number), moment.synced.get(number)
        known = now or synced
        if known is None or known.names is None:  # of what is named and not known, nothing has come to the disk
            content = known.data if known and known.data is not None else b""
            found[path] = synced.data if synced and synced.data is not None else unsynced(content)
            return
        found[path] = None
        new, old = (dict(one.names or ()) if one else {} for one in (now, synced))
        if state == LOST:
            names = old
        elif state == NAMED:
            names = new
        elif state == KEPT:
            names = {**old, **new}
        else:
            names = {name: inner for name, inner in old.items() if name in new or inner in moment.now}
        for name, inner in names.items():
            walk(inner, f"{path}/{name}" if path else name)

    walk(0, "")
    return found


def restore(moment: Moment, state: str, target: Path) -> None:
    """Write what a disk may hold when the current fails at a moment into a new folder."""
    for path, content in left_of(moment, state).items():  # a folder comes before what is in it
        if content is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(content)
