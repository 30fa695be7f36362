"""The pairs that a run has for decoders to show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lingraft.data.records import Pair
from lingraft.pipeline.decoders import Exemplars


def test_they_are_those_of_training_and_of_development_and_none_of_a_test_set() -> None:
    one, other, third = (Pair(name, name, name, "de", "en") for name in ("train", "dev", "test"))
    data: Any = SimpleNamespace(train=[one], dev=[other], tests=[SimpleNamespace(pairs=[third])])
    found = Exemplars(data)
    assert list(found) == list(found) == [one, other]
