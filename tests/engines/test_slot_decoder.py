"""Slots against `model.generate` over the families of models; attention, sampling and cache against plain code."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from lingraft.core.errors import NotFiniteError
from lingraft.data.records import Request, Sampling
from lingraft.engines.library_decoder import LibraryDecoder
from lingraft.engines.slot_cache import (
    GROUPED,
    SlotCache,
    attending_in_groups,
    grouped_attention,
    layers_for_slots,
    shared_prefix,
)
from lingraft.engines.slot_decoder import SlotDecoder, SlotRow, alike, choose, top_logprobs
from lingraft.rendering.renderer import PromptIds
from small_models import IN_SLOTS, NOT_IN_SLOTS, VOCABULARY, model_of

ENDS = (5, 6, 7, 8, 9)


def rows_of(prefix: int) -> list[SlotRow]:
    """Fourteen rows of 1 to 31 tokens behind a common prefix, which write 3, 20 or 33."""
    draw = random.Random(1)
    common = [draw.randrange(3, VOCABULARY) for _ in range(prefix)]
    rows = []
    for index in range(14):
        prompt = common + [draw.randrange(3, VOCABULARY) for _ in range(1 + 5 * (index % 7))]
        sampling = Sampling(max_new_tokens=draw.choice([3, 20, 33]))
        rows.append(SlotRow(Request(f"r{index}", (), sampling), PromptIds(tuple(prompt), "")))
    return rows


def ended(row: SlotRow) -> bool:
    return row.last in ENDS or len(row.tokens) >= row.request.sampling.max_new_tokens


def plain(model: PreTrainedModel, row: SlotRow) -> list[int]:
    ids = torch.tensor([row.prompt.ids])
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=row.request.sampling.max_new_tokens,
        eos_token_id=list(ENDS),
        pad_token_id=0,
    )
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)  # type: ignore[operator]
    return [int(token) for token in output[0, ids.shape[1] :]]


@pytest.mark.parametrize("family", IN_SLOTS)
def test_slots_write_what_the_library_writes_one_by_one(family: str) -> None:
    model = model_of(IN_SLOTS[family]())
    layers, before = layers_for_slots(model, 100), model.config._attn_implementation
    assert layers == model.config.num_hidden_layers
    rows = rows_of(prefix=12)
    # Few tokens: slots are filled anew and their number grows as the rows become shorter.
    decoder = SlotDecoder(model, layers, max_tokens=400, max_rows=8, ended=ended)
    assert {row.request.id for row in decoder.run(rows)} == {row.request.id for row in rows}
    for row in rows:
        assert row.tokens == plain(model, row), row.request.id
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("kind", NOT_IN_SLOTS)
def test_what_slots_cannot_hold_is_left_to_the_library(kind: str) -> None:
    model = model_of(NOT_IN_SLOTS[kind]())
    assert layers_for_slots(model, 100) == 0
    rows = rows_of(prefix=0)
    decoder = LibraryDecoder(model, pad_id=0, end_ids=ENDS, max_tokens=400, max_rows=8, ended=ended)
    assert {row.request.id for row in decoder.run(rows)} == {row.request.id for row in rows}
    for row in rows:
        assert row.tokens == plain(model, row), row.request.id


def test_the_library_records_log_probabilities_and_ends_rows_by_rule() -> None:
    model = model_of(NOT_IN_SLOTS["narrow window"]())
    sampling = Sampling(max_new_tokens=20)
    prompts = [row.prompt for row in rows_of(prefix=0)]
    rows = [SlotRow(Request(f"r{i}", (), sampling, top_logprobs=3), prompt) for i, prompt in enumerate(prompts)]
    decoder = LibraryDecoder(
        model, pad_id=0, end_ids=ENDS, max_tokens=10_000, max_rows=8, ended=lambda row: len(row.tokens) == 7
    )
    for row in decoder.run(rows):
        assert len(row.tokens) == 7
        with torch.inference_mode():
            logits = model(torch.tensor([[*row.prompt.ids, *row.tokens]])).logits[0, row.length - 8 : -1]
        expected = torch.log_softmax(logits.double(), dim=-1).topk(3, dim=-1)
        for step, values, ids in zip(row.logprobs, expected.values, expected.indices, strict=False):
            assert [id_ for id_, _ in step] == ids.tolist()
            assert [value for _, value in step] == pytest.approx(values.tolist(), abs=1e-3)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("heads", "shared"), [(6, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("new", [1, 5])
def test_grouped_attention_is_attention(heads: int, shared: int, new: int, masked: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    rows, tokens, width = 3, 9, 8
    query = torch.randn(rows, heads, new, width, generator=draw)
    key, value = (torch.randn(rows, shared, tokens, width, generator=draw) for _ in range(2))
    seen = torch.rand(rows, 1, new, tokens, generator=draw) < 0.6
    seen[..., 0] = True
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = heads // shared, False
    found, _ = grouped_attention(module, query, key, value, seen if masked else None, scaling=0.3, dropout=0.0)
    repeated = (
        key.double().repeat_interleave(heads // shared, 1),
        value.double().repeat_interleave(heads // shared, 1),
    )
    scores = query.double() @ repeated[0].transpose(2, 3) * 0.3
    if masked:
        scores = scores.masked_fill(~seen, float("-inf"))
    expected = (scores.softmax(-1) @ repeated[1]).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_grouped_attention_is_used_for_the_time_of_the_block_only() -> None:
    model = model_of(IN_SLOTS["llama"]())
    with attending_in_groups(model):
        assert model.config._attn_implementation == GROUPED
    assert model.config._attn_implementation == "sdpa"


def test_an_abandoned_run_leaves_the_model_as_it_was() -> None:
    model = model_of(IN_SLOTS["llama"]())
    running = SlotDecoder(model, 3, max_tokens=400, max_rows=8, ended=ended).run(rows_of(prefix=12))
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 1e-6), (1.0, 0.0)])
def test_tokens_are_drawn_in_proportion_to_their_probability(temperature: float, top_p: float) -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 0.4, float("-inf"), 1.9]).expand(4000, -1)
    shares = torch.softmax(logits[0].double() / temperature, dim=-1)
    kept: list[int] = []
    for token in shares.argsort(descending=True).tolist():
        if not kept or float(shares[kept].sum()) < top_p:
            kept.append(token)
    expected = torch.zeros_like(shares)
    expected[kept] = shares[kept] / shares[kept].sum()
    draws = [(i + 0.5) / 4000 for i in range(4000)]  # evenly spread: the shares come out exactly
    found = torch.bincount(choose(logits, temperature, top_p, draws), minlength=6) / 4000
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0.0)


def test_the_ends_of_the_unit_interval_draw_tokens_that_are_possible() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, 1.0, float("-inf")]] * 2)
    for top_p in (1.0, 0.9):
        assert set(choose(logits, 1.0, top_p, [0.0, 1.0 - 2.0**-53]).tolist()) <= {1, 2}
    assert choose(logits, 0.0, 1.0, []).tolist() == [2, 2]


def test_best_log_probabilities_are_in_order() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3]]))
    assert top_logprobs(logits, 2) == [((1, pytest.approx(-0.5108, abs=1e-4)), (2, pytest.approx(-1.204, abs=1e-4)))]


@pytest.mark.parametrize(
    ("sequences", "length"),
    [
        ([[1, 2, 3], [1, 2, 4, 5]], 2),
        ([[1, 2, 3], [1, 2, 3]], 2),  # a token is left to feed
        ([[1, 2], [1, 2, 3, 4], [1, 2, 9]], 1),
        ([[7], [7, 8]], 0),
        ([[2, 1], [1, 1], [2, 2]], 0),
    ],
)
def test_the_shared_prefix_leaves_each_a_token(sequences: list[list[int]], length: int) -> None:
    assert shared_prefix(sequences) == length


def test_a_cache_keeps_rows_and_prefix_when_they_move_and_when_it_grows() -> None:
    cache = SlotCache(1, slots=2, width=6)
    draw = torch.Generator().manual_seed(0)
    prefix, own = (torch.randn(rows, 1, length, 4, generator=draw) for rows, length in ((1, 2), (2, 3)))
    cache.place(slice(0, 1), 0, 0)
    cache.update(prefix, -prefix, 0)
    cache.share(2)
    cache.place(slice(0, 2), 2, 2)
    keys, values = cache.update(own, -own, 0)
    torch.testing.assert_close(keys, torch.cat([prefix.expand(2, -1, -1, -1), own], dim=2))
    torch.testing.assert_close(values, -keys)
    whole = keys.clone()
    cache.resize(4, 8, used=2)
    cache.move(1, 3, 5)
    token = torch.randn(4, 1, 1, 4, generator=draw)
    cache.place(slice(0, 4), torch.tensor([5, 3, 2, 5]), 5)
    keys, values = cache.update(token, -token, 0)
    assert keys.shape == (4, 1, 6, 4)
    torch.testing.assert_close(values, -keys)
    torch.testing.assert_close(keys[0], torch.cat([whole[0], token[0]], dim=1))
    torch.testing.assert_close(keys[1, :, :4], torch.cat([whole[1, :, :3], token[1]], dim=1))
    torch.testing.assert_close(keys[2, :, :3], torch.cat([prefix[0], token[2]], dim=1))
    torch.testing.assert_close(keys[3], torch.cat([whole[1], token[3]], dim=1))


def test_prompts_are_computed_together_with_those_of_like_length() -> None:
    rows = [
        SlotRow(Request(f"r{index}", (), Sampling(max_new_tokens=3)), PromptIds((3,) * length, ""))
        for index, length in enumerate([10, 200, 95, 100, 9, 199, 10, 101, 180, 8])
    ]
    split = [[len(row.prompt.ids) for row in batch] for batch in alike(rows, 100)]
    assert split == [[200, 199, 180], [101, 100, 95], [10, 10, 9, 8]]
    assert [len(batch) for batch in alike(rows, 10_000)] == [10]
    assert list(alike([], 100)) == []


@pytest.mark.parametrize("temperature", [1e-45, 6e-38, 1e-30, 1e-5, 9e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_lowest_temperatures_choose_the_best(temperature: float, top_p: float) -> None:
    logits = torch.tensor([[80.0, 95.5, 95.0, -90.0], [3.0, -1.0, float("-inf"), 2.9]])
    assert choose(logits, temperature, top_p, [0.3, 0.999]).tolist() == [1, 0]
    assert choose(logits.bfloat16(), temperature, top_p, [0.3, 0.5]).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_an_error_and_no_token(temperature: float, bad: float) -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2] = bad
    with pytest.raises(NotFiniteError, match="no token can be chosen"):
        choose(logits, temperature, 1.0, [0.5] * 3)
    with pytest.raises(NotFiniteError):
        choose(torch.full((1, 5), float("-inf")), temperature, 1.0, [0.5])
