"""The transformers engine against plain `model.generate` and plain forward passes, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from transformers import Cache, GenerationConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from builders import FAMILIES
from lingraft.core.errors import EngineError
from lingraft.data.records import Example, Generation, Message, Request, Sampling, Span
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model
from models_support import request, tiny_loaded, with_adapter

LOADED = tiny_loaded(scale=3.0)


class Step(NamedTuple):
    """A forward pass for one token each."""

    rows: int
    slots: int
    width: int


TEXTS = (
    "Guten Tag!",
    "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen und essen Fisch.",
    "x",
    "今天天气很好",
    "Translate the following sentence from German to English.",
    "Sie wissen nicht alles. " * 4,
    "12",
)


def answers(
    requests: Sequence[Request], loaded: LoadedModel = LOADED, batch_tokens: int = 24_576, max_batch: int = 128
) -> dict[str, Generation]:
    engine = TransformersEngine(loaded, batch_tokens, max_batch)
    return {answer.id: answer for answer in engine.generate(requests)}


def plain(asked: Request, loaded: LoadedModel = LOADED, **settings: object) -> list[int]:
    """What the library writes for one request alone, without the token that ends it."""
    prompt = loaded.renderer.prompt_ids(asked.messages, asked.prefill).ids
    config = GenerationConfig(
        max_new_tokens=asked.sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=list(loaded.renderer.end_ids),
        pad_token_id=loaded.renderer.pad_id,
        **settings,
    )
    ids = torch.tensor([prompt])
    output = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)  # type: ignore[operator]
    written = [int(token) for token in output[0, len(prompt) :]]
    return written[:-1] if written and written[-1] in loaded.renderer.end_ids else written


def ending(after: int) -> LoadedModel:
    """A model that ends its first answer after some tokens: a token that it writes there is made the end of turn."""
    loaded = tiny_loaded(scale=3.0)
    written = plain(request("a", TEXTS[0], max_new_tokens=40), loaded)
    token = written[after]
    assert token not in written[:after], "choose another position: this token comes earlier, too"
    loaded.renderer.end_of_turn_id = token
    return loaded


@pytest.mark.parametrize(("batch_tokens", "max_batch"), [(24_576, 128), (256, 128), (1, 128), (24_576, 2)])
@pytest.mark.parametrize("family", ["smollm2", "llama2", "qwen25"])
def test_greedy_equals_the_library_one_by_one_whatever_the_batch(
    family: str, batch_tokens: int, max_batch: int
) -> None:
    loaded = tiny_loaded(family, scale=3.0)
    asked = [
        request(f"{prefill}{i}", text, prefill=prefill)
        for i, text in enumerate(TEXTS)
        for prefill in ("", "Hello.\n\nNote:")
    ]
    found = answers(asked, loaded, batch_tokens, max_batch)
    assert {id_: list(answer.token_ids) for id_, answer in found.items()} == {
        each.id: plain(each, loaded) for each in asked
    }


def test_the_models_own_generation_settings_do_not_count() -> None:
    loaded = tiny_loaded(scale=3.0)
    asked = [request(f"g{i}", text, top=3, max_new_tokens=20) for i, text in enumerate(TEXTS)]
    sampled = [request(f"s{i}", text, temperature=1.0, max_new_tokens=20) for i, text in enumerate(TEXTS)]
    before = answers([*asked, *sampled], loaded)
    loaded.model.generation_config = GenerationConfig(  # the like of Qwen2.5's generation_config.json
        do_sample=True, temperature=0.3, top_k=2, top_p=0.5, min_p=0.2, repetition_penalty=1.5, no_repeat_ngram_size=2
    )
    assert plain(asked[0], loaded, repetition_penalty=1.5) != list(before["g0"].token_ids)  # they would have
    assert answers([*asked, *sampled], loaded) == before


def test_the_end_of_turn_ends_an_answer_and_is_not_part_of_it() -> None:
    loaded = ending(after=5)
    found = answers([request(f"a{i}", text, max_new_tokens=40) for i, text in enumerate(TEXTS)], loaded)
    assert found["a0"].finish_reason == "stop"
    assert len(found["a0"].token_ids) == 5
    assert found["a0"].text == loaded.renderer.decode(found["a0"].token_ids)
    for answer in found.values():
        assert not set(answer.token_ids) & set(loaded.renderer.end_ids)
        assert (answer.finish_reason == "stop") == (len(answer.token_ids) < 40)


def test_an_answer_that_ends_with_the_last_token_allowed_is_finished() -> None:
    loaded = ending(after=5)
    found = answers([request("six", TEXTS[0], max_new_tokens=6), request("five", TEXTS[0], max_new_tokens=5)], loaded)
    assert (found["six"].finish_reason, len(found["six"].token_ids)) == ("stop", 5)
    assert (found["five"].finish_reason, len(found["five"].token_ids)) == ("length", 5)


def test_a_stop_string_cuts_the_text_and_the_tokens() -> None:
    free = answers([request(f"a{i}", text, max_new_tokens=40) for i, text in enumerate(TEXTS)])
    whole = free["a0"].text
    stop = whole[10:13]
    found = answers([request(f"a{i}", text, max_new_tokens=40, stop=("\ue000", stop)) for i, text in enumerate(TEXTS)])
    cut = found["a0"]
    assert cut.finish_reason == "stop_string"
    assert cut.text == whole[: whole.index(stop)]
    count = len(cut.token_ids)
    assert cut.token_ids == free["a0"].token_ids[:count]
    assert stop in LOADED.renderer.decode(cut.token_ids)
    assert stop not in LOADED.renderer.decode(cut.token_ids[:-1])
    for id_, answer in found.items():  # the rest of the batch is as without
        if stop not in free[id_].text:
            assert answer == free[id_]


def test_the_earliest_of_several_stop_strings_counts() -> None:
    whole = answers([request("a", TEXTS[1], max_new_tokens=40)])["a"].text
    late, early = whole[14:17], whole[6:9]
    first = min(whole.index(late), whole.index(early))
    found = answers([request("a", TEXTS[1], max_new_tokens=40, stop=(late, early))])["a"]
    assert found.text == whole[:first]


def test_a_stop_string_in_the_prompt_or_prefill_does_not_stop() -> None:
    free = answers([request("a", "Note: x", prefill="Hi.\n\nNote:")])["a"]
    held = answers([request("a", "Note: x", prefill="Hi.\n\nNote:", stop=("\n\nNote:", "Note: x"))])["a"]
    assert held == free


class Dictated(LlamaForCausalLM):
    """A model that writes given tokens behind a prompt of given length, whatever it is asked."""

    prompt_length = 0
    written: Sequence[int] = ()

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, past_key_values: Cache, **settings: object
    ) -> CausalLMOutputWithPast:
        """Return logits (rows, length, vocabulary) that want the dictated token."""
        output = super().forward(input_ids, position_ids=position_ids, past_key_values=past_key_values, **settings)
        token = self.written[int(position_ids[0, -1]) + 1 - self.prompt_length]
        output.logits = torch.zeros_like(output.logits)
        output.logits[:, -1, token] = 1.0
        return output


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("prefill", "text"),
    [
        ("", "Hello, you  there."),
        ("", "วันนี้อากาศดี"),
        ("The weather is nice.\n\nNote:", " It's about\n\n- the weather. 今天"),
        ("วันนี้อากาศดี\n\nNote:", " อากาศ means weather."),
        ("今天天气很好。\n\nNote:\n", "好 is nice."),
        ("It is nice ", "weather today."),
        ("ភាស", "ខ្មរ is Khmer."),  # single bytes in all of these tokenizers
    ],
)
def test_what_a_model_is_taught_after_a_prefill_is_read_back_to_the_letter(
    family: str, prefill: str, text: str
) -> None:
    loaded = tiny_loaded(family)
    asked = request("a", "Das Wetter ist heute schön.", prefill=prefill, max_new_tokens=200)
    turn = loaded.renderer.render(Example("a", asked.messages, (Span(prefill + text, "translation"),)))
    prompt = loaded.renderer.prompt_ids(asked.messages, prefill).ids
    assert turn.input_ids[: len(prompt)] == prompt
    model = Dictated(loaded.model.config)
    model.prompt_length, model.written = len(prompt), turn.input_ids[len(prompt) :]
    (found,) = TransformersEngine(LoadedModel(loaded.files, model, loaded.renderer)).generate([asked])
    assert found.text.rstrip() == text  # Llama-2's template has a blank before the end of turn
    assert found.finish_reason == "stop"


def test_log_probabilities_are_those_of_a_forward_pass() -> None:
    asked = [request(f"g{i}", text, top=5) for i, text in enumerate(TEXTS)]
    asked += [request(f"s{i}", text, top=5, temperature=0.5, top_p=0.5) for i, text in enumerate(TEXTS)]
    for id_, answer in answers(asked).items():
        prompt = LOADED.renderer.prompt_ids(next(each for each in asked if each.id == id_).messages).ids
        with torch.inference_mode():
            logits = LOADED.model(torch.tensor([[*prompt, *answer.token_ids]])).logits[0, len(prompt) - 1 : -1]
        best = torch.log_softmax(logits.double(), dim=-1).topk(5, dim=-1)
        assert answer.logprobs is not None
        assert len(answer.logprobs) == len(answer.token_ids)
        for step, values, ids in zip(answer.logprobs, best.values, best.indices, strict=True):
            assert [token for token, _ in step] == ids.tolist()
            assert [value for _, value in step] == pytest.approx(values.tolist(), abs=1e-3)
        if id_.startswith("g"):
            assert [step[0][0] for step in answer.logprobs] == list(answer.token_ids)


def steps_of(loaded: LoadedModel, asked: Sequence[Request], *limits: int) -> tuple[dict[str, Generation], list[Step]]:
    """Answer, and note of each token written side by side how many rows there were, and the size of their cache."""
    steps: list[Step] = []

    def watched(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs["past_key_values"]
        steps.append(Step(len(kwargs["input_ids"]), cache.slots, cache.width))

    hook = loaded.model.register_forward_pre_hook(watched, with_kwargs=True)
    found = answers(asked, loaded, *limits)
    hook.remove()
    return found, steps


def test_rows_that_end_make_room_and_the_others_go_on_as_if_alone() -> None:
    loaded = ending(after=5)
    asked = [request(f"short-{i}", TEXTS[0], max_new_tokens=60, top=2) for i in range(8)]
    asked += [request(f"long-{i}", text, max_new_tokens=60, top=2) for i, text in enumerate(TEXTS[1:])]
    found, steps = steps_of(loaded, asked, 24_576, 4)
    written = [len(found[each.id].token_ids) + (found[each.id].finish_reason == "stop") for each in asked]
    assert {step.rows for step in steps} <= {1, 2, 3, 4}
    assert sum(step.rows for step in steps) == sum(written)  # no row is computed after its end
    last_full = max(index for index, step in enumerate(steps) if step.rows == 4)
    assert sum(step.rows < 4 for step in steps[: last_full + 1]) == 0  # free places are taken while requests wait
    for each in asked:
        assert list(found[each.id].token_ids) == plain(each, loaded)
        alone = answers([each], loaded)[each.id]
        assert (found[each.id].text, found[each.id].finish_reason) == (alone.text, alone.finish_reason)
        assert found[each.id].logprobs is not None
        assert alone.logprobs is not None
        for one, two in zip(found[each.id].logprobs, alone.logprobs, strict=True):
            assert [value for _, value in one] == pytest.approx([value for _, value in two], abs=1e-3)


@pytest.mark.parametrize("stop", [" Hello", " H", "H", "lo, y"])
@pytest.mark.parametrize("family", ["smollm2", "llama2", "phi3", "gemma2"])
def test_a_stop_string_may_begin_with_the_answers_first_space(family: str, stop: str) -> None:
    loaded = tiny_loaded(family)
    asked = request("a", "Hi", max_new_tokens=200, stop=(stop,))
    text = " Hello, you." if stop.startswith(" ") else "Hello, you."
    model = Dictated(loaded.model.config)
    model.prompt_length = len(loaded.renderer.prompt_ids(asked.messages).ids)
    model.written = loaded.renderer.tokenizer.encode(text, add_special_tokens=False)
    (found,) = TransformersEngine(LoadedModel(loaded.files, model, loaded.renderer)).generate([asked])
    assert found.text == text[: text.index(stop)].removeprefix(" ")
    assert found.finish_reason == "stop_string"


def test_log_probabilities_end_with_the_token_that_ends_the_answer() -> None:
    loaded = ending(after=5)
    found = answers([request(f"a{i}", text, top=2, max_new_tokens=40) for i, text in enumerate(TEXTS)], loaded)
    assert found["a0"].logprobs is not None
    assert len(found["a0"].logprobs) == 6
    assert found["a0"].logprobs[-1][0][0] == loaded.renderer.end_of_turn_id
    for answer in found.values():
        assert answer.logprobs is not None
        assert len(answer.logprobs) == len(answer.token_ids) + (answer.finish_reason == "stop")
    stop = loaded.renderer.decode(found["a0"].token_ids[2:4])
    (cut,) = answers([request("a0", TEXTS[0], top=2, max_new_tokens=40, stop=(stop,))], loaded).values()
    assert cut.finish_reason == "stop_string"
    assert cut.logprobs == found["a0"].logprobs[: len(cut.token_ids)]


def test_sampling_follows_the_seed_alone() -> None:
    def sampled(seed: int, disturb: int) -> dict[str, Generation]:
        torch.manual_seed(disturb)
        state = torch.get_rng_state()
        asked = [request(f"a{i}", text, temperature=1.0, seed=seed, max_new_tokens=20) for i, text in enumerate(TEXTS)]
        found = answers(asked)
        assert torch.equal(torch.get_rng_state(), state)  # nor does it touch the global state
        return found

    assert sampled(1, 1) == sampled(1, 2)
    assert sampled(1, 1) != sampled(2, 1)


def test_a_sampled_answer_does_not_depend_on_what_is_asked_beside_it() -> None:
    asked = [
        request(f"a{i}", text, temperature=0.8, top_p=0.9, seed=i % 2, max_new_tokens=8 + i)
        for i, text in enumerate(TEXTS)
    ]
    together = answers(asked)
    for each in asked:
        assert answers([each])[each.id] == together[each.id]


def test_sampling_draws_from_the_models_distribution() -> None:
    loaded = tiny_loaded(scale=3.0)
    asked = [
        Request(f"a{i}", (Message("user", "Hi"),), Sampling(max_new_tokens=1, temperature=1.0, seed=i % 4))
        for i in range(1200)
    ]
    drawn = [found.token_ids for found in answers(asked, loaded).values()]
    prompt = loaded.renderer.prompt_ids(asked[0].messages).ids
    with torch.inference_mode():
        expected = torch.softmax(loaded.model(torch.tensor([prompt])).logits[0, -1].double(), dim=-1)
    token = int(expected.argmax())
    share = sum(ids == (token,) for ids in drawn) / len(drawn)
    p = float(expected[token])
    assert abs(share - p) < 3.3 * (p * (1 - p) / len(drawn)) ** 0.5  # p = 0.001
    narrow = [replace(each, sampling=replace(each.sampling, top_p=1e-6)) for each in asked[:50]]
    assert {found.token_ids for found in answers(narrow, loaded).values()} == {(token,)}


def test_a_prompt_that_does_not_fit_is_refused_by_its_id() -> None:
    limit = LOADED.model.config.max_position_embeddings
    base = len(LOADED.renderer.prompt_ids((Message("user", "x"),)).ids)
    fits = request("fits", "x", max_new_tokens=limit - base)
    assert len(answers([fits])) == 1
    with pytest.raises(EngineError, match=f"'tight': {base} prompt tokens leave no room for {limit - base + 1} more"):
        answers([request("ok", "x"), request("tight", "x", max_new_tokens=limit - base + 1)])
    with pytest.raises(EngineError, match=r"request 'long': .*context of 2048; shorten the text"):
        answers([request("long", "Das Wetter ist schön. " * 800)])


@pytest.mark.parametrize(("batch_tokens", "max_batch"), [(24_576, 3), (600, 128), (256, 1)])
def test_no_cache_exceeds_its_budget(batch_tokens: int, max_batch: int) -> None:
    asked = [request(f"a{i}", text) for i, text in enumerate((*TEXTS, "x" * 200) * 2)]
    found, steps = steps_of(tiny_loaded(scale=3.0), asked, batch_tokens, max_batch)
    assert len(found) == len(asked)
    for step in steps:
        assert step.rows <= step.slots <= max_batch
        assert step.slots == 1 or step.slots * step.width <= batch_tokens
    if batch_tokens == 600:  # the short ones need less room each
        assert steps[0].slots < max(step.slots for step in steps)


def test_an_adapter_takes_part() -> None:
    loaded = tiny_loaded(scale=3.0)
    asked = [request(f"a{i}", text) for i, text in enumerate(TEXTS)]
    before = answers(asked, loaded)
    adapted = LoadedModel(loaded.files, with_adapter(loaded.model), loaded.renderer)  # type: ignore[arg-type]
    found = answers(asked, adapted)
    assert found != before
    assert {id_: list(answer.token_ids) for id_, answer in found.items()} == {
        each.id: plain_peft(each, adapted) for each in asked
    }


def plain_peft(asked: Request, loaded: LoadedModel) -> list[int]:
    """Greedy decoding by whole forward passes, without `generate` or a cache."""
    ids = list(loaded.renderer.prompt_ids(asked.messages).ids)
    begin = len(ids)
    with torch.inference_mode():
        while len(ids) < begin + asked.sampling.max_new_tokens:
            token = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token in loaded.renderer.end_ids:
                break
            ids.append(token)
    return ids[begin:]


@pytest.mark.model
def test_the_embedded_model_writes_what_the_library_writes_one_by_one() -> None:
    loaded = load_model(find_model("smollm2-135m-instruct"), "fp32", torch.device("cpu"))
    asked = [
        request(f"{prefill}{i}", text, prefill=prefill, max_new_tokens=6 + 4 * i)
        for i, text in enumerate(TEXTS[:2])
        for prefill in ("", "The weather is nice.\n\nNote:")
    ]
    found = answers(asked, loaded, max_batch=4)
    assert {id_: list(answer.token_ids) for id_, answer in found.items()} == {
        each.id: plain(each, loaded) for each in asked
    }


def test_tokens_of_answers_that_are_not_given_yet_are_counted() -> None:
    engine = TransformersEngine(tiny_loaded(scale=3.0))
    answers = engine.generate([request("short", "x", max_new_tokens=3), request("long", "x", max_new_tokens=40)])
    first = next(answers)
    assert first.id == "short"
    assert len(first.token_ids) == 3
    assert engine.under_way in (2, 3)  # of the other row, whose third is counted before or after this one's
    (rest,) = answers
    assert len(rest.token_ids) > 3
    assert engine.under_way == 0
