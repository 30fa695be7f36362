"""One model in memory that answers as the graft and as its base: in chats, from Python, and behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from endpoints import client
from lingraft.conversation.chain import Caps
from lingraft.conversation.opening import open_model
from lingraft.conversation.session import ChatOptions
from lingraft.models.graft import find_graft, read_info
from lingraft.routing.base import DECIDERS, Lessons, RouteInputs
from lingraft.routing.router import Router, decider_of
from lingraft.routing.stored import write_route
from lingraft.serving.answerer import Answerer
from lingraft.translation.wording import DEFAULT, ask

TRANSLATION = ask(DEFAULT, "Guten Tag.", "de", "en")[0].content
QUESTION = "What is the capital of France?"
OPTIONS = ChatOptions(caps=Caps(5, 6, 8))


@pytest.fixture(scope="module")
def graft(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


def first(text: str, **opened: Any) -> str:
    """The answer to a first turn, as one model gives it."""
    with lg.open_graft(quiet=True, **opened) as one:
        return one.chat(OPTIONS).ask(text).text


def test_each_turn_is_answered_by_the_one_or_the_other_to_the_letter(base: Path, graft: Path) -> None:
    asked = (QUESTION, TRANSLATION)
    of_base, of_graft = ([first(text, **one) for text in asked] for one in ({"model": base}, {"graft": graft}))
    assert all(one != other for one, other in zip(of_base, of_graft, strict=True))
    with lg.open_graft(graft, route="form", quiet=True) as opened:
        for _ in range(2):  # the graft is on again, and off again
            for number, (text, route) in enumerate(zip(asked, ("base", "graft"), strict=True)):
                answer = opened.chat(OPTIONS).ask(text)
                assert answer.text == (of_base if route == "base" else of_graft)[number]
                assert answer.done.route == route
        said = opened.chat(OPTIONS).ask(QUESTION, "graft")
        assert (said.text, said.done.route) == (of_graft[0], "graft")
        talk = opened.chat(OPTIONS)
        for text in asked:
            talk.ask(text).text  # noqa: B018
        assert [one.content for one in talk.messages][::2] == list(asked)
        model: Any = opened.loaded()[0].model
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_answer_that_is_left_puts_the_graft_on_again(graft: Path) -> None:
    wanted = first(TRANSLATION, graft=graft)
    with lg.open_graft(graft, route="form", quiet=True) as opened:
        left = opened.chat(OPTIONS).ask(QUESTION)
        next(left)
        next(left)
        left._events.close()  # type: ignore[attr-defined]
        assert opened.chat(OPTIONS).ask(TRANSLATION).text == wanted


def test_a_stored_classifier_is_used_and_one_that_is_lacking_is_said(graft: Path, tmp_path: Path) -> None:
    with pytest.raises(lg.UsageError, match=r"holds no decider 'classifier'.*or route by 'form' or 'caller'"):
        lg.open_graft(graft, route="classifier")
    info = read_info(graft)
    decider = DECIDERS.create({"kind": "classifier", "contrasts": False})
    with open_model(graft, None) as (loaded, _):
        from lingraft.routing.states import prompt_states

        lessons = Lessons(
            pairs=[lg.Pair(f"p{n}", f"Satz {n}.", f"Sentence {n}.", "de", "en") for n in range(12)],
            prompts=[lg.Prompt(f"q{n}", (lg.Message("user", f"Why is {n} odd?"),)) for n in range(12)],
        )
        decider.learn(lessons, RouteInputs(states=lambda requests: prompt_states(loaded, requests)))
    write_route(graft, decider, [DEFAULT], info.base_sha256, {})
    with lg.open_graft(graft, route="classifier", quiet=True) as opened:
        router = opened.router()
        assert router is not None
        assert router.by == "classifier"
        assert router.route(lessons.prompts[0].messages) == "base"
        assert router.route(ask(DEFAULT, "Satz 50.", "de", "en")) == "graft"
    (graft / "route-classifier.json").unlink()


@pytest.mark.parametrize("by", ["form", "caller"])
def test_an_endpoint_says_who_answered_and_takes_the_callers_word(graft: Path, by: str) -> None:
    folder = find_graft(graft)
    with open_model(graft, None) as (loaded, _):
        router = Router(loaded, *decider_of(folder, read_info(folder), by))
        with client(Answerer(loaded, None, Caps(5, 6, 8), router=router)) as http:

            def answered(text: str, **more: Any) -> dict[str, Any]:
                body = {"messages": [{"role": "user", "content": text}], **more}
                response = http.post("/v1/chat/completions", json=body)
                assert response.status_code == 200, response.text
                found: dict[str, Any] = response.json()
                return found

            assert answered(QUESTION)["lingraft"]["route"] == "base"
            assert answered(TRANSLATION)["lingraft"]["route"] == ("graft" if by == "form" else "base")
            chosen = [answered(QUESTION, lingraft={"route": route}) for route in ("graft", "base", "graft")]
            texts = [one["choices"][0]["message"]["content"] for one in chosen]
            assert texts[0] == texts[2] != texts[1]
            assert texts[1] == answered(QUESTION)["choices"][0]["message"]["content"]
            assert [one["lingraft"]["route"] for one in chosen] == ["graft", "base", "graft"]
            body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
            lines = http.post("/v1/chat/completions", json=body).text.splitlines()
            chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
            assert chunks[-1]["lingraft"]["route"] == "base"
            assert http.get("/v1/models").json()["data"][0]["lingraft"] == {"chat": "direct", "route": by}
            wrong = http.post("/v1/chat/completions", json={**body, "lingraft": {"route": "both"}})
            assert wrong.status_code == 400
        with client(Answerer(loaded, None, Caps(5, 6, 8))) as http:
            refused = http.post("/v1/chat/completions", json={**body, "lingraft": {"route": "base"}})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lingraft.route")
            assert "route" not in http.get("/v1/models").json()["data"][0]["lingraft"]


def test_the_chat_command_routes_each_line(lingraft: Any, graft: Path) -> None:
    turns = [QUESTION, f"/graft {QUESTION}", "Translate"]
    result = lingraft("chat", "--graft", graft, "--route", "caller", "--json", "--max-native-tokens", 6,
                      stdin="\n/reset\n".join(turns))  # fmt: skip
    assert result.code == 0, result.err
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [(one["user"], one["route"]) for one in found] == [
        (QUESTION, "base"),
        (QUESTION, "graft"),
        ("Translate", "base"),
    ]
    shown = lingraft("chat", "--graft", graft, "--route", "form", "--stats", "--max-native-tokens", 6, stdin=QUESTION)
    assert "by the base" in shown.err
    plain = lingraft("chat", "--graft", graft, "--json", "--max-native-tokens", 6, stdin=f"/graft {QUESTION}")
    assert "route" not in json.loads(plain.out)


def test_what_cannot_be_routed_is_one_sentence(lingraft: Any, graft: Path, base: Path, tmp_path: Path) -> None:
    for command in (("chat",), ("serve", "--port", 0)):
        for where, words in (
            (("--graft", graft, "--route", "from"), "unknown decider 'from'; did you mean 'form'?"),
            (("--model", base, "--route", "form"), "there is no graft; give one"),
            (
                ("--graft", make_graft(base, tmp_path / str(len(command)), "tcot"), "--route", "form"),
                "cannot be routed to",
            ),
        ):
            one_sentence(lingraft(*command, *where, stdin=""), 2, words)
