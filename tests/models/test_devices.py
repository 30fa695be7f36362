"""Devices and threads that are computed with."""

from __future__ import annotations

import threading

import pytest
import torch

from lingraft.models.devices import one_core_left


def test_a_core_is_left_unless_the_user_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), list[int]()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        for threads, expected in ((3, 2), (1, 1)):
            torch.set_num_threads(threads)
            with one_core_left():
                other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))  # as the model's is
                other.start()
                other.join()
            assert seen.pop() == expected
            assert torch.get_num_threads() == threads
        torch.set_num_threads(3)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        with one_core_left():
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
