"""A server that speaks the OpenAI protocol, in a thread: answers by a function, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]

CUT_BODY = ("drop_body", "truncated_chunks", "half_json")
STATUS = ("429", "429_date", "500", "502", "503", "504", "408", "409", "425")
STRANGE = ("html", "empty", "deep", "list", "no_choices", "two_choices", "index", "no_text", "no_finish", "no_id")
STRANGE += ("other_finish", "stale", "bad_ids", "too_many_ids", "surrogate", "huge", "gzip")
BROKEN = ("drop", "reset", "drop_headers", "no_http", *CUT_BODY)
FAULTS = (*BROKEN, *STATUS, *STRANGE)
"""Each makes the attempt fail at once. Slow ones: "slow" and "dribble". Harmless: "text_plain", "chunked"."""
STREAM_FAULTS = ("cut", "no_finish", "error_event", "half_event", "bad_ids", "silent")
"""Each spoils an answer that comes as it is written, behind its second event."""


class FakeServer:
    """Serves on a port of 127.0.0.1 for the time of a `with` block.

    Args:
        answer: from a request's body to its answer's, without its id.
        fault: called with the number of the attempt (0, 1, ...) and the body; the fault to commit, or "".
        owned_by: says what kind of server this is.
        key: that clients must present.
        stream: from a request's body to the events of its answer, for requests that want it as it is written.
    """

    def __init__(
        self,
        answer: Answer,
        fault: Callable[[int, dict[str, Any]], str] = lambda number, body: "",
        *,
        owned_by: str = "vllm",
        models: tuple[str, ...] = ("tiny",),
        key: str = "",
        tokenize: Callable[[str], list[int]] | None = None,
        stream: Callable[[dict[str, Any]], Iterator[dict[str, Any]]] | None = None,
    ) -> None:
        self.answer, self.fault, self.owned_by, self.models, self.key = answer, fault, owned_by, models, key
        self.tokenize, self.stream = tokenize, stream
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.committed: list[str] = []
        self.now = self.most = 0
        self.delay = 0.0
        self.grafts: dict[str, str] = {}
        self.connections: list[socket.socket] = []
        self.aborted = threading.Event()
        self.lock = threading.Lock()
        self.last: bytes = b""
        self.free: int | None = None
        """So many answers are given; the others wait for `released`."""
        self.released = threading.Event()
        self.ended = threading.Event()
        self.given = 0
        self.running = False
        self._http = self._listening(0)

    def _listening(self, port: int) -> _Http:
        http = _Http(("127.0.0.1", port), _Handler)
        http.fake = self
        return http

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> FakeServer:
        self._run()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.released.set()
        if self.running:
            self.stop()

    def _run(self) -> None:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.running = True

    def stop(self) -> int:
        """Close the port and every connection; returns the port."""
        port = int(self._http.server_address[1])
        self.running = False
        self._http.shutdown()
        self._http.server_close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        return port

    def start(self, port: int) -> None:
        """Listen again."""
        self._http = self._listening(port)
        self._run()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    fake: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections.append(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        fake = self.server.fake
        if not self._admitted():
            return None
        if self.path != "/v1/models":
            return self._json(404, {"error": {"message": "no such path"}})
        cards = [{"id": name, "owned_by": fake.owned_by, "parent": None} for name in fake.models]
        cards += [{"id": name, "owned_by": fake.owned_by, "parent": fake.models[0]} for name in fake.grafts]
        return self._json(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._admitted():
            return None
        if self.path == "/tokenize" and fake.tokenize:
            return self._json(200, {"tokens": fake.tokenize(body.get("prompt", body.get("content")))})
        if self.path == "/v1/load_lora_adapter":
            fake.grafts[body["lora_name"]] = body["lora_path"]
            return self._json(200, "Success")
        if self.path == "/v1/unload_lora_adapter":
            del fake.grafts[body["lora_name"]]
            return self._json(200, "Success")
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            return self._json(404, {"error": {"message": f"no such path {self.path}"}})
        with fake.lock:
            fault = fake.fault(len(fake.bodies), body)
            fake.bodies.append(body)
            fake.headers.append(dict(self.headers))
            fake.paths.append(self.path)
            fake.committed += [fault] if fault else []
            fake.now += 1
            fake.most = max(fake.most, fake.now)
        try:
            time.sleep(fake.delay)
            return self._complete(body, fault)
        finally:
            with fake.lock:
                fake.now -= 1

    def _admitted(self) -> bool:
        key = self.server.fake.key
        if not key or self.headers["Authorization"] == f"Bearer {key}":
            return True
        self._json(401, {"error": {"message": f"wrong key {self.headers['Authorization']}\x1b[31m"}})
        return False

    def _json(self, status: int, body: Any, **headers: str) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _complete(self, body: dict[str, Any], fault: str) -> None:
        fake = self.server.fake
        if body.get("stream") and fake.stream is not None and fault not in (*STATUS, *BROKEN):
            return self._events(fake.stream(body), fault)
        answer = fake.answer(body)
        if "error" in answer:
            return self._json(answer.pop("status", 400), answer, **answer.pop("headers", {}))
        if fake.owned_by == "vllm":
            answer["id"] = f"cmpl-{self.headers['X-Request-Id']}"
        data = _spoilt(answer, fault, fake.last)
        fake.last = json.dumps(answer).encode()
        if fault in STATUS:
            form = {"429": "0.05", "429_date": formatdate(time.time() + 1, usegmt=True)}
            headers = {"Retry_After": form[fault]} if fault in form else {}
            return self._send(int(fault[:3]), b'{"error": {"message": "not now"}}', "application/json", headers)
        if fault in BROKEN and fault != "half_json":
            return self._break(fault, data)
        if fault == "slow":
            fake.ended.wait()
        if fault in ("dribble", "huge", "chunked"):
            return self._chunks(fault, data)
        with fake.lock:
            fake.given += 1
            held = fake.free is not None and fake.given > fake.free
        if held:
            fake.released.wait()
        kind = {"html": "text/html", "text_plain": "text/plain"}.get(fault, "application/json")
        self._send(200, data, kind)
        if fault == "twice":
            self._send(200, data, kind)
        return None

    def _break(self, fault: str, data: bytes) -> None:
        """Close the connection in the middle of things."""
        self.close_connection = True
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        if fault == "drop_headers":
            self.wfile.write(head[:30])
        elif fault == "no_http":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        elif fault == "drop_body":
            self.wfile.write(head + b"Content-Length: %d\r\n\r\n" % len(data) + data[: len(data) // 2])
        elif fault == "truncated_chunks":
            self.wfile.write(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(data), data))
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _events(self, events: Iterator[dict[str, Any]], fault: str) -> None:
        """Send an answer as it is written, or spoil it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        fake = self.server.fake

        def put(data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        try:
            for number, event in enumerate(events):
                if fault and number == 2:
                    if fault == "silent":
                        fake.ended.wait()
                    if fault in ("cut", "silent"):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    if fault == "error_event":
                        event = {"error": {"message": "out of memory", "code": 500}}
                    if fault == "bad_ids":
                        event = choice("x", [10**6])
                if fault == "no_finish":
                    event["choices"][0]["finish_reason"] = None
                data = b"data: " + json.dumps(event).encode() + b"\n\n"
                put(data[: len(data) // 2] + b"\n\n" if fault == "half_event" and number == 2 else data)
            put(b": a comment\n\ndata: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            fake.aborted.set()
        finally:
            events.close()  # type: ignore[attr-defined]

    def _chunks(self, fault: str, data: bytes) -> None:
        """Send in chunks: whole, byte by byte, or without end."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def parts() -> Iterator[bytes]:
            if fault == "huge":
                while True:
                    yield b" " * 65_536
            for byte in data if fault == "dribble" else ():
                time.sleep(0.05)
                yield bytes([byte])
            yield from (data,) if fault == "chunked" else ()

        try:
            for part in parts():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            self.server.fake.aborted.set()


def _spoilt(answer: dict[str, Any], fault: str, last: bytes) -> bytes:
    """Return an answer's bytes, with what is wrong in its content."""
    first = answer["choices"][0]
    content: dict[str, Any] = {
        "html": b"<html><body>It works!</body></html>",
        "empty": b"",
        "deep": b'{"choices":' + b"[" * 100_000,
        "list": b"[1, 2]",
        "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
        "stale": last or b'{"id": "cmpl-other", "choices": []}',
        "no_choices": {**answer, "choices": []},
        "two_choices": {**answer, "choices": [first, {**first, "index": 1}]},
        "index": {**answer, "choices": [{**first, "index": 1}]},
        "no_text": {**answer, "choices": [{k: v for k, v in first.items() if k not in ("text", "message")}]},
        "no_finish": {**answer, "choices": [{**first, "finish_reason": None}]},
        "other_finish": {**answer, "choices": [{**first, "finish_reason": "abort"}]},
        "no_id": {k: v for k, v in answer.items() if k != "id"},
        "bad_ids": {**answer, "choices": [{**first, "token_ids": [10**6]}]},
        "too_many_ids": {**answer, "choices": [{**first, "token_ids": [5] * 100_000}]},
        "surrogate": {**answer, "choices": [{**first, "text": "\ud83d", "message": {"content": "\ud83d"}}]},
    }
    spoilt = content.get(fault, answer)
    data = spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode()
    return data[: len(data) // 2] if fault == "half_json" else data


def choice(text: str, tokens: list[int] | None = None, reason: str = "stop", **more: Any) -> dict[str, Any]:
    """Return the body of an answer to completions."""
    first = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None, "stop_reason": None, **more}
    return {"object": "text_completion", "choices": [{**first, "token_ids": tokens}]}


def chat(text: str | None, reason: str = "stop", **more: Any) -> dict[str, Any]:
    """Return the body of an answer to chat completions."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason, **more}]}
