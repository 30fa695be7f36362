"""`lingraft chat` with tiny models on disk: turns from standard input, histories, Ctrl-C, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chain_grafts import base, chained, make_graft  # noqa: F401
from commands import lingraft, one_sentence  # noqa: F401
from lingraft.cli import chat as commands_chat
from lingraft.conversation.chain import Caps, markers_in
from lingraft.conversation.session import ChatOptions, Conversation
from lingraft.conversation.writing import Done
from lingraft.core.errors import UsageError
from lingraft.core.printable import printable
from lingraft.data.records import Message
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from models_support import save_tiny_model

SMALL = ("--max-query-tokens", 5, "--max-english-tokens", 6, "--max-native-tokens", 7)


def test_two_turns_through_the_chain(lingraft: Any, chained: Path) -> None:
    result = lingraft("chat", "--graft", chained, "--json", *SMALL, stdin="สวัสดี\n\nHow is the weather in Bangkok?\n")
    assert result.code == 0, result.err
    first, second = map(json.loads, result.out.splitlines())
    assert [first["turn"], first["user"], first["language"]] == [1, "สวัสดี", "th"]
    assert [segment["role"] for segment in first["segments"]] == ["english_query", "english_reply", "native_reply"]
    assert first["answer"] == first["segments"][2]["text"] or not first["segments"][2]["text"]
    assert first["segments"][0]["forced"] is True
    assert first["failure"] == "no_chain"
    assert 0 < first["seconds"]["first_token"] <= first["seconds"]["first_visible"] <= first["seconds"]["total"]
    assert (second["language"], [segment["role"] for segment in second["segments"]]) == ("en", ["english_reply"])
    assert second["prompt_tokens"] > first["prompt_tokens"]


def test_the_chain_is_shown_on_demand(lingraft: Any, chained: Path) -> None:
    asked = {"stdin": "สวัสดี\n"}
    (turn,) = map(json.loads, lingraft("chat", "--graft", chained, "--json", *SMALL, **asked).out.splitlines())
    plain = lingraft("chat", "--graft", chained, "--stats", *SMALL, **asked)
    assert plain.out == f"{printable(turn['answer'], None, lines=True)}\n"
    assert "first text after" in plain.err
    assert "query + " in plain.err
    assert "; no_chain" in plain.err
    assert "was cut" not in plain.err
    assert plain.err.splitlines()[-1] == "1 answer; failures: 1 no_chain"
    cut = lingraft("chat", "--graft", chained, *SMALL[:4], "--max-native-tokens", 1, **asked)
    assert "the answer was cut at --max-native-tokens" in cut.err
    shown = lingraft("chat", "--graft", chained, "--show-chain", *SMALL, **asked).out
    query, english, native = (printable(segment["text"], None, lines=True) for segment in turn["segments"])
    assert shown == f"[query, put] {query}\n[English, put] {english}\n[native, put] {native}\n"


def test_commands_within_a_conversation(lingraft: Any, chained: Path) -> None:
    result = lingraft("chat", "--graft", chained, "--json", *SMALL, stdin="สวัสดี\n/reset\n/help\nสวัสดี\n/quit\nสวัสดี\n")
    first, second = map(json.loads, result.out.splitlines())
    assert first["prompt_tokens"] == second["prompt_tokens"]
    assert first["answer"] == second["answer"]
    assert "A new conversation." in result.err
    assert "/quit ends" in result.err


def test_a_base_and_a_direct_graft_answer_directly(lingraft: Any, base: Path, tmp_path: Path) -> None:
    graft = make_graft(base, tmp_path, "direct")
    for where in (["--model", base], ["--graft", graft]):
        result = lingraft("chat", *where, "--json", *SMALL[4:], stdin="สวัสดี\n")
        assert result.code == 0, result.err
        turn = json.loads(result.out)
        assert [segment["role"] for segment in turn["segments"]] == ["text"]
        assert turn["segments"][0]["tokens"] <= 7
        assert turn["answer"] == turn["segments"][0]["text"]
        for option in (SMALL[:2], SMALL[2:4], ("--show-chain",), ("--language", "th")):
            refused = lingraft("chat", *where, *option, stdin="")
            one_sentence(refused, 2, f"{option[0]} has no effect without a graft with a translation chain of thought")


def test_history_is_in_english_for_the_chain_and_as_it_was_without(base: Path) -> None:
    loaded = load_model(find_model(str(base)), "fp32")
    options = ChatOptions(caps=Caps(5, 6, 7), system="Be short.")
    talk = Conversation(loaded, markers_in(loaded.renderer), options)
    *_, first = talk.ask("สวัสดี")
    assert isinstance(first, Done)
    *_, second = talk.ask("2 + 2")  # tells no language: that of the turn before
    assert isinstance(second, Done)
    assert second.lang == "th"
    texts = {segment.role: segment.text for segment in first.segments}
    assert all(texts.values())
    system, user = Message("system", "Be short."), Message("user", "2 + 2")
    english = [Message("user", texts["english_query"]), Message("assistant", texts["english_reply"])]
    assert second.timing.prompt_tokens == len(loaded.renderer.prompt_ids([system, *english, user]).ids)
    assert [message.content for message in talk.messages] == ["Be short.", "สวัสดี", first.text, "2 + 2", second.text]

    direct = Conversation(loaded, None, ChatOptions(caps=Caps(native=7)))
    *_, answer = direct.ask("สวัสดี")
    assert isinstance(answer, Done)
    *_, again = direct.ask("2 + 2")
    assert isinstance(again, Done)
    native = [Message("user", "สวัสดี"), Message("assistant", answer.text), user]
    assert again.timing.prompt_tokens == len(loaded.renderer.prompt_ids(native).ids)


class Terminal:
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_ctrl_c_ends_a_reply_and_at_the_prompt_the_program(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["stopped", "1" * 3000, "/rest", "/usr/bin?", KeyboardInterrupt()])
    ask = Conversation.ask

    def type_(prompt: str) -> str:
        line = next(typed)
        if isinstance(line, KeyboardInterrupt):
            raise line
        return line

    def interrupted(self: Conversation, text: str, to: str | None = None) -> Any:
        for number, event in enumerate(ask(self, text)):
            if text == "stopped" and number == 1:
                raise KeyboardInterrupt
            yield event

    monkeypatch.setattr("builtins.input", type_)
    monkeypatch.setattr(commands_chat.sys, "stdin", Terminal())
    monkeypatch.setattr(Conversation, "ask", interrupted)
    commands_chat.chat_command(None, str(base), ChatOptions(caps=Caps(native=5), as_json=True), False)
    captured = capsys.readouterr()
    assert [json.loads(line)["user"] for line in captured.out.splitlines()] == ["/usr/bin?"]
    assert "There is no command /rest. /reset begins anew" in captured.err
    assert captured.err.count("> ") == 5  # not among the data on stdout
    assert "this turn is forgotten" in captured.err
    assert "begin a new one" in captured.err


def test_mistakes_are_one_sentence(lingraft: Any, base: Path, chained: Path, tmp_path: Path) -> None:
    one_sentence(lingraft("chat", "--graft", tmp_path / "no"), 1, "there is no graft")
    one_sentence(lingraft("chat", "--model", tmp_path / "no"), 1, "there is no model")
    one_sentence(lingraft("chat", "--model", base, "--language", "th"), 2, "--language")
    one_sentence(lingraft("chat", "--graft", chained, "--language", "fr"), 2, "'fr'", "th, de")
    one_sentence(lingraft("chat", "--model", base, stdin=b"\xff\n"), 1, "line 1", "UTF-8")
    one_sentence(lingraft("chat", "--model", base, stdin="1" * 3000), 1, "begin a new one")
    unmarked = make_graft(save_tiny_model(tmp_path / "unmarked"), tmp_path / "graft", "tcot")
    one_sentence(lingraft("chat", "--graft", unmarked), 1, "has no markers")
    with pytest.raises(UsageError, match="--language"):
        Conversation(load_model(find_model(str(base)), "fp32"), None, ChatOptions(language="th"))
