"""Requests for translations within the server's limits: the queue, clients that leave, bodies that are none."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from clients import Raw, request, split
from endpoints import answerer, served, until
from lingraft.serving.bodies import Fields, read_fields
from lingraft.serving.request import ApiError
from processes import HANGING
from translation_endpoints import Rule, translations


class Waiting(Rule):
    """Translates when it is let."""

    def __init__(self) -> None:
        super().__init__(self._upper)
        self.begun, self.go = threading.Event(), threading.Event()

    def _upper(self, text: str) -> str:
        self.begun.set()
        assert self.go.wait(HANGING)
        return text.upper()


def translate(texts: list[str], path: str = "/translate") -> bytes:
    names = ("q", "source", "target") if path == "/translate" else ("text", "source_lang", "target_lang")
    return request(
        json.dumps(dict(zip(names, (texts, "de", "en"), strict=True))).encode(), "Connection: close", path=path
    )


def test_a_client_that_leaves_ends_the_work_at_the_next_part() -> None:
    rule = Waiting()
    with served(answerer(chain=False), translations=translations(rule)) as (url, desk):
        with Raw(url) as client:
            client.send(translate([f"Text {chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(200)]))
            assert rule.begun.wait(HANGING)
            client.reset()
            until(lambda: desk.inside == 0)
        rule.go.set()
        with Raw(url) as client:
            client.send(translate(["Ja"]))
            assert split(client.rest())[0] == 200  # behind what was left
    assert len(rule.asked) < 100


@pytest.mark.parametrize(("path", "name"), [("/translate", "error"), ("/v2/translate", "message")])
def test_where_the_queue_is_full_it_is_said_in_the_form_of_the_service(path: str, name: str) -> None:
    rule = Waiting()
    with (
        served(answerer(chain=False), waiting=0, translations=translations(rule)) as (url, _),
        Raw(url) as first,
        Raw(url) as second,
    ):
        first.send(translate(["Ja"], path))
        assert rule.begun.wait(HANGING)
        status, headers, body = split(second.send(translate(["Nein"], path)).rest())
        rule.go.set()
        assert split(first.rest())[0] == 200
    assert status == 503
    assert "retry-after" in headers
    assert "queue is full" in json.loads(body)[name]


def asked(kind: str, query: bytes = b"") -> Request:
    headers = [(b"content-type", kind.encode("latin-1", "replace")), (b"host", b"127.0.0.1")]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": query, "headers": headers})


KINDS = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b"--x", b"\r\n", b' name="q"', b"\r\n\r\n", b"a=b", b"&", b"%zz", b'{"q":', b"1}", b"--"])
    ).map(b"".join),
)


@given(kind=KINDS, body=BODIES, query=st.binary(max_size=20))
def test_what_is_no_body_is_refused_and_nothing_else_happens(kind: str, body: bytes, query: bytes) -> None:
    with suppress(ApiError):
        fields = read_fields(asked(kind, query), body)
        for name in ("q", "a", ""):
            fields.texts(name)
            for as_one in (fields.text, fields.flag, lambda one: fields.part(one, [])):
                with suppress(ApiError):
                    as_one(name)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"a":' + b"[" * 20_000),
        ("application/json", b'{"a":[' + b"0,[]," * 20_000 + b"0]}"),
        ("application/x-www-form-urlencoded", b"a=b&" * 20_000),
        ("multipart/form-data; boundary=x", b"--x" * 20_000),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/json", b"[]"),
        ("text/plain", b"q=a"),
    ],
)
def test_bodies_that_would_hold_the_server_are_refused(kind: str, body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_fields(asked(kind), body)
    assert refused.value.status in (400, 415)


def test_fields_have_their_types() -> None:
    form = Fields({"a": ["1", "2"], "b": "yes", "lingraft.partial": "true"}, False)
    assert (form.text("a"), form.texts("a"), form.flag("b"), form.number("a", 9)) == ("2", ("1", "2"), True, 2)
    assert form.part("lingraft", ["partial"]).flag("partial")
    strict = Fields({"a": ["1"], "b": True, "n": 3, "lingraft": {"rationale": True}}, True)
    assert (strict.flag("b"), strict.number("n", 3)) == (True, 3)
    assert strict.part("lingraft", ["rationale"]).flag("rationale")
    assert Fields({"lingraft.model": "a"}, True).part("lingraft", ["model"]).text("model") == "a"
    wrong: list[Any] = [
        lambda: strict.text("a"),
        lambda: strict.number("n", 2),
        lambda: strict.flag("a"),
        lambda: strict.part("a", []),
        lambda: strict.part("lingraft", ["model"]),
    ]
    for one in wrong:
        with pytest.raises(ApiError):
            one()
