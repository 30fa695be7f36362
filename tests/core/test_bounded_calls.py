"""Functions in other processes: what they return and raise, and how they are ended."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lingraft.core.bounded_calls import BoundedCalls, CallGivenUp, OutOfBoundsError
from lingraft.core.errors import DataError
from lingraft.documents.opened import segments_of
from processes import HANGING

ENDLESS = ("(a+)+$", "a" * 60 + "b")
"""For `re.match`, which looks at no signal that Python would handle."""


@pytest.fixture(scope="module")
def calls() -> Iterator[BoundedCalls]:
    made = BoundedCalls()
    yield made
    made.close()


def never() -> bool:
    return False


def test_what_a_function_returns_and_its_process_is_kept(calls: BoundedCalls) -> None:
    assert calls.call(HANGING, never, math.comb, 20, 10) == 184_756
    first = calls.call(HANGING, never, os.getpid)
    assert first == calls.call(HANGING, never, os.getpid) != os.getpid()


def test_errors_are_those_that_were_raised(calls: BoundedCalls) -> None:
    with pytest.raises(DataError, match=r"the file: is not JSON \(line 1"):
        calls.call(HANGING, never, segments_of, "json", b"{", "de", "en", 9)
    with pytest.raises(RuntimeError, match="ValueError: n must be a non-negative integer"):
        calls.call(HANGING, never, math.comb, -1, 2)


BOUNDS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "time": (re.match, ENDLESS, r"^took more than 1 seconds of processor time$"),
    "memory": (bytes, (1 << 40,), r"^needs too much memory$"),
    "end": (os._exit, (7,), r"^needs too much memory, or was ended \(exit code 7\)$"),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_call_beyond_bounds_is_ended_and_the_next_one_answered(calls: BoundedCalls, bound: str) -> None:
    function, args, words = BOUNDS[bound]
    with pytest.raises(OutOfBoundsError, match=words):
        calls.call(1, never, function, *args)
    assert calls.call(HANGING, never, math.comb, 4, 2) == 6


def test_a_call_that_nobody_waits_for_is_ended(calls: BoundedCalls) -> None:
    began = calls.call(HANGING, never, os.getpid)
    with pytest.raises(CallGivenUp):
        calls.call(HANGING, lambda: True, time.sleep, 10 * HANGING)
    with pytest.raises(ProcessLookupError):
        os.kill(began, 0)


def test_a_process_that_was_ended_while_idle_is_replaced(calls: BoundedCalls) -> None:
    idle = calls.call(HANGING, never, os.getpid)
    os.kill(idle, 9)
    os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
    assert calls.call(HANGING, never, os.getpid) != idle
