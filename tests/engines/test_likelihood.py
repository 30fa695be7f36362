"""Log-likelihoods against plain float64 arithmetic on one sequence at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from lingraft.core.errors import DataError
from lingraft.data.records import Continuation
from lingraft.engines import likelihood
from lingraft.engines.likelihood import KEPT_TOGETHER, log_likelihoods
from lingraft.models.loading import LoadedModel
from models_support import tiny_loaded, with_adapter

VOCABULARY = 600


def questions(seed: int = 0) -> list[Continuation]:
    """Multiple choice with and without shared examples before the question; choices of one and of several tokens."""
    draw = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(VOCABULARY) for _ in range(count))

    shots, out = ids(40), []
    for number in range(8):
        context = (shots if number % 2 else ()) + ids(draw.randrange(1, 30))
        alike = ids(3)
        choices = [ids(1), ids(1), alike + ids(5), alike + ids(2), alike]
        out += [Continuation(f"{number}-{k}", context, choice) for k, choice in enumerate(choices)]
    draw.shuffle(out)
    return out


def one_by_one(model: torch.nn.Module, wanted: Sequence[Continuation]) -> list[tuple[float, bool]]:
    """The definition: sum of log-probabilities in float64, one sequence a pass."""
    found = []
    for one in wanted:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*one.context, *one.continuation]])).logits[0].double()
        own = torch.log_softmax(logits, -1)[len(one.context) - 1 : -1]
        target = torch.tensor(one.continuation)
        found.append((float(own.gather(1, target[:, None]).sum()), bool((own.argmax(-1) == target).all())))
    return found


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_shared_beginnings_give_the_values_of_sequences_one_by_one(adapted: bool, batch_tokens: int) -> None:
    loaded = tiny_loaded(scale=3.0)
    if adapted:
        loaded = LoadedModel(loaded.files, with_adapter(loaded.model), loaded.renderer)
    wanted = questions()
    done: list[int] = []
    found = log_likelihoods(loaded, wanted, batch_tokens=batch_tokens, progress=done.append)
    assert [one.id for one in found] == [one.id for one in wanted]
    for one, (value, greedy) in zip(found, one_by_one(loaded.model, wanted), strict=True):
        assert one.logprob == pytest.approx(value, abs=2e-4)
        assert one.greedy == greedy
    assert done[-1] == len(wanted)


def test_a_model_in_16_bits_gives_log_probabilities_without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own hidden states in 16 bits, in float64; its logits would be on steps of 0.125 and more."""
    monkeypatch.setattr("lingraft.models.output_head.LOGITS_PER_CHUNK", 2**12)  # several parts of the vocabulary
    loaded = tiny_loaded(scale=3.0)
    model = loaded.model.to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight.mul_(6.0)
    wanted = [replace(one, continuation=one.continuation[:1]) for one in questions()]
    expected, rounded = [], []
    for one in wanted:
        with torch.inference_mode():
            found = model(input_ids=torch.tensor([one.context]), output_hidden_states=True)
            logits = found.hidden_states[-1][0, -1].double() @ model.lm_head.weight.double().T
        expected.append(float(torch.log_softmax(logits, -1)[one.continuation[0]]))
        rounded.append(float(torch.log_softmax(found.logits[0, -1].double(), -1)[one.continuation[0]]))
    values = [one.logprob for one in log_likelihoods(loaded, wanted, batch_tokens=1)]
    assert values == pytest.approx(expected, abs=1e-3)
    assert max(abs(one - two) for one, two in zip(rounded, expected, strict=True)) > 0.02


def test_greedy_continuations_are_recognised() -> None:
    loaded = tiny_loaded(scale=3.0)
    context = (5, 6, 7)
    best: tuple[int, ...] = ()
    for _ in range(4):
        with torch.inference_mode():
            best += (int(loaded.model(input_ids=torch.tensor([[*context, *best]])).logits[0, -1].argmax()),)
    wanted = [Continuation("best", context, best), Continuation("other", context, (*best[:-1], (best[-1] + 1) % 600))]
    assert [one.greedy for one in log_likelihoods(loaded, wanted)] == [True, False]


def test_shared_beginnings_are_computed_once() -> None:
    loaded = tiny_loaded()
    computed = {True: 0, False: 0}
    sharing = True

    def count(_module: object, args: tuple[object, ...], kwargs: dict[str, torch.Tensor]) -> None:
        computed[sharing] += kwargs["input_ids"].numel()

    loaded.model.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    context = tuple(range(100))
    wanted = [Continuation(f"{k}", context, (300 + k, 301, 302)) for k in range(4)]
    log_likelihoods(loaded, wanted, share=True)
    sharing = False
    log_likelihoods(loaded, wanted, share=False)
    assert computed == {True: 100 + 4 * 2, False: 4 * 102}


def test_rows_stay_within_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "LONGEST_TREE", 64)
    loaded, wanted = tiny_loaded(scale=3.0), questions(1)
    assert max(len(tree.tokens) for tree in likelihood._trees([one.context for one in wanted], True)) <= 69
    for one, (value, _) in zip(log_likelihoods(loaded, wanted), one_by_one(loaded.model, wanted), strict=True):
        assert one.logprob == pytest.approx(value, abs=2e-4)


def test_a_sliding_window_shorter_than_the_rows_is_not_shared_over() -> None:
    loaded = tiny_loaded()
    config = MistralConfig(
        vocab_size=len(loaded.renderer.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    windowed = LoadedModel(loaded.files, model, loaded.renderer)
    wanted = questions()
    assert not likelihood._Scorer(windowed).may_share(max((one.context for one in wanted), key=len))
    for one, (value, _) in zip(log_likelihoods(windowed, wanted), one_by_one(model, wanted), strict=True):
        assert one.logprob == pytest.approx(value, abs=2e-4)


def test_a_model_that_ignores_masks_is_found_out() -> None:
    loaded = tiny_loaded(scale=3.0)

    def unmask(_module: object, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, object]:
        return args, {**kwargs, "attention_mask": None}

    assert likelihood._Scorer(loaded).may_share(tuple(range(40)))
    loaded.model.get_decoder().register_forward_pre_hook(unmask, with_kwargs=True)
    assert not likelihood._Scorer(loaded).may_share(tuple(range(40)))


def test_prompts_learnt_as_vectors_are_not_shared_over() -> None:
    loaded = tiny_loaded()
    model = get_peft_model(loaded.model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert not likelihood._Scorer(LoadedModel(loaded.files, model, loaded.renderer)).may_share((1, 2, 3))


def test_what_does_not_fit_is_cut_at_the_left_as_in_lm_eval() -> None:
    loaded = tiny_loaded(scale=3.0)
    loaded.model.config.max_position_embeddings = 32
    long = Continuation("long", tuple(range(100)), (7, 8))
    (found,) = log_likelihoods(loaded, [long])
    # The model reads 32 tokens: all but the last of 33.
    ((value, _),) = one_by_one(loaded.model, [Continuation("cut", long.context[-31:], long.continuation)])
    assert found.logprob == pytest.approx(value, abs=2e-4)
    with pytest.raises(DataError, match="'wide' has 33 tokens"):
        log_likelihoods(loaded, [Continuation("wide", (1,), tuple(range(33)))])


@pytest.mark.parametrize("one", [Continuation("x", (), (1,)), Continuation("x", (1,), ())])
def test_empty_parts_are_refused(one: Continuation) -> None:
    with pytest.raises(DataError, match="'x' needs at least one token"):
        log_likelihoods(tiny_loaded(), [one])


def test_a_killed_call_goes_on_where_it_was_and_ends_with_the_same_values(tmp_path: Path) -> None:
    loaded = tiny_loaded(scale=3.0)
    wanted = [replace(one, id=f"{copy}-{one.id}", context=one.context * 30) for copy in range(4) for one in questions()]
    steps, kept, done = list[int](), list[int](), list[int]()
    whole = log_likelihoods(loaded, wanted, batch_tokens=1, progress=steps.append)
    assert len(steps) > 2 * KEPT_TOGETHER

    def killed(count: int) -> None:
        if count == steps[KEPT_TOGETHER + 1]:  # within the second part
            raise KeyboardInterrupt

    ask = partial(log_likelihoods, loaded, wanted, batch_tokens=1, folder=tmp_path, kept=lambda: kept.append(1))
    with pytest.raises(KeyboardInterrupt):
        ask(identity="a", progress=killed)
    assert kept == [1]
    assert ask(identity="a", progress=done.append) == whole
    assert done == steps[KEPT_TOGETHER - 1 :]  # nothing of the first part is computed again
    parts = len(kept)
    assert ask(identity="a") == whole
    assert len(kept) == parts
    assert ask(identity="b") == whole  # of something else: all of it is made anew
    assert len(kept) == 2 * parts
