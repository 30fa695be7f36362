"""Hashes of files and contents; stable 64-bit hashes of texts, and a set of those.

The set takes 12 to 24 bytes an entry instead of Python's 60 to 100.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError


def text_hash(*parts: str) -> int:
    """Return a 64-bit hash of the parts (BLAKE2b), the same in every process and on every machine.

    The chance that any two of n different texts collide is about n^2 / 2^65: 3e-6 for ten million.
    """
    # 0xFF occurs in no UTF-8 text, so ("ab", "c") and ("a", "bc") differ.
    joined = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


class HashSet:
    """A set of 64-bit hashes in one flat array (open addressing, at most two thirds full)."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, value: int) -> bool:
        return self._slots[self._slot(value or 1)] != 0

    def add(self, value: int) -> bool:
        """Add `value` (0 <= value < 2^64) and return whether it was new."""
        value = value or 1  # 0 marks a free slot
        slot = self._slot(value)
        if self._slots[slot]:
            return False
        self._slots[slot] = value
        self._count += 1
        if 3 * self._count > 2 * len(self._slots):
            self._grow()
        return True

    def update(self, other: HashSet) -> None:
        """Add all values of another set."""
        for value in other._slots:
            if value:
                self.add(value)

    def _slot(self, value: int) -> int:
        """Return where `value` is, or the free slot where it belongs."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = value & mask
        while slots[slot] and slots[slot] != value:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        for value in old:
            if value:
                self._slots[self._slot(value)] = value


class Ids:
    """Gives each row its own id, or `name:line`; one that occurred before gets `@line`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = HashSet()

    def unique(self, own: object, line: int) -> str:
        """Return the id of the row at a line; `own`: what it says itself, if anything."""
        given = isinstance(own, str | int) and not isinstance(own, bool) and own != ""
        row_id = str(own) if given else f"{self._name}:{line}"
        while not self._seen.add(text_hash(row_id)):
            row_id = f"{row_id}@{line}"
        return row_id


def content_hash(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-ready value; key order does not matter."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def list_hash(values: Iterable[Any]) -> tuple[str, int]:
    """Return the `content_hash` of the list of the values, which is never held, and their number."""
    digest, count = hashlib.sha256(b"["), 0
    for value in values:
        digest.update((b"," if count else b"") + _canonical(value))
        count += 1
    digest.update(b"]")
    return digest.hexdigest(), count


def stable_fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone: for splits and shares that survive reordering."""
    return int(content_hash([str(part) for part in parts])[:13], 16) / 16**13


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 (hex) of files in a folder, by their names there."""
    return {name: file_hash(folder / name) for name in names}


def seed_of(value: Any, digits: int = 15) -> int:
    """Return a seed that depends on a JSON-ready value alone, of so many hexadecimal digits."""
    return int(content_hash(value)[:digits], 16)


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes.

    Raises:
        StoreError: it is a pipe or a device, which might never end.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise StoreError(f"{path} is a pipe, a folder or a device where a file is needed; remove it")
        return hashlib.file_digest(handle, "sha256").hexdigest()
