"""The openai engine and the server it is pointed at: addresses, keys, refusals, models and grafts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lingraft.core.errors import EngineError, UsageError
from lingraft.engines.base import EngineModel
from lingraft.engines.exchange_faults import retry_after
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.openai_http import Patience
from models_support import request, tiny_loaded, with_adapter
from openai_server import FakeServer, choice

LOADED = tiny_loaded()
ASKED = [request("a", "Hi")]
KEY = "sk-secret-123"


def engine(url: str, **params: Any) -> OpenAIEngine:
    settings = {"base_url": url, "backoff": 0.001, "longest_wait": 0.01, "attempts": 2, **params}
    return OpenAIEngine.create(EngineModel.of(LOADED), OpenAIEngine.Params(**settings))


def ok(body: dict[str, Any]) -> dict[str, Any]:
    return choice("ok")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize("name", [None, "MY_KEY"])
def test_the_key_comes_from_the_environment_and_appears_nowhere(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name or "OPENAI_API_KEY", KEY)
    with FakeServer(ok, key=KEY) as server:
        asking = engine(server.url, key_env=name)
        assert [found.text for found in asking.generate(ASKED)] == ["ok"]
        params = OpenAIEngine.Params(base_url=server.url, key_env=name)
        assert KEY not in repr((asking.usage(), OpenAIEngine.identity(params), params.model_dump()))
        server.key = "another"
        with pytest.raises(EngineError) as caught:
            list(engine(server.url, key_env=name).generate(ASKED))
    assert "status 401: wrong key Bearer *** [31m; put the server's key into" in str(caught.value)
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_default_key_goes_to_this_machine_or_over_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert engine("http://[::1]:8000/v1")._key == KEY
    assert engine("https://api.example.org/v1")._key == KEY
    assert engine("http://10.0.0.7:8000/v1")._key == ""
    with pytest.raises(
        ValueError, match=r"OPENAI_API_KEY is sent only over https or to this machine, and not to http:"
    ):
        engine("http://10.0.0.7:8000/v1", key_env="OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://10.0.0.7:8000/v1")
    with pytest.raises(UsageError, match=r"engine.key_env: the key in OPENAI_API_KEY is sent only over https"):
        engine(None, key_env="OPENAI_API_KEY")
    with pytest.raises(UsageError, match="the environment variable NO_SUCH_KEY is not set"):
        engine("http://127.0.0.1/v1", key_env="NO_SUCH_KEY")


def test_a_redirect_is_not_followed() -> None:
    def moved(body: dict[str, Any]) -> dict[str, Any]:
        return {"error": "moved", "status": 307, "headers": {"Location": other.url}}

    with FakeServer(ok) as other, FakeServer(moved) as server:
        with pytest.raises(EngineError, match=r"status 307: moved; it points to .*, which is not followed"):
            list(engine(server.url).generate(ASKED))
        assert other.bodies == []


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (400, {"message": "maximum context length is 8"}, "maximum context length is 8; change the request"),
        (403, "no", "no; the key may not do this"),
        (404, {"message": "no such model"}, "no such model; check engine.base_url"),
        (422, {"detail": "bad " + "x" * 1000}, "x{200}[.]{3}; change the request"),
        (429, {"message": "pay", "code": "insufficient_quota"}, "pay; add credit"),
    ],
)
def test_a_refusal_is_not_tried_again(status: int, error: Any, remedy: str) -> None:
    with (
        FakeServer(lambda _: {"status": status, "error": error}) as server,
        pytest.raises(EngineError, match=rf"request 'a': http://.* refused it with status {status}: .*{remedy}"),
    ):
        list(engine(server.url).generate(ASKED))
    assert len(server.bodies) == 1


def test_no_server_is_told_at_once() -> None:
    with FakeServer(ok) as server:
        url = server.url
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"no server answers at http://127.0.0.1:\d+/v1 .* engine.base_url"):
        list(engine(url, attempts=1000, backoff=1000.0, longest_wait=10_000.0).generate(ASKED))
    assert time.monotonic() - start < 900  # without the first wait


@pytest.mark.parametrize(
    ("models", "complaint"),
    [((), r"lists 0 models; name one"), (("one", "two"), r"lists 2 models \(one, two\); name one as engine.model")],
)
def test_the_model_is_named_or_the_only_one(models: tuple[str, ...], complaint: str) -> None:
    with FakeServer(ok, models=models) as server:
        with pytest.raises(EngineError, match=complaint):
            list(engine(server.url).generate(ASKED))
        list(engine(server.url, model="two").generate(ASKED))
    assert [body["model"] for body in server.bodies] == ["two"]


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"base_url": "ftp://host/v1"}, "not an address"),
        ({"base_url": "localhost:8000"}, "not an address"),
        ({"base_url": "https://user:secret@host/v1"}, "may hold no user"),
        ({"base_url": "https://host/v1?key=secret"}, "may hold no user"),
        ({"extra_body": {"temperature": 1}}, "'temperature' is set by the engine itself"),
        ({"budget": 1.0}, "a budget needs price_prompt"),
        ({"concurrency": 0}, "greater than or equal to 1"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        OpenAIEngine.Params(**params)


def test_further_fields_go_with_every_request() -> None:
    with FakeServer(ok) as server:
        list(engine(server.url, extra_body={"priority": 3}, limit_field="max_completion_tokens").generate(ASKED))
    assert server.bodies[0]["priority"] == 3
    assert server.bodies[0]["max_completion_tokens"] == 12
    assert "max_tokens" not in server.bodies[0]


def test_identity_is_what_decides_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(**params: Any) -> dict[str, Any]:
        return OpenAIEngine.identity(OpenAIEngine.Params(**params))

    named = identity(model="m", base_url="http://127.0.0.1:1/v1")
    moved = {"base_url": "https://host:2/v1", "key_env": "A_KEY"}
    assert named == identity(model="m", **moved, concurrency=1, timeout=5, attempts=3)
    for changed in (
        {"model": "n"},
        {"api": "chat"},
        {"extra_body": {"a": 1}},
        {"prompt": "text"},
        {"grafts": {"*": "g"}},
    ):
        assert identity(**{"model": "m", **changed}) != named
    assert identity(base_url="http://host:1/v1") != identity(base_url="http://host:2/v1")  # which model is unknown
    before = identity()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host:3/v1/")
    assert identity() == identity(base_url="http://host:3/v1") != before


def test_a_wait_grows_has_a_bound_and_follows_the_server() -> None:
    patience = Patience(backoff=1.0, longest_wait=60.0)
    for attempt, most in ((1, 1), (2, 2), (5, 16), (9, 60), (900, 60)):
        waits = [patience.wait(attempt, 0.0) for _ in range(50)]
        assert most / 2 <= min(waits) < max(waits) <= most
    assert patience.wait(1, 20.0) == 20.0
    assert patience.wait(1, 1e9) == 60.0
    assert retry_after("17") == 17.0
    assert retry_after("1.5") == 1.5
    past, future = "Wed, 21 Oct 2015 07:28:00 GMT", "Sun, 01 Jan 2090 00:00:00 GMT"
    assert retry_after(past) == 0.0
    assert abs(retry_after(future) - (3_786_912_000 - time.time())) < 5  # seconds from 1970 to 2090
    for unclear in ("", "soon", "nan", "inf", "-5", "99999999999999999999", "Mon, 99 Foo"):
        assert retry_after(unclear) == 0.0


def adapter(folder: Path, seed: int) -> Path:
    loaded = tiny_loaded()
    with_adapter(loaded.model, seed=seed).save_pretrained(folder)
    return folder


def test_a_graft_is_asked_for_by_its_name_there(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one", 1), adapter(tmp_path / "two", 2)
    with FakeServer(ok) as server:
        named = engine(server.url, grafts={str(one): "first"})
        list(named.generate(ASKED, one))
        list(named.generate(ASKED))
        with pytest.raises(EngineError, match=r"is not known to serve the graft .*two; serve it"):
            list(named.generate(ASKED, two))
        anything = engine(server.url, grafts={"*": "any"})
        list(anything.generate(ASKED, one))
        with pytest.raises(EngineError, match="names one graft for any folder, but both"):
            list(anything.generate(ASKED, two))
    assert [body["model"] for body in server.bodies] == ["first", "tiny", "any"]


def test_vllm_loads_a_graft_under_the_hash_of_its_content_and_lets_it_go(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one", 1), adapter(tmp_path / "two", 2)
    there: list[dict[str, str]] = []

    def noting(body: dict[str, Any]) -> dict[str, Any]:
        there.append(dict(server.grafts))
        return choice("ok")

    with FakeServer(noting) as server:
        loading = engine(server.url, load_grafts=True)
        for graft in (one, two, one):
            list(loading.generate(ASKED, graft))
            assert server.grafts == {}
        names = [body["model"] for body in server.bodies]
        assert names[0] == names[2] != names[1]
        assert there == [{name: str(folder)} for name, folder in zip(names, (one, two, one), strict=True)]
        server.grafts[names[0]] = str(one)  # left by a run that was killed
        list(loading.generate(ASKED, one))
        assert server.grafts == {names[0]: str(one)}
    with (
        FakeServer(ok, owned_by="llamacpp") as server,
        pytest.raises(EngineError, match=r"cannot load the graft .*only vLLM can"),
    ):
        list(engine(server.url, load_grafts=True).generate(ASKED, one))
