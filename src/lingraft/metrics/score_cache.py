"""Scores of learned metrics on the disk, by what they are scores of: a second run costs nothing.

One SQLite file in the cache folder. It only saves time: where it is damaged or cannot be written, scores are computed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_BATCH = 500


def score_key(*parts: str) -> bytes:
    """Return the key of a score: a hash of the model's identity and of the texts."""
    joined = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)  # 0xFF occurs in no UTF-8 text
    return hashlib.blake2b(joined, digest_size=20).digest()


def _check(key: bytes, score: float) -> bytes:
    return hashlib.blake2b(key + struct.pack("<d", score), digest_size=6).digest()


class ScoreCache:
    """Scores by key in one file.

    Args:
        path: of the file; made when the first score is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are known; an entry that is damaged is not."""
        found: dict[bytes, float] = {}
        if not self._path.exists():
            return found
        with suppress(sqlite3.DatabaseError, OSError), self._open() as database:
            for start in range(0, len(keys), _BATCH):
                asked = keys[start : start + _BATCH]
                marks = ",".join("?" * len(asked))
                rows: Iterator[tuple[bytes, float, bytes]] = database.execute(
                    f"SELECT key, score, checked FROM scores WHERE key IN ({marks})", asked
                )
                found |= {key: score for key, score, checked in rows if checked == _check(key, score)}
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores. A file that is no database, or a damaged one, is replaced."""
        rows = [(key, score, _check(key, score)) for key, score in scores.items()]
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._insert(rows)
        except sqlite3.OperationalError:  # locked for long, read-only, full
            return
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.DatabaseError):
                self._path.unlink()
                self._insert(rows)

    def _insert(self, rows: Iterable[tuple[bytes, float, bytes]]) -> None:
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL, checked BLOB) WITHOUT ROWID"
            )
            database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            yield database
