"""Examples rendered together against each rendered alone, by a renderer that has seen nothing else."""

from __future__ import annotations

import random

import pytest

from builders import CORPUS, FAMILIES, STYLES, tiny_tokenizer
from lingraft.core.errors import ExampleError
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer

WORDS = [word for line in CORPUS for word in line.split(" ")] + ["\n\n", " ", "\t", "ü", "好", "Note:"]
CONTROL = ["<|im_end|>", "<s>", "</s>", "[INST]", "<eos>", "<|eot_id|>", "<|end|>"]


def examples(count: int, seed: int) -> list[Example]:
    chance = random.Random(seed)

    def text(longest: int) -> str:
        words = WORDS + CONTROL if chance.random() < 0.2 else WORDS
        return " ".join(chance.choice(words) for _ in range(chance.randint(0, longest)))

    made = []
    for number in range(count):
        roles = ("translation", "separator", "rationale")[: chance.randint(1, 3)]
        spans = tuple(
            Span(chance.choice(["", "\n\n", " "]) + text(6), role, "ce", chance.choice([0, 1])) for role in roles
        )
        made.append(Example(str(number), (Message("user", text(12)),), spans, chance.random() < 0.7))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_examples_rendered_together_are_as_each_alone(family: str) -> None:
    style = STYLES[sorted(FAMILIES).index(family) % len(STYLES)]
    for tokenizer in (tiny_tokenizer(family), tiny_tokenizer(family, style)):
        made = examples(30, seed=len(family))
        together = Renderer(tokenizer).render_many(made, 100)
        kinds = set()
        for example, found in zip(made, together, strict=True):
            kinds.add(type(found))
            if isinstance(found, ExampleError):
                with pytest.raises(ExampleError) as caught:
                    Renderer(tokenizer).render(example, 100)
                assert (found.example_id, str(found)) == (example.id, str(caught.value))
            else:
                assert found == Renderer(tokenizer).render(example, 100)
                # The prompt's ids are those that synthesis and decoding ask with.
                prompt = Renderer(tokenizer).prompt_ids(example.messages)
                assert found.input_ids[: found.prompt_length] == prompt.ids
        assert len(kinds) == 2


def test_nothing_to_render() -> None:
    assert Renderer(tiny_tokenizer()).render_many([]) == []
