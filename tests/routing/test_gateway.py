"""The folder for vLLM and its gateway, before a server that stands in for vLLM: routes, streams, refusals."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import lingraft as lg
from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.models.adapter import read_parts
from lingraft.models.files import find_model
from lingraft.translation.wording import DEFAULT, ask
from processes import HANGING

TRANSLATION = ask(DEFAULT, "Guten Tag.", "de", "en")[0].content


class StandIn(BaseHTTPRequestHandler):
    """Answers with what it was asked; a stream waits for `go` after its first event."""

    go = threading.Event()
    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._send({"path": self.path, "key": self.headers.get("Authorization")})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if not body.get("stream"):
            self._send({"model": body["model"]}, 200 if body["model"] != "broken" else 500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: one\n\n")
        self.wfile.flush()
        self.go.wait(HANGING)
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def graft(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


@pytest.fixture(scope="module")
def folder(graft: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "routed"
    lg.export(graft, out, route=True)
    return out


@pytest.fixture(scope="module")
def upstream() -> Iterator[ThreadingHTTPServer]:
    StandIn.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    StandIn.go.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def port(folder: Path, upstream: ThreadingHTTPServer) -> Iterator[int]:
    address = f"http://127.0.0.1:{upstream.server_address[1]}"
    command = [sys.executable, str(folder / "gateway.py"), "--upstream", address, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r":(\d+)/v1", process.stderr.readline())
        assert found is not None
        yield int(found[1])
        process.kill()


def request(port: int, body: Any, method: str = "POST", path: str = "/v1/chat/completions", **headers: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(
        method, path, data if method == "POST" else None, {"Content-Type": "application/json", **headers}
    )
    return connection.getresponse()


def user(text: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize(
    ("body", "model", "route"),
    [
        (user("Why is the sky blue?"), "base", "base"),
        (user(TRANSLATION), "graft", "graft"),
        (user([{"type": "text", "text": TRANSLATION}], model="auto"), "graft", "graft"),
        (user("Why?", model="", lingraft={"route": "graft"}), "graft", "graft"),
        (user(TRANSLATION, lingraft={"route": "base"}), "base", "base"),
        (user(TRANSLATION, model="base"), "base", "base"),
        (user("Why?", model="other"), "other", None),
    ],
)
def test_each_request_goes_where_it_belongs(port: int, body: Any, model: str, route: str | None) -> None:
    response = request(port, body)
    assert (response.status, json.loads(response.read())) == (200, {"model": model})
    assert response.headers.get("X-Lingraft-Route") == route
    passed = StandIn.asked[-1]
    assert "lingraft" not in passed
    assert passed["messages"] == body["messages"]


def test_a_stream_passes_through_as_it_is_written(port: int) -> None:
    StandIn.go.clear()
    response = request(port, user(TRANSLATION, stream=True))
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.read1(100) == b"data: one\n\n"  # while the rest is not written yet
    StandIn.go.set()
    assert response.read() == b"data: [DONE]\n\n"


def test_what_tells_of_the_server_and_its_failures_pass_through(port: int) -> None:
    found = json.loads(request(port, b"", "GET", "/v1/models", Authorization="Bearer k").read())
    assert found == {"path": "/v1/models", "key": "Bearer k"}
    assert request(port, user("a", model="broken")).status == 500


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        ([], {}, 400),
        ({"messages": "Hi"}, {}, 400),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, {}, 400),
        (user("Hi", lingraft={"route": "both"}), {}, 400),
        (user("Hi", model="base", lingraft={"route": "graft"}), {}, 400),
        (user("Hi"), {"Content-Type": "text/plain"}, 415),
        (user("Hi"), {"Host": "evil.example"}, 403),
        (b"", {"Content-Length": "99999999999"}, 413),
        (b"", {"Content-Length": "-1"}, 413),
        (b"", {"Content-Length": "x"}, 411),
    ],
)
def test_what_it_does_not_take_is_refused_in_a_sentence(port: int, body: Any, headers: Any, status: int) -> None:
    before = len(StandIn.asked)
    response = request(port, body, **headers)
    assert response.status == status
    assert json.loads(response.read())["error"]["message"]
    assert len(StandIn.asked) == before


def test_other_paths_are_not_passed_on(port: int) -> None:
    assert request(port, user("Hi"), path="/v1/load_lora_adapter").status == 404
    assert request(port, b"", "GET", "/metrics").status == 404


def test_a_server_that_does_not_answer_is_said(folder: Path, base: Path) -> None:
    command = [sys.executable, str(folder / "gateway.py"), "--port", "0", "--upstream", "http://127.0.0.1:9"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r":(\d+)/v1", process.stderr.readline())
        assert found is not None
        assert request(int(found[1]), user("Hi")).status == 502
        process.kill()
    open_to_all = subprocess.run([*command[:2], "--host", "0.0.0.0"], capture_output=True, text=True, timeout=20)
    assert open_to_all.returncode == 2
    assert "--without-key" in open_to_all.stderr


def test_the_folder_holds_what_vllm_loads(folder: Path, graft: Path, base: Path) -> None:
    names = {"graft", "gateway.py", "wordings.py", "route.json", "serve.sh", "README.md"}
    found = {path.name for path in folder.iterdir()}
    assert found - {"__pycache__"} == names  # which tests that start the gateway leave
    own, written = read_parts(graft), read_parts(folder / "graft")
    assert own.factors.keys() == written.factors.keys()
    for name, one in own.factors.items():
        torch.testing.assert_close(written.factors[name].b @ written.factors[name].a, one.b @ one.a)
    script = (folder / "serve.sh").read_text("utf-8")
    assert subprocess.run(["sh", "-n", str(folder / "serve.sh")], timeout=HANGING).returncode == 0
    served = re.search(r"vllm serve (\S+)", script)
    assert served  # a copy of the base elsewhere on this machine does as well
    assert find_model(served[1]).sha256 == find_model(str(base)).sha256
    assert "--max-lora-rank 8" in script
    assert "--lora-modules graft=./graft" in script


def test_the_command_exports_it_and_refuses_what_vllm_cannot_load(
    lingraft: Any, graft: Path, base: Path, tmp_path: Path
) -> None:
    done = lingraft("export", "--graft", graft, "--out", tmp_path / "a", "--route")
    assert (done.code, (tmp_path / "a" / "gateway.py").is_file()) == (0, True), done.err
    one_sentence(lingraft("export", "--graft", graft, "--out", tmp_path / "a", "--route"), 2, "exists already")
    words = ("--graft", graft, "--out", tmp_path / "b", "--route", "--dtype", "fp32")
    one_sentence(lingraft("export", *words), 2, "--dtype has no effect with --route")
    chained = make_graft(base, tmp_path / "c", "tcot")
    one_sentence(lingraft("export", "--graft", chained, "--out", tmp_path / "d", "--route"), 2, "cannot be routed to")
