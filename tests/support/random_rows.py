"""Random rows, also with random teachers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lingraft.rendering.rows import Rendered, RenderedTeacher


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


def with_teacher(row: Rendered, *, k: int = 3, vocab: int = 128, seed: int = 0) -> Rendered:
    """Return the row with loss kl on its rationale and a teacher for every token of it but the last."""
    rng = np.random.default_rng(seed)
    positions = np.flatnonzero(np.asarray(row.span_of) == 1)[:-1]
    if not len(positions):
        return row
    ids = np.stack([rng.permutation(vocab)[:k] for _ in positions])
    probabilities = -np.sort(-rng.dirichlet(np.ones(k + 1), len(positions)), axis=1)[:, :k]
    teacher = RenderedTeacher(positions, ids, np.log(probabilities).astype(np.float32))
    return replace(row, losses=("ce", "kl"), teacher=teacher)
