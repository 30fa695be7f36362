"""Pages of other origins that may ask from a browser (CORS): none, unless they are named.

What a browser asks and what it is told is Starlette's middleware; here is who they are, and who they cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from lingraft.core.errors import UsageError

ANY = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_origins(given: Sequence[str], *, with_key: bool) -> tuple[str, ...]:
    """Return origins as a browser names them in its header Origin.

    Args:
        given: such as "https://cat.example.org", "chrome-extension://..." or "*".
        with_key: clients of the server have to send a key.

    Raises:
        UsageError: one is none, or it is "*" and the server asks for no key.
    """
    found = []
    for text in given:
        if text.strip() == ANY:
            if not with_key:
                raise UsageError(
                    "--allow-origin *: any page that somebody opens could ask this server; name the origins, or set "
                    "LINGRAFT_API_KEY to a secret that clients send"
                )
            return (ANY,)
        found.append(_origin(text))
    return tuple(dict.fromkeys(found))


def _origin(text: str) -> str:
    lower = text.strip().lower().removesuffix("/")
    if not _ORIGIN.fullmatch(lower):
        raise UsageError(
            f"--allow-origin {text!r} is no origin; give scheme, host and perhaps port, such as https://cat.example.org"
        )
    try:
        parts = urlsplit(lower)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--allow-origin {text!r} is no origin ({error})") from error
    if port is not None and port == _DEFAULT_PORTS.get(parts.scheme):  # which a browser leaves out
        return lower.rpartition(":")[0]
    return lower


def middleware(origins: Sequence[str]) -> list[Middleware]:
    """Return what lets pages of these origins ask, and read the answers; nothing for none.

    A page of another origin still sends no cookies, and its browser asks first whether it may (a preflight), because
    bodies must be JSON.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],  # clients of the OpenAI protocol send a dozen of their own
            expose_headers=["Retry-After"],
            allow_private_network=True,  # a page of the open network may ask a server of this machine or house
        )
    ]
