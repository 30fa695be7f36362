"""The page: what it may load and run, what it asks for, and that a translation is asked for as the command asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from endpoints import CAPS, tiny
from lingraft.data.glossary import Term
from lingraft.serving.answerer import Answerer
from lingraft.serving.app import Api
from lingraft.serving.page import KINDS, Page
from lingraft.serving.page_terms import MOST_TERMS, read_terms
from lingraft.serving.queue import RequestQueue
from lingraft.serving.request import ApiError
from lingraft.serving.systems import ServedSystem
from lingraft.translation.blocks import document_blocks
from lingraft.translation.wording import ask as worded
from page_systems import INFO

FOLDER = Path(str(files("lingraft.shipped").joinpath("page")))
NAMES = sorted(path.name for path in FOLDER.iterdir())


@contextmanager
def served(page: bool = True, **options: Any) -> Iterator[TestClient]:
    loaded = tiny()
    systems = [ServedSystem("mine", loaded, None, INFO), ServedSystem("base", loaded, None, None)]
    answers = {one.name: Answerer(one.loaded, None, CAPS) for one in systems}
    with ExitStack() as stack:
        desk = RequestQueue()
        stack.callback(desk.close)
        own = Page(systems, 24) if page else None
        api = Api(answers.pop("mine"), "mine", desk, beside=answers, page=own, **options)
        yield stack.enter_context(TestClient(api.app(), base_url="http://127.0.0.1", raise_server_exceptions=False))


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "mine", "text": text, "source": "de", "target": "en", **fields}


def test_all_files_are_served_under_a_policy_that_runs_this_servers_scripts_alone() -> None:
    assert {"index.html", "page.css", "diff.js", "icon.svg"} < set(NAMES)
    with served() as http:
        for name in ["", *(f"page/{name}" for name in NAMES)]:
            found = http.get(f"/{name}")
            assert found.status_code == 200, name
            assert found.content == (FOLDER / (name.removeprefix("page/") or "index.html")).read_bytes()
            kind = KINDS[Path(name or "index.html").suffix]
            assert found.headers["content-type"] == f"{kind}; charset=utf-8"
            assert found.headers["x-content-type-options"] == "nosniff"
            policy = dict(part.strip().split(" ", 1) for part in found.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            for what in ("script-src", "style-src", "img-src", "connect-src"):
                assert policy[what] == "'self'"
            for what in ("base-uri", "form-action", "frame-ancestors", "trusted-types"):
                assert policy[what] == "'none'"
            assert policy["require-trusted-types-for"] == "'script'"
        for name in ("page/none.js", "page/..%2fapp.py", "page/%2e%2e/app.py", "page/sub/page.js", "page/"):
            assert http.get(f"/{name}").status_code == 404, name
    with served(page=False) as http:
        assert [http.get(path).status_code for path in ("/", "/page/page.js", "/page/systems")] == [404] * 3


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_address_or_makes_markup_of_text(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8")
    known = "http://www.w3.org/2000/svg"
    assert not re.search(r"(?:[a-z]+:)?//[a-z0-9]", re.sub(r"^\s*//.*$", "", text.replace(known, ""), flags=re.M)), name
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", text)
    assert not re.search(r"\son[a-z]+=|style=|<style|javascript:|@import|<script(?! src=)", text)
    assert not re.search(r"(?:src|href)=\"(?!/page/|#main\")", text)


def test_the_files_themselves_need_no_key_and_all_else_does() -> None:
    with served(key="secret") as http:
        assert http.get("/").status_code == http.get("/page/page.js").status_code == 200
        assert http.get("/page/systems").status_code == 401
        for path in ("/page/parts", "/page/translation"):
            assert http.post(path, json=asked("Hallo")).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert http.get("/page/systems", headers=headers).status_code == 200
    with served(local_only=True) as http:
        assert http.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_systems_and_languages() -> None:
    with served() as http:
        found = http.get("/page/systems").json()
    mine, base = found["systems"]
    own = {"name": "mine", "graft": True, "method": "radis", "chain": [], "directions": [["de", "en"]]}
    assert mine == own
    assert [base[key] for key in ("name", "graft", "directions")] == ["base", False, []]
    names = [one["name"] for one in found["languages"]]
    assert names == sorted(names)
    assert {"code": "de", "name": "German"} in found["languages"]


def test_a_text_is_asked_for_in_each_systems_own_words() -> None:
    with served() as http:
        (mine,) = http.post("/page/parts", json=asked("Guten Tag.")).json()["parts"]
        (base,) = http.post("/page/parts", json=asked("Guten Tag.", model="base")).json()["parts"]
    assert mine == {
        "text": "Guten Tag.",
        "end": "",
        "translate": True,
        "prompt": "Into English: Guten Tag.",
        "stop": ["\nNote:"],
    }
    (message,) = worded(
        "Translate the following text from {source_name} into {target_name}.\n\n{source}", "Guten Tag.", "de", "en"
    )
    assert (base["prompt"], base["stop"]) == (message.content, [])


def test_a_document_is_cut_as_the_command_cuts_it() -> None:
    text = (
        "\ufeff# Titel\r\n\r\nErster Satz. Zweiter Satz, der länger ist.\r\nNoch eine Zeile.\r\n\r\n```\na = 1\n```\n"
    )
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")
    expected = document_blocks(lines, 12, tiny().renderer.count, "de", "en")
    with served() as http:
        found = http.post("/page/parts", json=asked(text, document=True)).json()["parts"]
    assert [(one["text"], one["end"], one["translate"]) for one in found] == [
        (one.text, one.end, one.translate) for one in expected
    ]
    assert sum(one["translate"] for one in found) > 2
    assert all(("prompt" in one) == one["translate"] for one in found)


def test_terms_that_occur_stand_in_the_request_and_are_looked_for_in_the_answer() -> None:
    terms = "Vertrag = contract\nLingraft =\nHaus = house"
    with served() as http:
        (part,) = http.post("/page/parts", json=asked("Die Verträge von Lingraft.", terms=terms)).json()["parts"]
        listed = "Vertrag = contract\nLingraft = Lingraft (keep as it is)"
        assert part["prompt"].endswith(f"\n{listed}\n\nInto English: Die Verträge von Lingraft.")
        fields = {"terms": terms, "answer": "The treaties of Lingraft.\nNote: none."}
        found = http.post("/page/translation", json=asked("Die Verträge von Lingraft.", **fields)).json()
    assert found == {"text": "The treaties of Lingraft.", "failure": "", "terms": 2, "missing": ["contract"]}


@pytest.mark.parametrize(
    ("answer", "finish", "text", "failure"),
    [
        (" Good day. ", "stop", "Good day.", ""),
        ("Good", "length", "Good", "unfinished"),
        ("", "stop", "", "empty"),
        ("Good day.\n\nIt greets.", "stop", "Good day.", "extra_text"),
    ],
)
def test_a_translation_is_taken_out_of_an_answer_by_the_commands_rules(
    answer: str, finish: str, text: str, failure: str
) -> None:
    with served() as http:
        found = http.post("/page/translation", json=asked("Guten Tag.", answer=answer, finish_reason=finish)).json()
    assert (found["text"], found["failure"]) == (text, failure)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "other"}, 404, "'other' does not exist"),
        ({"source": "xx-no"}, 400, "unknown language"),
        ({"target": "deu"}, 400, "same language"),
        ({"text": " \n"}, 400, "no text"),
        ({"terms": "a = b\nVertrag"}, 400, "glossary, line 2: write"),
        ({"terms": "a = b\n\nA = c"}, 400, "glossary, line 3: line 1"),
        ({"more": 1}, 400, "more"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(fields: dict[str, Any], status: int, message: str) -> None:
    with served() as http:
        found = http.post("/page/parts", json=asked(**{"text": "Guten Tag.", **fields}))
    assert found.status_code == status
    assert message in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("a = b", [Term("a", "b")]),
        (" two  words=zwei Wörter \n\nkept =", [Term("two words", "zwei Wörter"), Term("kept", "kept")]),
        ("a=b=c\na = b=c", [Term("a", "b=c")]),
    ],
)
def test_terms_by_line(text: str, terms: Sequence[Term]) -> None:
    assert list(read_terms(text).terms) == terms


def test_terms_have_bounds() -> None:
    assert len(read_terms("\n".join(f"t{n} = x" for n in range(MOST_TERMS))).terms) == MOST_TERMS
    for text in ("= b", "a" * 201 + " = b", "\n".join(f"t{n} = x" for n in range(MOST_TERMS + 1))):
        with pytest.raises(ApiError, match="glossary, line"):
            read_terms(text)
