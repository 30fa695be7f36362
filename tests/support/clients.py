"""Clients over raw sockets that do what no library does: stall, cut off, send garbage, read nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

from endpoints import asking
from processes import HANGING

PATH = "/v1/chat/completions"


class Raw:
    """A connection of which every byte is ours.

    Args:
        url: of the server. window: bytes of the receive buffer; None for the system's.
        source: address of the client; on Linux all of 127.0.0.0/8 are this machine's.
    """

    def __init__(self, url: str, *, window: int | None = None, source: str = "127.0.0.1") -> None:
        host, port = url.removeprefix("http://").split(":")
        self.host = host
        self._socket = socket.socket()
        if window is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._socket.settimeout(HANGING)
        if source != "127.0.0.1":
            self._socket.bind((source, 0))
        self._socket.connect((host, int(port)))

    def send(self, data: bytes) -> Raw:
        """Send as much as the server takes."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)
        return self

    def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := self._socket.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)

    def heard(self, word: bytes) -> bytes:
        """Return what comes until a word is in it, or the server closes."""
        data = b""
        while word not in data and (part := self.some()):
            data += part
        return data

    def some(self, size: int = 1 << 16) -> bytes:
        """Return what comes next."""
        return self._socket.recv(size)

    def end_writing(self) -> Raw:
        """Send no more, but read on."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leave without a word, as a machine that is switched off."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def request(body: bytes | None = None, *headers: str, method: str = "POST", path: str = PATH) -> bytes:
    """Return a request with a body and its length, or one without."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chat(*texts: str, **fields: Any) -> bytes:
    """Return a request for an answer."""
    return request(json.dumps(asking(*texts, **fields)).encode())


def split(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a response that ends with the connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), data[:200]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body
