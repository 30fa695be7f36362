"""A model that thinks before it answers, in a conversation and on the server: thoughts are no part of the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.conversation.session import ChatOptions, Conversation
from lingraft.conversation.stream import stream_direct
from lingraft.conversation.writing import Done, PartStart, TextDelta
from lingraft.data.records import Message, Segment
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.serving.answerer import Answer, Answerer
from lingraft.serving.request import ChatRequest
from models_support import forced_llama
from template_support import HI, tokenizer_of, turns


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """Writes "[THINK]Hm.[/THINK]X!" and ends."""
    tokenizer = tokenizer_of(turns(), ("[THINK]", "[/THINK]"))
    (line_end,) = tokenizer("\n", add_special_tokens=False).input_ids
    written = tokenizer.convert_tokens_to_ids(["[THINK]", "H", "m", ".", "[/THINK]", "X", "!", "<|im_end|>"])
    model = forced_llama(tokenizer, [line_end, *written])
    return LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, Renderer(tokenizer))


def test_thoughts_are_a_part_that_is_not_shown(loaded: LoadedModel) -> None:
    *events, done = stream_direct(loaded, HI, 20)
    assert isinstance(done, Done)
    assert (done.text, done.state, done.failure) == ("X!", "complete", "")
    assert done.segments == (Segment("thought", "Hm.", 5), Segment("text", "X!", 2))
    shown = [event for event in events if event.visible]
    assert "".join(event.text for event in shown if isinstance(event, TextDelta)) == "X!"
    hidden = [event for event in events if not event.visible]
    assert hidden[0] == PartStart("thought", forced=False, visible=False)
    assert "".join(event.text for event in hidden if isinstance(event, TextDelta)) == "Hm."


def test_thoughts_that_are_cut_are_a_failure(loaded: LoadedModel) -> None:
    *_, done = stream_direct(loaded, HI, 3)
    assert isinstance(done, Done)
    assert (done.text, done.state, done.failure) == ("", "unfinished", "thinking")
    assert [segment.role for segment in done.segments] == ["thought", "text"]


def test_a_conversation_goes_on_without_them(loaded: LoadedModel) -> None:
    talk = Conversation(loaded, None, ChatOptions())
    list(talk.ask("Good day to you"))
    assert talk.messages == [*HI, Message("assistant", "X!")]


def test_the_server_answers_without_them_and_counts_their_tokens(loaded: LoadedModel) -> None:
    *pieces, answer = Answerer(loaded, None).answer(ChatRequest(messages=HI, max_tokens=20))
    assert isinstance(answer, Answer)
    assert (answer.text, answer.finish_reason, answer.hidden) == ("X!", "stop", 5)
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta) and piece.visible) == "X!"
