"""Thoughts in the tags of published models: what is said apart from them, and where a text ends within them."""

from __future__ import annotations

import pytest

from lingraft.data.records import Message, Request, Sampling, Span
from lingraft.language.thinking import (
    Said,
    Thoughts,
    block,
    ends_closed,
    ends_open,
    is_tag,
    said,
    thinks,
    without_blocks,
)

TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]
every_tag = pytest.mark.parametrize(("opening", "closing"), TAGS)


@every_tag
def test_what_stands_behind_the_thoughts_is_said(opening: str, closing: str) -> None:
    assert said(f"{opening}Hm, a greeting.{closing}\n\nGood morning.").text == "Good morning."
    assert said(f"{opening}Hm.{closing}Good morning.").thought
    assert said(f"{opening}\n\n{closing}\n\nGood morning.") == Said("Good morning.", thought=False)
    assert said(f"{opening}Hm, a gree") == Said("", thought=True, unfinished=True)
    assert thinks(f"{opening}Hm.{closing}Good morning.")
    assert thinks(f"Well. {opening}Hm.{closing}Good morning.")


@every_tag
def test_where_a_text_ends(opening: str, closing: str) -> None:
    assert ends_open(f"assistant\n{opening}\n")
    assert not ends_open(f"assistant\n{opening}\n\n{closing}\n\n")
    assert ends_closed(f"assistant\n{opening}\n\n{closing}\n\n")
    assert not ends_closed(f"assistant\n{opening}\n")
    assert not ends_closed(f"{opening}{closing}assistant")
    assert without_blocks(f"a{opening}b{closing}c").startswith("a")
    assert without_blocks(f"a{opening}b{closing}c").endswith("c")
    assert "b" not in without_blocks(f"a{opening}b{closing}c")


def test_a_block_that_the_prompt_had_opened_ends_with_its_end_tag() -> None:
    assert said("Okay, the user greets.\n</think>\n\nGood morning.") == Said("Good morning.", thought=True)


@pytest.mark.parametrize(
    "text",
    ["Good morning.", " Good morning.\n", "I think, therefore I am.", "a < think > b", "Use <b>bold</b> [think]"],
)
def test_a_text_without_thoughts_stays_as_it_is(text: str) -> None:
    assert said(text) == Said(text)
    assert not thinks(text)
    assert not ends_open(text)


def test_tags_of_what_was_given_are_text() -> None:
    given = "Translate: <think>Nein</think>"
    assert said("<think>No</think>", given) == Said("<think>No</think>")
    assert not thinks("<think>No</think>", given)
    assert said("<think>Hm.</think>No", "Nein") == Said("No", thought=True)


def test_thoughts_further_inside_are_no_beginning() -> None:
    text = "A block begins with <think> and ends with </think>."
    assert said(text).text == text


def test_tokens_that_make_a_tag() -> None:
    for token in ("[THINK]", "[/THINK]", "<|START_THINKING|>", "<|END_THINKING|>", "<|channel>", "<channel|>"):
        assert is_tag(token)
    for token in ("<|im_end|>", "<|user|>", "[INST]", "</s>", "think"):
        assert not is_tag(token)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        *(f"{opening}Hm, a < b.\n{closing}\n\nGood <b>morning</b>." for opening, closing in TAGS),
        *(f"{opening}\n{closing}{opening}So.{closing}Good." for opening, closing in TAGS),
        *(f"{opening}Hm, a gree" for opening, _ in TAGS),
        *(f"{closing}\n\nGood." for _, closing in TAGS),
        "Good morning.",
        "<b>Good</b> morning, and a long text behind it that holds no tag of thoughts at all, only <i>others</i>.",
        "<",
        "",
        "A block begins with <think> and ends with </think>.",
    ],
)
def test_a_text_in_pieces_is_told_apart_as_the_whole_is(text: str, size: int) -> None:
    parts = Thoughts()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [each for piece in pieces for each in parts.step(piece)] + parts.step("", last=True)
    assert "".join(piece for thought, piece in found if not thought) == said(text).text
    thoughts = "".join(piece for thought, piece in found if thought)
    assert bool(thoughts.strip()) == said(text).thought
    for opening, closing in TAGS:
        assert opening.strip() not in thoughts
        assert closing not in thoughts


def test_an_answer_that_begins_like_any_other_is_given_at_once() -> None:
    assert Thoughts().step("Good") == [(False, "Good")]
    assert Thoughts().step("<") == []


@pytest.mark.parametrize("given", ["", "What is <think>?", "<think></think> <thinking> </thought>", "<reasoning>"])
def test_thoughts_that_came_apart_make_a_block_that_is_taken_off_again(given: str) -> None:
    assert said(block("Hm, </think> so.", given) + "Hi.", given) == Said("Hi.", thought=True)
    assert said(block("Hm.", given, ended=False), given) == Said("", thought=True, unfinished=True)
    assert said(block(" ", given) + "Hi.", given) == Said("Hi.")


def test_a_request_gives_what_it_asks_and_what_is_begun_but_no_earlier_answer() -> None:
    messages = (Message("user", "Say <think>."), Message("assistant", "[THINK]Hm.[/THINK]Hi."), Message("user", "More"))
    begun = Request("a", messages, Sampling(9), "<thought>")
    assert said("<think> it is, and <thought>", begun.given) == Said("<think> it is, and <thought>")
    assert said("[THINK]Hm.[/THINK]More.", begun.given) == Said("More.", thought=True)
    assert "</seed:think>" in Request("a", (), Sampling(9), turn=(Span("</seed:think>", "text"),)).given


def test_what_shows_nothing_is_no_thought() -> None:
    assert said("<think>\u200b\n</think>Hi.") == Said("Hi.")
    assert ends_closed("<think></think>\u2060\n")


def test_a_stream_of_text_about_tags_is_no_thought() -> None:
    def streamed(given: str) -> str:
        parts = Thoughts(given)
        text = "".join(text for thought, text in parts.step("<think> opens, </think> closes.") if not thought)
        return text + "".join(text for thought, text in parts.step("", last=True) if not thought)

    assert streamed("What is <think>?") == "<think> opens, </think> closes."
    assert streamed("Hi") == "closes."
