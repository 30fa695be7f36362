"""Random rows and a short way to train a tiny model on them."""

from __future__ import annotations

import numpy as np

from lingraft.chat import Rendered


def random_rows(
    count: int, *, vocab: int = 128, seed: int = 0, shortest: int = 6, longest: int = 24, weight: float = 1.0
) -> list[Rendered]:
    """Return rows of a prompt, a translation and a rationale (of the given weight) with random tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        length = int(rng.integers(shortest, longest + 1))
        prompt = int(rng.integers(1, length - 3))
        split = int(rng.integers(prompt + 1, length))
        span_of = [-1] * prompt + [0] * (split - prompt) + [1] * (length - split)
        rows.append(
            Rendered(
                id=f"row-{number}",
                input_ids=tuple(int(token) for token in rng.integers(1, vocab, length)),
                weights=tuple([0.0, 1.0, weight][span + 1] for span in span_of),
                span_of=tuple(span_of),
                losses=("ce", "ce"),
                roles=("translation", "rationale"),
            )
        )
    return rows
