"""KL from base, against two separate models, one example at a time, and against sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lingraft.data.records import Generation, Request
from lingraft.engines.divergence import end_written, kl_from_base
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.loading import LoadedModel
from models_support import request, tiny_loaded, with_adapter

TEXTS = ["Guten Tag!", "Das Wetter ist heute schön. " * 3, "x", "你好, wer bist du?", "12 Minuten"]
REQUESTS = [
    request(f"r{i}", text, temperature=1.0, max_new_tokens=4 + 7 * i, seed=2, prefill="Hello" if i % 2 else "")
    for i, text in enumerate(TEXTS)
]


def grafted(*, identity: bool = False) -> LoadedModel:
    loaded = tiny_loaded(scale=3.0)
    return LoadedModel(loaded.files, with_adapter(loaded.model, identity=identity), loaded.renderer)  # type: ignore[arg-type]


def written() -> dict[str, Generation]:
    answers = {answer.id: answer for answer in TransformersEngine(tiny_loaded(scale=3.0)).generate(REQUESTS)}
    # One of them ends its turn, one is empty but for the end of turn, one was cut short with nothing written.
    answers["r2"] = Generation("r2", answers["r2"].text, answers["r2"].token_ids, "stop")
    answers["r3"] = Generation("r3", "", (), "stop")
    answers["r4"] = Generation("r4", "", (), "length")
    return answers


def separate(asked: Request, answer: Generation) -> tuple[float, int]:
    """KL(base || graft) over the answer by two models that share nothing, in double precision."""
    base, graft = tiny_loaded(scale=3.0), grafted()
    prompt = base.renderer.prompt_ids(asked.messages, asked.prefill).ids
    tokens = [*answer.token_ids, *([base.renderer.end_of_turn_id] if answer.finish_reason == "stop" else [])]
    ids = torch.tensor([[*prompt, *tokens]])
    with torch.inference_mode():
        p = torch.softmax(base.model(ids).logits[0].double(), dim=-1)
        q = torch.softmax(graft.model(input_ids=ids).logits[0].double(), dim=-1)
    rows = slice(len(prompt) - 1, len(prompt) - 1 + len(tokens))
    return float((p[rows] * (p[rows].log() - q[rows].log())).sum()), len(tokens)


def test_it_is_zero_for_an_adapter_that_changes_nothing() -> None:
    found = kl_from_base(grafted(identity=True), REQUESTS, written())
    assert [kl.nats for kl in found.values()] == pytest.approx([0.0] * 4, abs=1e-9)


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_it_is_that_of_two_separate_models_whatever_the_batch(batch_tokens: int) -> None:
    answers = written()
    progress: list[tuple[int, int]] = []
    found = kl_from_base(
        grafted(), REQUESTS, answers, batch_tokens=batch_tokens, progress=lambda *now: progress.append(now)
    )
    assert set(found) == {"r0", "r1", "r2", "r3"}  # nothing was written in r4
    for asked in REQUESTS[:4]:
        nats, tokens = separate(asked, answers[asked.id])
        assert found[asked.id].nats == pytest.approx(nats, abs=1e-4, rel=1e-5)
        assert found[asked.id].tokens == tokens
        assert nats > 0.01
    # What the base's own divergences of 0 are counted by: the same items with the same weights.
    counts = {id_: len(one.token_ids) + end_written(one) for id_, one in answers.items()}
    assert {id_: n for id_, n in counts.items() if n} == {id_: kl.tokens for id_, kl in found.items()}
    assert progress[-1] == (4, sum(kl.tokens for kl in found.values()))
    if batch_tokens == 1:
        assert len(progress) == 4


def test_it_is_what_sampling_estimates() -> None:
    """KL is the mean of log p - log q over what the base samples: here for the first token."""
    asked = request("a", "Guten Tag!", temperature=1.0, max_new_tokens=1)
    base, graft = tiny_loaded(scale=3.0), grafted()
    ids = torch.tensor([base.renderer.prompt_ids(asked.messages).ids])
    with torch.inference_mode():
        p = torch.log_softmax(base.model(ids).logits[0, -1].double(), -1)
        q = torch.log_softmax(graft.model(input_ids=ids).logits[0, -1].double(), -1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(p.exp(), 20_000, replacement=True, generator=generator)
    ratios = (p - q)[drawn]
    found = kl_from_base(graft, [asked], {"a": Generation("a", "", (int(drawn[0]),), "length")})["a"]
    assert abs(found.nats - float(ratios.mean())) < 4 * float(ratios.std()) / 20_000**0.5


def test_the_adapter_is_on_again_afterwards() -> None:
    graft = grafted()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = graft.model(input_ids=ids).logits
        kl_from_base(graft, REQUESTS, written())
        assert torch.equal(graft.model(input_ids=ids).logits, before)


def test_an_answer_of_the_graft_may_begin_with_tokens_of_its_own() -> None:
    """The base goes on from the prompt, the graft from the prompt and its opening."""
    asked, opening = REQUESTS[0], (5, 9)
    answer = written()["r0"]
    base, graft = tiny_loaded(scale=3.0), grafted()
    prompt = list(base.renderer.prompt_ids(asked.messages).ids)
    tokens = [*answer.token_ids, *([base.renderer.end_of_turn_id] if answer.finish_reason == "stop" else [])]
    with torch.inference_mode():
        p = torch.log_softmax(base.model(torch.tensor([[*prompt, *tokens]])).logits[0].double(), -1)
        q = torch.log_softmax(
            graft.model(input_ids=torch.tensor([[*prompt, *opening, *tokens]])).logits[0].double(), -1
        )
    p = p[len(prompt) - 1 :][: len(tokens)]
    q = q[len(prompt) + 1 :][: len(tokens)]
    expected = float((p.exp() * (p - q)).sum())
    direct = replace(REQUESTS[2], direct=True)  # such as a translation, which has no opening
    found = kl_from_base(graft, [asked, direct], written(), opening=opening)
    assert found["r0"].nats == pytest.approx(expected, abs=1e-4, rel=1e-5)
    assert found["r2"].nats == pytest.approx(separate(REQUESTS[2], written()["r2"])[0], abs=1e-4, rel=1e-5)


def test_the_base_is_measured_over_its_own_vocabulary() -> None:
    """What the graft gives to tokens beyond the base's is lost to those of the base."""
    asked, answer = REQUESTS[0], written()["r0"]
    base, graft = tiny_loaded(scale=3.0), grafted()
    size = 400
    answer = Generation("r0", "", tuple(token % size for token in answer.token_ids), "length")
    prompt = list(base.renderer.prompt_ids(asked.messages).ids)
    ids = torch.tensor([[*prompt, *answer.token_ids]])
    with torch.inference_mode():
        p = torch.log_softmax(base.model(ids).logits[0, :, :size].double(), -1)[len(prompt) - 1 : -1]
        q = torch.log_softmax(graft.model(input_ids=ids).logits[0].double(), -1)[len(prompt) - 1 : -1, :size]
    expected = float((p.exp() * (p - q)).sum())
    found = kl_from_base(graft, [asked], {"r0": answer}, base_tokens=size)["r0"]
    assert found.nats == pytest.approx(expected, abs=1e-4, rel=1e-5)


def test_a_beginning_in_common_is_computed_once_and_changes_nothing() -> None:
    """Prompts that begin alike: fewer tokens go through the model, the divergence is that of one by one."""
    common = "Answer briefly, in German, and never say anything about yourself. " * 2
    requests = [
        request(f"r{i}", common + text, temperature=1.0, max_new_tokens=9, seed=2) for i, text in enumerate(TEXTS)
    ]
    answers = {answer.id: answer for answer in TransformersEngine(tiny_loaded(scale=3.0)).generate(requests)}
    loaded = grafted()
    seen: list[int] = []
    model: Any = loaded.model
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    found = kl_from_base(loaded, requests, answers)
    lengths = [len(loaded.renderer.prompt_ids(asked.messages).ids) for asked in requests]
    assert len(seen) == 4  # the beginning, and one batch, by base and graft
    assert seen[0] > 100
    assert sum(seen) < 2 * sum(lengths)
    for asked in requests:
        nats, tokens = separate(asked, answers[asked.id])
        assert found[asked.id].nats == pytest.approx(nats, abs=1e-4, rel=1e-5)
        assert found[asked.id].tokens == tokens
