"""Errors: what workers raise arrives as it was raised."""

from __future__ import annotations

import pickle

import pytest

from lingraft.core.errors import EngineError, ExampleError, LingraftError, TooLongError, UsageError


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a sentence"),
        EngineError("a sentence"),
        TooLongError("r1", "9 prompt tokens leave no room for 3 more"),
        TooLongError("r1", "no room", "the server refused it"),
        ExampleError("train:7", "has no text"),
    ],
)
def test_an_error_arrives_from_another_process_as_it_was_raised(error: LingraftError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert arrived.exit_code == error.exit_code
