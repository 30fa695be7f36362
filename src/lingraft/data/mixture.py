"""Seeded choices among rows: the two halves of the general prompts, and mixtures of several sources of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from lingraft.data.hashing import text_hash
from lingraft.data.overlap import normalise
from lingraft.data.readers import PairSource
from lingraft.data.records import Pair, Prompt
from lingraft.errors import DataError

Mode = Literal["proportional", "balanced"]


class PromptHalves(NamedTuple):
    """Disjoint prompts: for training (replay), and for measuring what is kept (retention)."""

    replay: list[Prompt]
    retention: list[Prompt]


def split_prompts(prompts: Iterable[Prompt], seed: int) -> PromptHalves:
    """Divide prompts by a hash of the user's text: about half each, whatever their order and the other prompts.

    Prompts that differ only in case, punctuation, id or system message go to the same half, so that no question is
    both trained on and measured. With very few prompts a half may be empty.
    """
    halves = PromptHalves([], [])
    for prompt in prompts:
        turns = (normalise(message.content) for message in prompt.messages if message.role == "user")
        halves[text_hash(str(seed), *turns) & 1].append(prompt)
    return halves


def mixture_counts(sources: Sequence[tuple[PairSource, int]], mode: Mode) -> list[int]:
    """Return how many examples each source gives; a pair of a source with `both_directions` is two examples.

    "proportional" takes everything. "balanced" takes numbers in proportion to the sources' `weight` (equal by
    default), as large as possible without using any row twice: the source that is smallest for its weight bounds all.

    Args:
        sources: each source with its number of pairs.
        mode: "proportional" or "balanced".

    Raises:
        DataError: "balanced" with a source that has no pairs.
    """
    sizes = [count * (2 if source.both_directions else 1) for source, count in sources]
    if mode == "proportional" or not sizes:
        return sizes
    for (source, _), size in zip(sources, sizes, strict=True):
        if size == 0:
            raise DataError(f"{source.path}: has no usable pair, so that a balanced mixture with it would be empty")
    weights = [source.weight for source, _ in sources]
    scale = min(size / weight for size, weight in zip(sizes, weights, strict=True))
    # The small term keeps 3 x (1/3) from being rounded down to 0.
    return [min(size, max(1, int(scale * weight + 1e-9))) for size, weight in zip(sizes, weights, strict=True)]


def sample_mixture(sources: Sequence[tuple[PairSource, Sequence[Pair]]], mode: Mode, seed: int) -> list[Pair]:
    """Return the pairs of several sources, in one or both directions as declared, shuffled.

    An id that an earlier source has too becomes `name/id`.

    Args:
        sources: each source with its checked pairs.
        mode: "proportional" (all) or "balanced" (see `mixture_counts`).
        seed: of the choice and the order.

    Raises:
        DataError: two sources of one name share ids, or "balanced" with a source that has no pairs.
    """
    generator = np.random.default_rng(seed)
    counts = mixture_counts([(source, len(pairs)) for source, pairs in sources], mode)
    ids: set[str] = set()
    chosen: list[Pair] = []
    for (source, pairs), count in zip(sources, counts, strict=True):
        directed = _directed(source, pairs, ids)
        picks = generator.permutation(len(directed))[:count]
        chosen.extend(directed[pick] for pick in picks)
    return [chosen[position] for position in generator.permutation(len(chosen))]


def _directed(source: PairSource, pairs: Sequence[Pair], ids: set[str]) -> list[Pair]:
    """Return the pairs, with their reverses if wanted, under ids that are not in `ids`; adds theirs to it."""
    out: list[Pair] = []
    own: set[str] = set()
    for pair in pairs:
        directions = _directions(source, pair)
        if any(directed.id in ids for directed in directions):
            directions = _directions(source, replace(pair, id=f"{source.name}/{pair.id}"))
        for directed in directions:
            if directed.id in ids or directed.id in own:
                raise DataError(f"{source.path}: the id {directed.id!r} occurs twice; give the source another `name:`")
            own.add(directed.id)
            out.append(directed)
    ids |= own
    return out


def _directions(source: PairSource, pair: Pair) -> tuple[Pair, ...]:
    return (pair, pair.reversed()) if source.both_directions else (pair,)
