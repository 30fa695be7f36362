"""`lingraft serve` before it serves: keys, addresses, names, the port."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from commands import lingraft, one_sentence  # noqa: F401
from endpoints import answerer, client
from lingraft.core.errors import UsageError
from lingraft.serving import systems
from lingraft.serving.endpoint import KEY, client_key
from lingraft.serving.server import bound


@pytest.mark.parametrize("key", ["", " ", "\n", "\t \r\n"])
def test_a_key_that_is_set_but_empty_is_refused(
    key: str,
    lingraft: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY, key)
    one_sentence(lingraft("serve", "--port", 0), 2, KEY, "empty", "unset it")
    one_sentence(lingraft("serve", "--port", 0, "--host", "0.0.0.0", "--without-key"), 2, KEY, "empty")


def test_a_key_and_asking_without_one_contradict_each_other(lingraft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    one_sentence(lingraft("serve", "--port", 0, "--without-key"), 2, KEY, "leave out --without-key")


def test_keys_are_taken_without_the_line_end_of_their_file() -> None:
    assert client_key({}) == ""
    assert client_key({KEY: "secret\n"}) == "secret"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "box.example"])
def test_others_may_ask_without_a_key_only_where_that_is_said(
    host: str,
    lingraft: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    one_sentence(lingraft("serve", "--port", 0, "--host", host), 2, host, KEY, "--without-key")


def test_without_a_key_names_of_other_pages_lead_nowhere() -> None:
    with client(literal_only=True, own_name="Box.example") as http:
        for host in ("evil.example", "evil.example:8000", "", "[::1", "evil\\@127.0.0.1", "127.0.0.1.evil.example"):
            assert http.get("/v1/models", headers={"Host": host}).status_code == 403, host
        for host in ("192.0.2.7:8000", "[2001:db8::1]:8000", "localhost", "127.0.0.1", "box.example:8000"):
            assert http.get("/v1/models", headers={"Host": host}).status_code == 200, host
    with client(local_only=True) as http:
        assert http.get("/v1/models", headers={"Host": "evil\\@127.0.0.1"}).status_code == 403
    with client(answerer(), key="secret") as http:
        headers = {"Host": "any.example", "Authorization": "Bearer secret"}
        assert http.get("/v1/models", headers=headers).status_code == 200


def test_the_name_of_a_base_holds_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    assert systems._model_name(str(folder)) == "my-model"
    assert systems._model_name(str(tmp_path / "gone" / "other")) == "other"
    assert systems._model_name("org/model") == "org/model"
    monkeypatch.chdir(folder)
    assert systems._model_name(".") == "my-model"
    assert systems._model_name("../my-model") == "my-model"


def test_the_second_of_two_servers_on_one_port_is_refused_before_it_loads_a_model(
    lingraft: Any,
    tmp_path: Path,
) -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            bound("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):  # it listens: who comes waits for the model
            one_sentence(lingraft("serve", "--port", port, "--model", tmp_path / "no"), 2, f"port {port}")
