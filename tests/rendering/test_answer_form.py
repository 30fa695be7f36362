"""How answers are opened and ended: thoughts in generation prompts, ends of turn, blanks at the end of a prompt."""

from __future__ import annotations

import pytest

from builders import STYLES, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.template import ChatTemplate
from template_support import HI, OPENED_BY_THE_NEXT, ROLES, library_prompt, prompt_of, renderer_of, tokenizer_of, turns

ANSWER = Example("e", HI, (Span("Good day.", "reply"),))


def trained(render: Renderer) -> tuple[str, str]:
    """Return prompt and answer of a training row as text."""
    row = render.render(ANSWER)
    return tuple(
        render.decode_all(part) for part in (row.input_ids[: row.prompt_length], row.input_ids[row.prompt_length :])
    )


# Blocks of thoughts

CLOSED = [
    ("<think>\n\n</think>\n\n", ()),
    ("<think></think>", ()),
    ("</think>", ()),
    ("<|channel>thought\n<channel|>", ("<|channel>", "<channel|>")),
    ("<|START_THINKING|><|END_THINKING|>", ("<|START_THINKING|>", "<|END_THINKING|>")),
    ("[THINK][/THINK]", ("[THINK]", "[/THINK]")),
    ("<seed:think>\nThe budget is 0.\n</seed:think>", ("<seed:think>", "</seed:think>")),
]


@pytest.mark.parametrize(("block", "special"), CLOSED)
@pytest.mark.parametrize("history", ["", "<think>\n</think>\n"], ids=["left out", "otherwise"])
def test_a_closed_block_at_the_end_of_the_generation_prompt_is_part_of_the_prompt(
    block: str, special: tuple[str, ...], history: str
) -> None:
    render = renderer_of(turns(opened=block, assistant=history + "{{ m.content }}"), special)
    expected = library_prompt(render)
    assert expected.endswith(f"assistant\n{block}")
    assert trained(render) == (expected, "Good day.<|im_end|>")
    prompt = render.prompt_ids(HI)
    assert list(prompt.ids) == render.tokenizer(expected, add_special_tokens=False).input_ids
    assert render.render(ANSWER).input_ids[: len(prompt.ids)] == prompt.ids


def test_what_opens_an_answer_in_the_history_stays_behind_the_block() -> None:
    special = ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>")
    template = turns(opened="<|START_THINKING|><|END_THINKING|>", assistant="<|START_RESPONSE|>{{ m.content }}")
    render = renderer_of(template, special)
    assert prompt_of(render) == library_prompt(render) + "<|START_RESPONSE|>"


def test_a_generation_prompt_that_asks_a_turn_more_is_continued_as_it_is() -> None:
    render = renderer_of(turns(opened="<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n</think>"))
    assert trained(render) == (library_prompt(render), "Good day.<|im_end|>")


@pytest.mark.parametrize(
    ("opening", "special"),
    [
        ("<think>", ()),
        ("<think>\n", ("<think>",)),
        ("<|channel>thought\n", ("<|channel>", "<channel|>")),
        ("<|START_THINKING|>", ("<|START_THINKING|>",)),
        ("[THINK]", ("[THINK]",)),
        ("<seed:think>", ("<seed:think>",)),
        ("<think>\n\n</think>\n<think>", ()),
    ],
)
@pytest.mark.parametrize(
    "history", ["", "{opening}", "{opening}\n</think>"], ids=["left out", "open", "closed in the history"]
)
def test_an_open_block_at_the_end_of_the_generation_prompt_is_refused_with_a_way_out(
    opening: str, special: tuple[str, ...], history: str
) -> None:
    template = turns(opened=opening, assistant=history.format(opening=opening) + "{{ m.content }}")
    with pytest.raises(ModelError, match=r"opens a block of thoughts.*`template:` of the recipe") as caught:
        renderer_of(template, special)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_no_answer_goes_on_from_is_refused() -> None:
    with pytest.raises(ModelError, match="renders an answer differently from its generation prompt"):
        renderer_of(turns(opened="Answer: "))


def test_thoughts_stay_to_be_seen_where_their_tags_are_control_tokens() -> None:
    render = renderer_of(turns(), ("[THINK]", "[/THINK]", "<|channel>", "<channel|>"))
    vocabulary = render.tokenizer.get_vocab()
    for opening, closing in (("[THINK]", "[/THINK]"), ("<|channel>", "<channel|>")):
        ids = [vocabulary[opening], *render.plain_ids("thought: hm"), vocabulary[closing], *render.plain_ids("Yes")]
        assert render.decode([*ids, render.end_of_turn_id]) == f"{opening}thought: hm{closing}Yes"


# Ends of turn


def test_a_turn_ends_with_the_opening_of_the_next_where_the_base_ends_there() -> None:
    tokenizer = tokenizer_of(OPENED_BY_THE_NEXT, ROLES)
    user, observation, eos = tokenizer.convert_tokens_to_ids(["<|user|>", "<|observation|>", tokenizer.eos_token])
    render = Renderer(tokenizer, ends=(eos, user, observation))
    assert render.end_of_turn_id == user
    assert render.end_ids == (user, eos, observation)
    assert trained(render) == ("<|user|>\nGood day to you<|assistant|>\n", "Good day.<|user|>")
    assert render.identity == {"ends": [observation]}
    talk = (*HI, Message("assistant", "Good day."), Message("user", "Bye"))
    begun = render.render(ANSWER).input_ids
    assert render.prompt_ids(talk).ids[: len(begun)] == begun


def test_without_such_an_end_a_turn_ends_with_the_end_of_text() -> None:
    tokenizer = tokenizer_of(OPENED_BY_THE_NEXT, ROLES)
    for ends in ((), (tokenizer.eos_token_id,)):
        assert Renderer(tokenizer, ends=ends).end_ids == (tokenizer.eos_token_id,)
    (other,) = tokenizer.convert_tokens_to_ids(["<|endoftext|>"])
    render = Renderer(tokenizer, ends=(other,))  # the base never ends with the tokenizer's own
    assert (render.end_of_turn_id, render.end_ids) == (other, (other, tokenizer.eos_token_id))


def test_the_end_of_the_template_comes_first_and_further_ends_count() -> None:
    tokenizer = tokenizer_of(turns())
    (further,) = tokenizer.convert_tokens_to_ids(["<|endoftext|>"])
    render = Renderer(tokenizer, ends=(further, tokenizer.eos_token_id))
    assert render.end_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"), further)
    assert render.text_start_id == Renderer(tokenizer).text_start_id


# Blanks at the end of a prompt

HELPER = (
    "{% for m in messages %}{{ {'user': 'Human', 'assistant': 'Helper'}[m.role] + ': ' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '\\n' }}{% endfor %}{% if add_generation_prompt %}Helper: {% endif %}"
)


@pytest.mark.parametrize("answer", ["The weather is nice.", "schön", "(yes)", "天气"])
@pytest.mark.parametrize("style", ["sentencepiece", "metaspace"])
def test_a_blank_at_the_end_of_a_prompt_is_one_space_before_the_answer(style: str, answer: str) -> None:
    tokenizer = tiny_tokenizer("mistral_v02", style)
    tokenizer.chat_template = HELPER
    render = Renderer(tokenizer)
    row = render.render(Example("e", HI, (Span(answer, "reply"),)))
    text = f"Human: Good day to you\nHelper: {answer}</s>"
    assert list(row.input_ids) == tokenizer(text, add_special_tokens=False).input_ids
    prompt = render.prompt_ids(HI)
    assert row.input_ids[: len(prompt.ids)] == prompt.ids
    assert render.decode(row.input_ids[len(prompt.ids) : -1]).removeprefix(prompt.dropped) == answer
    begun = render.prompt_ids(HI, answer[:3])
    assert row.input_ids[: len(begun.ids) - 1] == begun.ids[:-1]


@pytest.mark.parametrize("style", sorted(set(STYLES) - {"sentencepiece", "metaspace"}))
def test_tokenizers_that_add_no_space_keep_the_blank_in_the_prompt(style: str) -> None:
    tokenizer = tiny_tokenizer("smollm2", style)
    tokenizer.chat_template = HELPER
    render = Renderer(tokenizer)
    text = library_prompt(render)
    assert list(render.prompt_ids(HI).ids) == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("style", ["sentencepiece", "metaspace"])
def test_an_answer_that_would_merge_with_the_prompt_gets_no_space_of_its_own(style: str) -> None:
    tokenizer = tiny_tokenizer("mistral_v02", style)
    tokenizer.chat_template = HELPER.replace("+ ': ' +", "+ 'a' +").replace("Helper: ", "Helpera")
    render = Renderer(tokenizer)
    for answer in ("nd so on", "(yes)"):
        row = render.render(Example("e", HI, (Span(answer, "reply"),)))
        assert (
            render.decode_all(row.input_ids).replace("<s>", "").strip() == f"HumanaGood day to you\nHelpera{answer}</s>"
        )


def test_probing_leaves_the_tokenizer_as_it_was() -> None:
    tokenizer = tokenizer_of(turns())
    before = tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template
    ChatTemplate(tokenizer)
    Renderer(tokenizer)
    assert (tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template) == before
