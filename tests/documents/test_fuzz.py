"""Damaged files of every format: refused in one sentence, or read, and written again byte by byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hostile import ENTRY_POINTS, POISON

NAMES = [name for name in ENTRY_POINTS if name.startswith("document-")]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    entry, seeds = ENTRY_POINTS[name]
    draw = random.Random(name)
    for _ in range(25):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(data) + 1)
            if draw.random() < 0.5:
                data[place:place] = draw.choice(POISON)[:400]
            else:
                del data[place : place + draw.randint(1, 30)]
        entry(bytes(data), tmp_path)
