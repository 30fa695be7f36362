"""Compressed files: gzip, bzip2, xz and zstd, told from the name or the first bytes, and bounded against bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from lingraft.core.errors import DataError

MAX_INFLATION = 200
INFLATION_FROM = 4 * 1024**2
"""A file that holds more than so many times its size is refused once so many bytes have come out of it.

Text shrinks 3 to 20 times.
"""

MAX_MEMORY = 512 * 1024**2
"""Bytes that a decompressor may ask for; xz at its highest level needs 65 MiB."""

CHUNK = 256 * 1024

SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_MAGIC = re.compile(rb"(?P<gzip>\x1f\x8b)|(?P<bzip2>BZh[1-9]1AY&SY)|(?P<xz>\xfd7zXZ\x00)|(?P<zstd>\x28\xb5\x2f\xfd)")
MAGIC_BYTES = 10


class BrokenFile(Exception):
    """Internal: what is in the file is not what its name says, or is cut off."""


def suffix(name: str) -> str:
    """Return the suffix of a name that says how the file is compressed, as it is written; "" if none does."""
    return next((name[-len(end) :] for end in SUFFIXES if name.lower().endswith(end)), "")


def compression(name: str, start: bytes) -> str:
    """Return how a file is compressed, by its name or else by its first bytes; "" if it is not."""
    by_name = SUFFIXES.get(suffix(name).lower(), "")
    by_start = _MAGIC.match(start)
    return by_name or (str(by_start.lastgroup) if by_start else "")


class _Counted(io.RawIOBase):
    """What a decompressor reads, counted. It knows no decompressor: libraries in C++ would never let go of a circle."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self.taken = packed, 0

    def read(self, size: int = -1) -> bytes:
        """Return bytes as they are packed."""
        data = self._packed.read(size)
        self.taken += len(data)
        return data

    def readable(self) -> bool:
        """Return True."""
        return True


class Unpacked(io.RawIOBase):
    """What a compressed file holds, unless it is a bomb.

    Reading raises BrokenFile for what is not whole, DataError for a bomb.
    """

    def __init__(self, packed: BinaryIO, kind: str, shown: str) -> None:
        self._packed, self._kind, self._shown = _Counted(packed), kind, shown
        self._given = 0
        self._read1 = _OPENERS[kind](self._packed)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Unpack into a buffer; return how many bytes, 0 at the end."""
        try:
            data = self._read1(len(buffer))
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise BrokenFile(f"is not a whole {self._kind} file ({error}); copy or compress it again") from error
        self._given += len(data)
        if self._given > max(INFLATION_FROM, MAX_INFLATION * self._packed.taken):
            raise DataError(
                f"{self._shown}: holds more than {MAX_INFLATION} times its size, as no text does; "
                f"unpack it and give the unpacked file if it is right"
            )
        buffer[: len(data)] = data
        return len(data)


def _gzip(stream: Any) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=stream, mode="rb").read1


def _streams(open_one: Callable[[], Any]) -> Callable[[Any], Callable[[int], bytes]]:
    """Return an opener for the decompressors of the standard library, which read one stream of several in a file."""

    def opener(stream: Any) -> Callable[[int], bytes]:
        current, waiting, begun = open_one(), b"", False

        def read1(size: int) -> bytes:
            nonlocal current, waiting, begun
            while True:
                if current.eof:
                    waiting = (current.unused_data or stream.read(CHUNK)).lstrip(b"\0")  # xz pads with zeros
                    if not waiting:
                        return b""
                    current, begun = open_one(), False
                elif current.needs_input and not waiting:
                    waiting = stream.read(CHUNK)
                    if not waiting:
                        raise EOFError("it ends before its end-of-stream marker" if begun else "it is empty")
                begun = True
                data: bytes = current.decompress(waiting, size)
                waiting = b""
                if data:
                    return data

        return read1

    return opener


def _zstd(stream: Any) -> Callable[[int], bytes]:
    import pyarrow

    opened = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
    read: Callable[[int], bytes] = opened.read
    return read


_OPENERS: dict[str, Callable[[Any], Callable[[int], bytes]]] = {
    "gzip": _gzip,
    "bzip2": _streams(bz2.BZ2Decompressor),
    "xz": _streams(lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MAX_MEMORY)),
    "zstd": _zstd,
}
