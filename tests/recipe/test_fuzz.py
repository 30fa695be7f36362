"""Hostile recipes, overrides and grafts: loaded, or refused in one sentence, at once."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile import ENTRY_POINTS, POISON
from lingraft.core.errors import DataError, UsageError
from lingraft.data import files
from lingraft.recipe.load import MAX_BYTES, load_recipe
from lingraft.recipe.strict_yaml import plain_values

CUTS = st.tuples(st.floats(0, 1), st.floats(0, 0.05), st.sampled_from(POISON) | st.binary(max_size=8))


@pytest.mark.parametrize("name", ["recipe", "override", "graft"])
@settings(
    max_examples=40,
    deadline=timedelta(seconds=30),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cuts=st.lists(CUTS, max_size=3), seed=st.integers(0, 9), noise=st.binary(max_size=40))
def test_mutated_and_arbitrary_bytes(tmp_path: Path, name: str, cuts: list[Any], seed: int, noise: bytes) -> None:
    entry, seeds = ENTRY_POINTS[name]
    data = seeds[seed % len(seeds)]
    for where, much, piece in cuts:
        start = int(where * len(data))
        data = data[:start] + piece + data[start + int(much * len(data)) :]
    entry(data, tmp_path)
    entry(noise, tmp_path)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "j: [" + ", ".join(["*i"] * 5000) + "]",
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "[" * MAX_BYTES,
        "- " * (MAX_BYTES // 2),
        "{a: " * (MAX_BYTES // 4),
        "? " * (MAX_BYTES // 2),
        "a: " + "1:" * (MAX_BYTES // 2 - 4) + "1",
        "a: 0x" + "f" * (MAX_BYTES - 5),
        "a: " + "9" * (MAX_BYTES - 3),
        "a: 1e" + "9" * 1000,
        "'" * (MAX_BYTES - 1),
        '"' + "\\u2028" * (MAX_BYTES // 6 - 1),
        "\n".join(f"k{i}: &x{i} v" for i in range(MAX_BYTES // 20)),
        "a: |\n" + " x\n" * (MAX_BYTES // 3 - 2),
    ],
    ids=lambda text: text[:8].strip(),
)
def test_the_worst_recipes_of_the_largest_size_are_told_in_seconds(tmp_path: Path, text: str) -> None:
    assert len(text.encode()) <= MAX_BYTES
    (tmp_path / "r.yaml").write_text(text, "utf-8")
    start = time.process_time()
    with pytest.raises(UsageError) as caught:
        load_recipe(str(tmp_path / "r.yaml"))
    assert time.process_time() - start < 60
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_values_that_python_refuses_to_write_out_are_refused_in_overrides() -> None:
    for value in ("0x" + "f" * 5000, "9" * 5000, ".nan", "-.inf", "1:" * 3000 + "1"):
        with pytest.raises(UsageError):
            load_recipe("demo", [f"seed={value}"])
    assert plain_values("0b11", "x") == 3


def test_a_recipe_may_come_through_a_pipe_but_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIPE_PATIENCE", 0.2)
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(DataError, match="a pipe into which nobody writes"):
        load_recipe(str(tmp_path / "recipe.yaml"))
    with pytest.raises(UsageError, match="larger than 250 kB"):
        load_recipe("/dev/zero")
