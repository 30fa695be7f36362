"""The package's exceptions. Each message is one sentence for the user: what, where, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LingraftError(Exception):
    """The work failed. `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(LingraftError):
    """Wrong usage or a bad recipe: nothing was started."""

    exit_code = 2


class DataError(LingraftError):
    """The user's data cannot be used as it is."""


class ModelError(LingraftError):
    """A model, tokenizer or graft cannot be used as it is."""


class EngineError(LingraftError):
    """A text generation back end failed."""


class StoreError(LingraftError):
    """An artefact cannot be read or written."""


class LockedError(LingraftError):
    """Another process is working in the same folder."""


class ExampleError(LingraftError):
    """A training example cannot be rendered; carries the example's id and the reason."""

    def __init__(self, example_id: str, reason: str) -> None:
        super().__init__(f"example {example_id!r}: {reason}")
        self.example_id = example_id
        self.reason = reason


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the nearest known name, or the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
