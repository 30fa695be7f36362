"""Seeded choices among rows: the two halves of the general prompts, and mixtures of several sources of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from lingraft.core.errors import DataError
from lingraft.core.hashing import HashSet, stable_fraction, text_hash
from lingraft.data.readers import PairSource
from lingraft.data.records import Pair, Prompt, reversed_id
from lingraft.language.measures import normalise
from lingraft.store.record_files import ids_of

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
        halves[question_hash(prompt, str(seed)) & 1].append(prompt)
    return halves


def question_hash(prompt: Prompt, *beside: str) -> int:
    """Return 64 bits of what the user says in a prompt, normalised; `beside`: further texts that go in before it."""
    return text_hash(*beside, *(normalise(message.content) for message in prompt.messages if message.role == "user"))


def split_sources(sources: Sequence[Sequence[Prompt]], seed: int) -> PromptHalves:
    """Divide the prompts of several sources, and give each half in an order whose beginnings hold all sources in
    proportion, so that who takes the first N takes of each; prompts of one source stay in their order.

    Args:
        sources: the prompts of each.
        seed: of the division, see `split_prompts`.
    """
    each = [split_prompts(prompts, seed) for prompts in sources]
    return PromptHalves(*(_interleaved([halves[number] for halves in each]) for number in (0, 1)))


def _interleaved(parts: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """Return the prompts of all parts, each part spread evenly."""
    places = ((2 * i + 1, len(part), n, i) for n, part in enumerate(parts) for i in range(len(part)))
    return [parts[n][i] for _, _, n, i in sorted(places, key=lambda place: (place[0] / place[1], place[2]))]


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


def sample_mixture(sources: Sequence[tuple[PairSource, Sequence[Pair]]], mode: Mode, seed: int) -> Iterator[Pair]:
    """Yield the pairs of several sources, in one or both directions as declared, shuffled.

    An id that an earlier source has too becomes `name/id`. Pairs are read by number when their turn comes; what is held
    is their order and 64-bit hashes of their ids, about 40 bytes for each example. Two of n hashes meet with a chance
    of n^2 / 2^65, 3e-8 for a million; then an id is qualified, or refused, without need.

    Args:
        sources: each source with its checked pairs.
        mode: "proportional" (all) or "balanced" (see `mixture_counts`).
        seed: of the choice and the order.

    Raises:
        DataError: two sources of one name share ids, or "balanced" with a source that has no pairs. Raised at once.
    """
    generator = np.random.default_rng(seed)
    counts = mixture_counts([(source, len(pairs)) for source, pairs in sources], mode)
    qualified = _qualified(sources)
    picks = [
        generator.permutation(len(pairs) * (1 + source.both_directions))[:count]
        for (source, pairs), count in zip(sources, counts, strict=True)
    ]
    begins = np.cumsum([0, *map(len, picks)])
    order = generator.permutation(int(begins[-1]))

    def drawn() -> Iterator[Pair]:
        for position in order:
            number = int(np.searchsorted(begins, position, side="right")) - 1
            source, pairs = sources[number]
            pick = int(picks[number][position - begins[number]])
            index, back = divmod(pick, 2) if source.both_directions else (pick, 0)
            pair = pairs[index]
            if qualified[number][index]:
                pair = replace(pair, id=f"{source.name}/{pair.id}")
            yield pair.reversed() if back else pair

    return drawn()


def by_direction(pairs: Iterable[Pair], weights: Mapping[str, float], seed: int) -> Iterator[Pair]:
    """Yield the pairs that their direction's weight leaves: of each direction a share, drawn by the pairs' ids.

    Symmetric data, in which every pair is trained both ways, over-trains the directions into the language that most
    pairs share (NiuTrans LMT, arXiv 2511.07003). What a
    weight draws is among what any larger one draws.

    Args:
        pairs: in any order.
        weights: "de-en" -> share from 0 to 1; 1 where a direction is not named.
        seed: of the draw.
    """
    for pair in pairs:
        weight = weights.get(f"{pair.source_lang}-{pair.target_lang}", 1.0)
        if weight == 1 or stable_fraction("direction", seed, pair.id) < weight:
            yield pair


def _qualified(sources: Sequence[tuple[PairSource, Sequence[Pair]]]) -> list[np.ndarray]:
    """Return, for each source, (pairs,) bool: whose id, or that of whose reverse, is taken by an earlier source."""
    taken = HashSet()
    found: list[np.ndarray] = []
    for source, pairs in sources:
        renamed = np.zeros(len(pairs), dtype=bool)
        own = HashSet() if found else taken  # the first source has no earlier one to be told from
        for index, id_ in enumerate(ids_of(pairs)):
            names = _directions(source, id_)
            if own is not taken and any(text_hash(name) in taken for name in names):
                renamed[index] = True
                names = _directions(source, f"{source.name}/{id_}")
            for name in names:
                value = text_hash(name)
                if (own is not taken and value in taken) or not own.add(value):
                    raise DataError(f"{source.path}: the id {name!r} occurs twice; give the source another `name:`")
        if own is not taken:
            taken.update(own)
        found.append(renamed)
    return found


def _directions(source: PairSource, id_: str) -> tuple[str, ...]:
    return (id_, reversed_id(id_)) if source.both_directions else (id_,)


def draw(ids: Iterable[str], limit: int, seed: int) -> list[str]:
    """Return at most `limit` of the ids, drawn by seed without replacement, sorted.

    The draw depends on the set of ids, not on their order.
    """
    known = sorted(set(ids))
    if len(known) <= limit:
        return known
    chosen = np.random.default_rng(seed).choice(len(known), limit, replace=False)
    return [known[index] for index in sorted(chosen.tolist())]
