"""Results of a long job in parts, so that a killed job continues."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lingraft.core.hashing import file_hash
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder
from lingraft.store.files import encoded, read_lines, write_atomic


def _part_name(index: int, key: str, digest: str) -> str:
    return f"part-{index:06d}-{key[:12]}-{digest[:12]}.jsonl"


class PartStore:
    """Results of a long job in parts, each atomic and checked by its hash, so that a killed job continues.

    A part's file name carries the hash of what was asked (`key`) and of what it holds; damaged and foreign parts are
    removed and asked again, so that afterwards the folder holds the parts asked for and no others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, keys: Sequence[str]) -> set[int]:
        """Return the indices of the whole parts; everything else in the folder is removed.

        Args:
            keys: per part, the hash of what is asked in it.
        """
        known: set[int] = set()
        with explain_os_errors(self.folder):
            make_folder(self.folder)
            for path in [*sorted(self.folder.glob("part-*.jsonl")), *self.folder.glob(".part-*.tmp")]:
                index = (
                    int(path.name[5:11]) if re.fullmatch(r"part-\d{6}-\w{12}-\w{12}\.jsonl", path.name) else len(keys)
                )
                whole = index < len(keys) and path.name == _part_name(index, keys[index], file_hash(path))
                if whole and index not in known:
                    known.add(index)
                else:  # also what another process wrote for the same, if its numbers are rounded differently
                    path.unlink()
        return known

    def put(self, index: int, key: str, lines: Iterable[str]) -> None:
        """Write a part: it is there as a whole or not at all.

        Args:
            index: place of the part among all, from 0.
            key: hash of what the part depends on, by which `known` finds it.
            lines: of the part, without line ends.
        """
        data = encoded("".join(line + "\n" for line in lines))
        write_atomic(self.folder / _part_name(index, key, hashlib.sha256(data).hexdigest()), data)

    def lines(self) -> Iterator[str]:
        """Yield the lines of all parts in order."""
        for path in sorted(self.folder.glob("part-*.jsonl")):
            yield from read_lines(path)
