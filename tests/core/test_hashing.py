"""Hashes against coreutils' `b2sum`, the set against Python's."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.core.hashing import HashSet, file_hashes, seed_of, text_hash


def test_hash_is_the_64_bit_blake2b_of_the_joined_parts() -> None:
    # printf abc | b2sum -l 64; printf 'de\xffGr\xc3\xbc\xc3\x9fe' | b2sum -l 64
    assert text_hash("abc").to_bytes(8, "little").hex() == "d8bb14d833d59559"
    assert text_hash("de", "Grüße").to_bytes(8, "little").hex() == "edaaee0ec706d563"


def test_parts_do_not_run_together_and_surrogates_are_hashed() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("\ud800",), ("\udc00",)]
    assert len({text_hash(*part) for part in parts}) == len(parts)


def test_a_seed_is_the_beginning_of_a_hash() -> None:
    # printf '[1,"a"]' | sha256sum
    whole = hashlib.sha256(b'[1,"a"]').hexdigest()
    assert seed_of([1, "a"]) == int(whole[:15], 16) < 2**60
    assert seed_of([1, "a"], digits=7) == int(whole[:7], 16) < 2**28


def test_files_are_hashed_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hashes(tmp_path, ["a"]) == {"a": hashlib.sha256(b"abc").hexdigest()}


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.integers(0, 9).map(lambda n: n * 2**40)))
def test_the_set_is_a_set(values: list[int]) -> None:
    ours, theirs = HashSet(), set[int]()
    for value in values:
        assert (value in ours) == (value in theirs or (value == 1 and 0 in theirs) or (value == 0 and 1 in theirs))
        assert ours.add(value) == (value not in theirs and not (value < 2 and theirs & {0, 1}))
        theirs.add(value)
    assert len(ours) == len(theirs) - (theirs >= {0, 1})


def test_growth_keeps_everything_in_under_32_bytes_an_entry() -> None:
    values = [int(value) for value in np.random.default_rng(1).integers(0, 2**63, 50_000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ours = HashSet()
    for value in values:
        ours.add(value)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(ours) == len(set(values))
    assert all(value in ours for value in values)
    assert not any(value + 2**63 in ours for value in values)
    assert held < 32 * len(values)
