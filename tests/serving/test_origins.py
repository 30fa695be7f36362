"""Pages of other origins: who may ask from a browser, and who may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from browser import browser, find_browser
from commands import lingraft, one_sentence  # noqa: F401
from endpoints import answerer, asking, client, served
from lingraft.core.errors import UsageError
from lingraft.serving.endpoint import KEY
from lingraft.serving.origins import read_origins
from page_systems import Says
from translation_endpoints import translating

PAGE = "https://cat.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


@contextmanager
def told(origin: str, **options: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    with client(**options) as http:
        yield http, {"Origin": origin}


def test_a_named_page_may_ask_and_read() -> None:
    with told(PAGE, origins=[PAGE]) as (http, origin):
        asked = http.options("/v1/chat/completions", headers={**origin, **PREFLIGHT})
        assert asked.status_code == 200
        assert asked.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        allowed = asked.headers["Access-Control-Allow-Headers"].lower()
        assert all(one in allowed for one in ("authorization", "content-type", "x-stainless-lang"))
        for answered in (
            http.post("/v1/chat/completions", json=asking("one"), headers=origin),
            http.post("/v1/chat/completions", json={"model": "other"}, headers=origin),
            http.get("/nowhere", headers=origin),
        ):
            assert answered.headers["Access-Control-Allow-Origin"] == PAGE, answered
            assert "Access-Control-Allow-Credentials" not in answered.headers
        private = {"Access-Control-Request-Private-Network": "true"}
        local = http.options("/translate", headers={**origin, **PREFLIGHT, **private})
        assert local.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("origins", [[], [PAGE]], ids=["none", "another"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{PAGE}.evil.example", PAGE.replace("s:", ":")])
def test_others_may_not(origins: list[str], origin: str) -> None:
    with told(origin, origins=origins) as (http, headers):
        asked = http.options("/v1/chat/completions", headers={**headers, **PREFLIGHT})
        answered = http.post("/v1/chat/completions", json=asking("one"), headers=headers)
        for response in (asked, answered):
            assert "Access-Control-Allow-Origin" not in response.headers
        assert asked.status_code in (400, 405)


def test_a_page_has_to_send_the_key_as_all_others() -> None:
    with told(PAGE, origins=["*"], key="secret") as (http, origin):
        assert http.get("/v1/models", headers=origin).status_code == 401
        found = http.get("/v1/models", headers={**origin, "Authorization": "Bearer secret"})
        assert (found.status_code, found.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_forms_are_taken_from_the_pages_that_are_named() -> None:
    """A browser sends them without a preflight."""
    for origins, status in (([], 403), ([PAGE], 200), (["*"], 200)):
        with translating(origins=origins) as http:
            asked = {"q": "Hallo", "source": "de", "target": "en"}
            assert http.post("/translate", data=asked, headers={"Origin": PAGE}).status_code == status


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://Cat.Example.org/", PAGE),
        ("https://cat.example.org:443", PAGE),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ("http://[::1]:80/", "http://[::1]"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("moz-extension://0a1b-2c3d", "moz-extension://0a1b-2c3d"),
    ],
)
def test_origins_are_read_as_browsers_write_them(given: str, origin: str) -> None:
    assert read_origins([given, given], with_key=False) == (origin,)


@pytest.mark.parametrize(
    "given", ["", "cat.example.org", f"{PAGE}/path", "null", "https://", f"{PAGE}:99999", "https://a b"]
)
def test_what_is_no_origin_is_refused(given: str, lingraft: Any) -> None:
    one_sentence(lingraft("serve", "--port", 0, "--allow-origin", given), 2, "--allow-origin", "is no origin")


def test_all_pages_may_ask_only_where_a_key_is_needed(lingraft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    one_sentence(lingraft("serve", "--port", 0, "--allow-origin", "*"), 2, "any page", KEY)
    with pytest.raises(UsageError, match="any page"):
        read_origins([PAGE, "*"], with_key=False)
    assert read_origins([PAGE, "*"], with_key=True) == ("*",)


FETCH = """
fetch("{url}/v1/chat/completions", {{
  method: "POST", headers: {{"Content-Type": "application/json"}}, body: JSON.stringify({body})
}}).then((answer) => answer.json()).then((found) => found.choices[0].message.content).catch((error) => error.name)
"""


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on the path: install chromium")
@pytest.mark.parametrize("allowed", [True, False])
def test_in_a_browser(allowed: bool) -> None:
    """The page is one of another port, which is another origin."""
    executable = find_browser()
    assert executable is not None
    with (
        served(answerer()) as (page, _),
        served(Says(str.upper), origins=[page] if allowed else []) as (url, _),
        browser(executable) as opened,
    ):
        opened.go(f"{page}/health")
        asked = FETCH.format(url=url, body='{"messages": [{"role": "user", "content": "hello"}]}')
        assert opened.run(asked) == ("HELLO" if allowed else "TypeError")
