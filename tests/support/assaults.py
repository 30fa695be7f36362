"""Attacks on the server as bytes: heads that are no HTTP, bodies that are no question. Names tell what is wrong."""

from __future__ import annotations

import json

from clients import PATH, chat, request
from endpoints import asking
from hostile import POISON
from lingraft.serving.request import NEUTRAL

JSON = "Content-Type: application/json"
GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{JSON}\r\n".encode()


def _post(*headers: bytes, body: bytes = b"") -> bytes:
    return POST + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


HEADS: dict[str, bytes] = {
    "nothing but a line end": b"\r\n",
    "line ends": b"\r\n" * 5000,
    "zeros": b"\0" * 5000,
    "high bytes": b"\xff" * 5000,
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + b"\x11" * 400,
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.9\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "another's host": b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a host with a user": b"GET /v1/models HTTP/1.1\r\nHost: evil\\@127.0.0.1\r\n\r\n",
    "an endless path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an endless header": GET + b"X: " + b"x" * 200_000,
    "an endless name": GET + b"x" * 200_000,
    "thousands of headers": GET + b"A: b\r\n" * 20_000 + b"\r\n",
    "a space before the colon": GET + b"X : y\r\n\r\n",
    "a folded header": GET + b"X: y\r\n z\r\n\r\n",
    "a header without colon": GET + b"XY\r\n\r\n",
    "a zero in a header": GET + b"X: a\0b\r\n\r\n",
    "a lone carriage return": GET + b"X: a\rb\r\n\r\n",
    "bare line feeds": GET.replace(b"\r\n", b"\n") + b"Connection: close\n\n",
    "a path that climbs": b"GET /v1/models/../../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an encoded path that climbs": b"GET /v1/models/%2e%2e%2f%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a broken escape": b"GET /%zz%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an absolute address": b"GET http://evil.example/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a method of its own": b"BREW /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an endless method": b"B" * 70_000 + b" /health HTTP/1.1\r\n\r\n",
    "an upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    "an upgrade to h2c": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
    "two lengths": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
    "a negative length": _post(b"Content-Length: -5", body=b"12345"),
    "a length with a sign": _post(b"Content-Length: +5", body=b"12345"),
    "a length in words": _post(b"Content-Length: five", body=b"12345"),
    "an endless length": _post(b"Content-Length: " + b"9" * 5000, body=b"12345"),
    "a length beyond all": _post(b"Content-Length: 99999999999999999999", body=b"12345"),
    "length and chunks": _post(
        b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
    ),
    "an unknown coding": _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "two codings": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "a chunk of no size": _post(b"Transfer-Encoding: chunked", body=b"\r\n\r\n"),
    "a chunk of a negative size": _post(b"Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
    "a chunk of an endless size": _post(b"Transfer-Encoding: chunked", body=b"f" * 70_000),
    "a chunk beyond all": _post(b"Transfer-Encoding: chunked", body=b"ffffffffffffffff\r\nabc"),
    "a chunk with an endless extension": _post(b"Transfer-Encoding: chunked", body=b"1;" + b"x" * 70_000),
    "a chunk that is longer than it says": _post(b"Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n"),
    "very many chunks": _post(b"Transfer-Encoding: chunked", body=b"1\r\n \r\n" * 20_000),
    "endless trailers": _post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X: y\r\n" * 20_000),
    "nothing to continue with": _post(b"Content-Length: 5", b"Expect: 100-continue"),
    "an unknown expectation": _post(b"Content-Length: 2", b"Expect: the worst", body=b"{}"),
    "an endless key": GET + b"Authorization: Bearer " + b"k" * 15_000 + b"\r\n\r\n",
    "bytes as a key": GET + b"Authorization: Bearer \xff\xfe\r\n\r\n",
    "garbage behind a request": GET + b"\r\n" + b"\0\xff" * 500,
    "garbage behind a question": chat("x", max_tokens=1) + b"\0\xff" * 500,
    "a hundred requests at once": (GET + b"\r\n") * 100,
    "the body of another kind": request(b"a=b").replace(b"application/json", b"application/x-www-form-urlencoded"),
    "a body that is too long": request(b'{"messages": "' + b"x" * 2_200_000 + b'"}'),
    "a body of control characters": request(bytes(range(256)) * 4),
}

_FIELDS = [
    "model",
    "n",
    "logprobs",
    "top_logprobs",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "lingraft",
    *NEUTRAL,
]
_VALUES: dict[str, str] = {
    "true": "true",
    "minus one": "-1",
    "a number beyond all": "1e999",
    "a long number": "9" * 5000,
    "no number": "NaN",
    "half a character": '"\\ud800"',
    "a zero character": '"\\u0000"',
    "a long text": '"' + "x" * 20_000 + '"',
    "a deep list": "[" * 3000 + "]" * 3000,
    "a list of anything": '[null, {}, [], -1, "x"]',
    "a long list": "[" + "1," * 200_000 + "1]",
    "an object of anything": '{"": null, "language": [], "include_usage": 7, "chain": "x"}',
}


def _with(field: str, value: str) -> bytes:
    fields = {**asking("x", max_tokens=1), field: "?"}
    return request(json.dumps(fields).replace('"?"', value).encode())


BODIES: dict[str, bytes] = {
    **{f"{field}: {name}": _with(field, value) for field in _FIELDS for name, value in _VALUES.items()},
    **{f"poison {number} for a body": request(piece) for number, piece in enumerate(POISON)},
    **{
        f"poison {number} in a message": request(
            json.dumps(asking("?", max_tokens=1)).encode().replace(b'"?"', b'"' + piece + b'"')
        )
        for number, piece in enumerate(POISON)
    },
    **{
        f"content: {name}": request(
            json.dumps(asking("?", max_tokens=1)).replace('"?"', value.replace("NaN", "null")).encode()
        )
        for name, value in _VALUES.items()
    },
    **{
        f"prompt: {name}": request(
            json.dumps({"prompt": "?", "max_tokens": 1}).replace('"?"', value.replace("NaN", "null")).encode(),
            path="/v1/completions",
        )
        for name, value in {
            **_VALUES,
            "a million tokens": "[" + "1," * 1_000_000 + "1]",
            "lists of tokens": "[" + "[1,2]," * 8_000 + "[1,2]]",
            "a list of texts": '["x", "y"]',
            "nothing in lists": "[[], []]",
        }.items()
    },
    "a million wrong parts": request(
        json.dumps(asking("?", max_tokens=1)).replace('"?"', "[" + "1," * 900_000 + "1]").encode()
    ),
    "thousands of unknown fields": request(
        json.dumps({**asking("x", max_tokens=1), **{f"x{number}": number for number in range(50_000)}}).encode()
    ),
}

ATTACKS = {**HEADS, **BODIES}
WORST = [
    "line ends",
    "zeros",
    "a TLS hello",
    "an HTTP/2 preface",
    "no host",
    "two hosts",
    "another's host",
    "an endless path",
    "an endless header",
    "thousands of headers",
    "a folded header",
    "a zero in a header",
    "a path that climbs",
    "a tunnel",
    "an upgrade",
    "two lengths",
    "a length beyond all",
    "length and chunks",
    "a chunk of an endless size",
    "a chunk that is longer than it says",
    "very many chunks",
    "endless trailers",
    "garbage behind a question",
    "a hundred requests at once",
    "a body that is too long",
    "a million wrong parts",
    "messages: a deep list",
    "prompt: a million tokens",
    "stop: a long list",
    "temperature: a number beyond all",
    "content: half a character",
]
"""Those in the default tests."""
