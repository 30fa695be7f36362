#!/usr/bin/env python3
"""A gateway before one vLLM server that holds a base and a graft: translations to the graft, all else to the base.

    python gateway.py                       # on 127.0.0.1:8080, before vLLM on 127.0.0.1:8000
    python gateway.py --upstream http://127.0.0.1:8000 --port 8080

Python's standard library alone. `route.json` beside it names both models and the wordings of a request for a
translation. A request to `POST /v1/chat/completions` for the model `auto`, or for none, goes to the one or the other as
its field `lingraft: {"route": "graft" | "base"}` says, else by its wording; one that names a model goes there. Answers
pass through as they come, and the header `X-Lingraft-Route` says whose they are.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wordings import filled_in

AUTO = "auto"
MAX_BODY = 2_097_152
MOST_AT_ONCE = 64
CLIENT_SECONDS, UPSTREAM_SECONDS = 60, 600
PASSED = ("/v1/models", "/health", "/version")
ASKED = "/v1/chat/completions"


class Refused(Exception):
    """A request is not passed on: status of HTTP and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def decided(body: dict[str, Any], config: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the body as the server is asked, and the route: "graft", "base", or "" for a model of another name."""
    names = {config["graft"]: "graft", config["base"]: "base"}
    own = body.get("lingraft")
    wanted = own.get("route") if isinstance(own, dict) else None
    if wanted not in (None, "graft", "base"):
        raise Refused(400, "lingraft.route is graft or base; leave it out to have it decided")
    asked = {key: value for key, value in body.items() if key != "lingraft"}
    model = body.get("model")
    if model not in (None, "", AUTO):
        if wanted is not None:
            raise Refused(400, f"the request names a model and a route; give one, or the model {AUTO!r}")
        return asked, names.get(str(model), "")
    route = wanted or ("graft" if filled_in(last_turn(body), config["wordings"]) else "base")
    if config.get("template"):
        asked.setdefault("chat_template_kwargs", config["template"])
    return {**asked, "model": config[route]}, route


def last_turn(body: dict[str, Any]) -> str:
    """Return the text of the last message, which has to be the user's."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        raise Refused(400, "messages: a list that ends with the user's turn")
    content = last.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


class Gateway(BaseHTTPRequestHandler):
    """One connection; settings are set on the class by `serve`."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lingraft-gateway", ""
    timeout = CLIENT_SECONDS
    config: dict[str, Any]
    upstream: str
    local: bool
    room = threading.BoundedSemaphore(MOST_AT_ONCE)

    def do_GET(self) -> None:
        """Pass on what tells of the server."""
        self._handled(self._get)

    def do_POST(self) -> None:
        """Decide, and pass the answer through."""
        self._handled(self._post)

    def _handled(self, work: Any) -> None:
        self.close_connection = True
        if not self.room.acquire(blocking=False):
            self._refuse(Refused(503, "too many requests at once; try again later"))
            return
        try:
            self._check_host()
            work()
        except Refused as error:
            self._refuse(error)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # the client is gone
        finally:
            self.room.release()

    def _check_host(self) -> None:
        """A page of another origin may lead a browser here under a name of its own; it is not answered."""
        if self.local and not is_local(urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""):
            raise Refused(403, "this gateway answers only to names of its own machine, such as 127.0.0.1")

    def _get(self) -> None:
        if self.path.partition("?")[0] not in PASSED:
            raise Refused(404, f"there is no {self.path[:100]} here; ask {ASKED} or {', '.join(PASSED)}")
        self._pass("GET", None, "")

    def _post(self) -> None:
        if self.path.partition("?")[0] != ASKED:
            raise Refused(404, f"there is no {self.path[:100]} here; ask {ASKED}")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "send JSON, with the header `Content-Type: application/json`")
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            raise Refused(411, "send the header Content-Length") from None
        if not 0 <= length <= MAX_BODY:
            raise Refused(413, f"the body is longer than {MAX_BODY:,} bytes; shorten the conversation")
        try:
            body = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            raise Refused(400, "the body is no JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, "the body is no JSON object")
        asked, route = decided(body, self.config)
        self._pass("POST", json.dumps(asked).encode(), route)

    def _pass(self, method: str, body: bytes | None, route: str) -> None:
        place = urlsplit(self.upstream)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        server = kind(place.hostname or "", place.port, timeout=UPSTREAM_SECONDS)
        headers = {"Content-Type": "application/json", "Accept": self.headers.get("Accept", "*/*")}
        if key := self.headers.get("Authorization"):
            headers["Authorization"] = key
        try:
            try:
                server.request(method, place.path.rstrip("/") + self.path, body, headers)
                answer = server.getresponse()
            except (OSError, http.client.HTTPException):
                raise Refused(502, "the server behind this gateway does not answer") from None
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Connection", "close")  # the end of the answer is the end of the connection
            if route:
                self.send_header("X-Lingraft-Route", route)
            self.end_headers()
            while piece := answer.read1(65_536):
                self.wfile.write(piece)
                self.wfile.flush()
        finally:
            server.close()  # a client that has left ends the work behind the gateway as well

    def _refuse(self, error: Refused) -> None:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        data = json.dumps({"error": {"message": error.message, "type": kind}}).encode()
        try:
            self.send_response(error.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            return  # the client is gone

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what clients ask."""


def is_local(name: str) -> bool:
    """Say whether a name or address is this machine's own."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def main() -> int:
    """Serve until Ctrl-C."""
    own = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Translations to the graft, everything else to the base.")
    parser.add_argument("--upstream", default="http://127.0.0.1:8000", help="vLLM's address")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument(
        "--without-key", action="store_true", help="needed for other addresses: keys are checked by vLLM alone"
    )
    given = parser.parse_args()
    local = is_local(given.host)
    if not local and not given.without_key:
        parser.error(f"whoever reaches {given.host} could ask: give vLLM an --api-key and this --without-key")
    if urlsplit(given.upstream).scheme not in ("http", "https"):
        parser.error(f"--upstream {given.upstream} is no address; give one such as http://127.0.0.1:8000")
    Gateway.config = json.loads((own / "route.json").read_text("utf-8"))
    Gateway.upstream, Gateway.local = given.upstream, local
    server = ThreadingHTTPServer((given.host, given.port), Gateway)
    server.daemon_threads = True
    print(f"{AUTO} at http://{given.host}:{server.server_address[1]}/v1; Ctrl-C ends.", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
