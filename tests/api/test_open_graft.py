"""An open graft: translations in the order of the texts, conversations, one thing at a time, grafts of the hub."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import lingraft as lg
from chain_grafts import base, chained  # noqa: F401  (fixtures)
from commands import graft, lingraft, model  # noqa: F401  (fixtures)
from hub import Hub, hub  # noqa: F401  (fixture)
from lingraft.conversation.open_graft import OpenGraft
from lingraft.models import graft as grafts

SCRIPTED = {"kind": "scripted"}


def test_translations_come_in_the_order_of_the_texts(model: Path, graft: Path) -> None:
    texts = ["Guten Tag.", "12:30", "Es regnet. " * 400, "Das Wetter ist schön.", "Guten Tag.", "eins\n\nzwei"]
    with lg.open_graft(graft.parent, engine="transformers", quiet=True) as opened:
        found = opened.translate(texts, max_new_tokens=5)
        again = opened.translate(texts[3:4], source="de", target="en", max_new_tokens=5)
    assert [one.id for one in found] == list("012345")
    assert (found[1].text, found[1].tokens, found[1].failure) == ("12:30", 0, "")  # no letter: copied
    assert (found[2].text, found[2].failure) == ("", "too_long")
    assert found[0].text == found[4].text
    assert 0 < found[0].tokens <= 5
    assert (again[0].text, again[0].tokens) == (found[3].text, found[3].tokens)


def test_documents_are_translated_by_paragraph(model: Path) -> None:
    with lg.open_graft(model=model, engine="scripted", quiet=True) as opened:
        (one,) = opened.translate(["Guten Tag.\n\n12\nEs regnet."], source="de", target="en", document=True)
        lines = one.text.split("\n")
    assert (lines[1], lines[2]) == ("", "12")
    assert lines[0]
    assert lines[3]


def test_what_is_missing_is_said(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lg.open_graft(model=model, engine=SCRIPTED, quiet=True) as opened:
        with pytest.raises(lg.UsageError, match="without a graft there is no direction to go by"):
            opened.translate(["a"])
        info = grafts.GraftInfo.model_construct(method="relevance", directions=[])
        monkeypatch.setattr(opened, "info", info)
        with pytest.raises(lg.UsageError, match="the graft was trained on no pairs, and so has no direction to go by"):
            opened.translate(["a"])
        monkeypatch.undo()
        with pytest.raises(lg.UsageError, match="a list of texts"):
            opened.translate("Guten Tag.", source="de", target="en")
        assert opened.translate([], source="de", target="en") == []
    with pytest.raises(lg.UsageError, match="unknown engine 'tranformers'; did you mean 'transformers'"):
        lg.open_graft(model=model, engine="tranformers")
    with pytest.raises(lg.UsageError, match="batch_token"):
        lg.open_graft(model=model, engine={"kind": "transformers", "batch_token": 1})
    with pytest.raises(lg.ModelError, match="there is no graft at"):
        lg.open_graft(str(tmp_path / "none"))
    with pytest.raises(lg.ModelError, match="cannot fetch 'org/name' from the hub"):
        lg.open_graft("org/name")
    with pytest.raises(lg.ModelError, match="there is no graft at org/name"):
        lg.open_graft(Path("org/name"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_graft_of_the_hub_is_used_as_its_folder_is(
    graft: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, lingraft: Any, model: Path
) -> None:
    files = files_of(graft)
    commit = hub.add("org/my-graft", {**files, "adapter_model.bin": b"a pickle", "report.html": b"<html>"})
    with lg.open_graft("org/my-graft", engine=SCRIPTED, quiet=True) as opened:
        assert opened.graft is not None
        assert sorted(path.name for path in opened.graft.iterdir()) == sorted(files)
        assert opened.graft.name == commit
        assert opened.direction() == ("de", "en")
    hub.repositories["org/my-graft"].commit("main", {"README.md": b"gone"})
    hub.asked.clear()
    text = ("--from", "de", "--to", "en", "--model", model, "--engine", "transformers", "--max-new-tokens", 4)
    here = lingraft("translate", "--graft", graft, *text, stdin="Guten Tag.\n")
    there = lingraft("translate", "--graft", f"org/my-graft@{commit}", *text, stdin="Guten Tag.\n")
    assert (there.code, there.out) == (0, here.out)
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with lg.open_graft(["org/my-graft@" + commit], model=model, engine=SCRIPTED, quiet=True) as opened:
        assert opened.graft is not None
        assert opened.graft.name == commit
    with pytest.raises(lg.ModelError, match="it is not on this machine, and HF_HUB_OFFLINE is set"):
        lg.open_graft("org/another", engine=SCRIPTED)


def test_a_conversation_and_translations_of_one_graft(chained: Path) -> None:
    options = lg.ChatOptions(caps=lg.Caps(5, 6, 7))
    with lg.open_graft(chained, engine="transformers", quiet=True) as opened:
        chat = opened.chat(options)
        events = list(answer := chat.ask("สวัสดี"))
        assert isinstance(events[-1], lg.Done)
        assert answer.text == events[-1].text
        assert [segment.role for segment in answer.segments] == ["english_query", "english_reply", "native_reply"]
        assert [message.role for message in chat.messages] == ["user", "assistant"]
        first = opened.translate(["Guten Tag."], source="de", target="en", max_new_tokens=4)
        assert chat.ask("2 + 2").done.lang == "th"  # goes on after the graft was taken off and put on again
        assert opened.translate(["Guten Tag."], source="de", target="en", max_new_tokens=4) == first
        chat.reset()
        assert chat.ask("สวัสดี").text == answer.text


def test_an_open_graft_does_one_thing_at_a_time(base: Path) -> None:
    with lg.open_graft(model=base, engine="transformers", quiet=True) as opened:
        chat = opened.chat(lg.ChatOptions(caps=lg.Caps(native=5)))
        waiting = chat.ask("Hello")
        next(waiting)
        with pytest.raises(lg.UsageError, match="one thing at a time"):
            opened.translate(["Guten Tag."], source="de", target="en", max_new_tokens=3)
        found: list[list[lg.Translation]] = []
        other = threading.Thread(target=lambda: found.append(translated(opened)))
        other.start()
        assert not found  # it waits for the answer that has begun
        assert waiting.text == chat.messages[-1].content
        other.join()
        assert found == [translated(opened)]
        left = chat.ask("Again")
        next(left)
        del left  # an answer that is left before its end is forgotten, and holds nothing
        assert len(chat.messages) == 2
        assert translated(opened) == found[0]


def translated(opened: OpenGraft) -> list[lg.Translation]:
    return opened.translate(["Guten Tag."], source="de", target="en", max_new_tokens=3)
