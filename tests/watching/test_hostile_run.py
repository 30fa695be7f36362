"""Hostile files in a watched run: shown, or named as damaged, whatever they hold."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile import ENTRY_POINTS, POISON

CUTS = st.tuples(st.floats(0, 1), st.floats(0, 0.05), st.sampled_from(POISON) | st.binary(max_size=8))


@settings(
    max_examples=20,
    deadline=timedelta(seconds=60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cuts=st.lists(CUTS, max_size=3), seed=st.integers(0, 9))
def test_mutated_files_are_shown_or_named(tmp_path: Path, cuts: list[Any], seed: int) -> None:
    entry, seeds = ENTRY_POINTS["watch"]
    data = seeds[seed % len(seeds)]
    for where, much, piece in cuts:
        start = int(where * len(data))
        data = data[:start] + piece + data[start + int(much * len(data)) :]
    entry(data, tmp_path)
