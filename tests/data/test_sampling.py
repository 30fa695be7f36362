"""Splitting prompts and mixing sources."""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.core.errors import DataError
from lingraft.data.readers import PairSource
from lingraft.data.records import Message, Pair, Prompt
from lingraft.data.sampling import by_direction, mixture_counts, sample_mixture, split_prompts, split_sources


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p:{n}", (Message("user", f"Question {n}?"),)) for n in range(count)]


def source(name: str = "a", **options: Any) -> PairSource:
    return PairSource(path=f"{name}.tsv", **{"source": "de", "target": "en", **options})


def pairs(count: int, name: str = "a") -> list[Pair]:
    return [Pair(f"{name}:{n}", f"Satz {n}", f"sentence {n}", "de", "en") for n in range(count)]


def test_halves_are_disjoint_complete_and_about_equal() -> None:
    made = prompts(1000)
    halves = split_prompts(made, seed=1)
    assert sorted(prompt.id for half in halves for prompt in half) == sorted(prompt.id for prompt in made)
    # A binomial count of 1000 with p = 1/2 has a standard deviation of 15.8.
    assert abs(len(halves.replay) - 500) < 4 * 15.8


def test_halves_do_not_depend_on_order_or_company() -> None:
    made = prompts(200)
    halves = split_prompts(made, seed=1)
    shuffled = random.Random(1).sample(made, len(made))
    assert {prompt.id for prompt in split_prompts(shuffled, seed=1).replay} == {prompt.id for prompt in halves.replay}
    few = split_prompts(made[:50], seed=1)
    assert few.replay == [prompt for prompt in halves.replay if prompt in made[:50]]


def test_the_seed_changes_the_halves() -> None:
    one, two = (split_prompts(prompts(200), seed).replay for seed in (1, 2))
    assert {prompt.id for prompt in one} != {prompt.id for prompt in two}


def test_the_same_question_is_never_in_both_halves() -> None:
    made = []
    for n in range(100):
        system = (Message("system", "Be brief."),) if n % 2 else ()
        text = f"question {n // 2}" if n % 2 else f"Question {n // 2}?"
        made.append(Prompt(str(n), (*system, Message("user", text))))
    halves = split_prompts(made, seed=3)
    assert {int(p.id) // 2 for p in halves.replay}.isdisjoint(int(p.id) // 2 for p in halves.retention)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 5))
def test_each_source_has_its_halves_and_every_beginning_holds_all_in_proportion(sizes: list[int], seed: int) -> None:
    made = prompts(sum(sizes))
    sources = [made[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
    each = [split_prompts(own, seed) for own in sources]
    for number, half in enumerate(split_sources(sources, seed)):
        for own in (halves[number] for halves in each):
            assert [one for one in half if one in own] == own  # in the order of its file
            for first in range(len(half) + 1):
                there = sum(one in own for one in half[:first])
                assert abs(there - first * len(own) / len(half or [0])) <= (len(sizes) + 1) / 2


def test_one_source_is_divided_as_it_was() -> None:
    assert split_sources([prompts(50)], 3) == split_prompts(prompts(50), 3)


SIZES = st.lists(st.tuples(st.integers(1, 500), st.floats(0.01, 100), st.booleans()), min_size=1, max_size=5)


@given(SIZES)
def test_balanced_counts_follow_the_weights_as_far_as_rows_last(sizes: list[tuple[int, float, bool]]) -> None:
    sources = [(source(weight=weight, both_directions=both), size) for size, weight, both in sizes]
    counts = mixture_counts(sources, "balanced")
    available = [size * (1 + both) for size, _, both in sizes]
    assert all(1 <= count <= most for count, most in zip(counts, available, strict=True))
    # One source at least is used up, and every other has its share of it to within one example.
    full = [n for n, count in enumerate(counts) if count == available[n]]
    assert full
    scale = min(most / weight for most, (_, weight, _) in zip(available, sizes, strict=True))
    for count, (_, weight, _) in zip(counts, sizes, strict=True):
        assert count == 1 or abs(count - scale * weight) <= 1


def test_counts_by_hand() -> None:
    plain = [(source("a"), 100), (source("b"), 40), (source("c", both_directions=True), 30)]
    assert mixture_counts(plain, "balanced") == [40, 40, 40]
    assert mixture_counts(plain, "proportional") == [100, 40, 60]
    assert mixture_counts([(source("a", weight=3), 100), (source("b"), 40)], "balanced") == [100, 33]
    assert mixture_counts([], "balanced") == []
    with pytest.raises(DataError, match="no usable pair"):
        mixture_counts([(source("a"), 3), (source("b"), 0)], "balanced")


def test_both_directions() -> None:
    made = list(
        sample_mixture([(source(both_directions=True), pairs(3)), (source("b"), pairs(2, "b"))], "proportional", 1)
    )
    assert {pair.id for pair in made} == {"a:0", "a:1", "a:2", "a:0:rev", "a:1:rev", "a:2:rev", "b:0", "b:1"}
    assert {pair.source_lang for pair in made if pair.id.endswith(":rev")} == {"en"}
    assert all(pair.source.startswith("sentence") == pair.id.endswith(":rev") for pair in made)


@settings(deadline=None)
@given(st.integers(0, 9), st.sampled_from(["proportional", "balanced"]))
def test_a_mixture_is_drawn_without_repetition_and_repeats_with_its_seed(
    seed: int, mode: Literal["proportional", "balanced"]
) -> None:
    sources = [(source("a"), pairs(30)), (source("b"), pairs(10, "b"))]
    made = list(sample_mixture(sources, mode, seed))
    assert len({pair.id for pair in made}) == len(made) == (40 if mode == "proportional" else 20)
    assert made == list(sample_mixture(sources, mode, seed))
    assert made != list(sample_mixture(sources, mode, seed + 100))


def test_balanced_rows_are_chosen_from_the_whole_source() -> None:
    sources = [(source("a"), pairs(1000)), (source("b"), pairs(100, "b"))]
    chosen = [int(pair.id[2:]) for pair in sample_mixture(sources, "balanced", 5) if pair.id.startswith("a")]
    # The mean of 100 of 0..999 drawn without repetition has a standard error of 27.4.
    assert abs(sum(chosen) / len(chosen) - 499.5) < 4 * 27.4


def test_ids_that_recur_are_qualified_by_the_source() -> None:
    made = list(sample_mixture([(source("a"), pairs(2, "x")), (source("b"), pairs(2, "x"))], "proportional", 1))
    assert {pair.id for pair in made} == {"x:0", "x:1", "b/x:0", "b/x:1"}
    with pytest.raises(DataError, match="another `name:`"):
        sample_mixture([(source("a"), pairs(2)) for _ in range(3)], "proportional", 1)
    with pytest.raises(DataError, match="occurs twice"):
        sample_mixture([(source("a"), pairs(1) * 2)], "proportional", 1)


def test_a_direction_gives_the_share_of_its_weight_drawn_by_ids() -> None:
    both = [pair for one in pairs(1000) for pair in (one, one.reversed())]
    forth = f"{both[0].source_lang}-{both[0].target_lang}"
    back = f"{both[1].source_lang}-{both[1].target_lang}"
    half = list(by_direction(both, {back: 0.5, forth: 1.0}, 3))
    assert [pair for pair in half if not pair.id.endswith(":rev")] == both[::2]
    assert 460 < len(half) - 1000 < 540
    assert sorted(pair.id for pair in by_direction(both[::-1], {back: 0.5}, 3)) == sorted(pair.id for pair in half)
    assert [pair.id for pair in half] != [pair.id for pair in by_direction(both, {back: 0.5}, 4)]
    fewer = {pair.id for pair in by_direction(both, {back: 0.2, forth: 0.0}, 3)}
    assert fewer < {pair.id for pair in half}  # what a weight draws, a larger one draws as well
    assert not any(id_ in fewer for id_ in (pair.id for pair in both[::2]))
    assert list(by_direction(both, {}, 3)) == both
