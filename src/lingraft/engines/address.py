"""Addresses of servers, and the keys that may go there."""

from __future__ import annotations

import os
import re

from lingraft.core.errors import UsageError
from lingraft.engines.openai_http import ServerAddress

DEFAULT_URL = "http://127.0.0.1:8000/v1"

OPEN_LINE = "the key in {name} is sent only over https or to this machine, and not to {root}; give an https address"


def check_key_name(name: str) -> str:
    """Return the name of a variable that may be sent as a key.

    Raises:
        ValueError: it does not look like one of a key.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]*(KEY|TOKEN)", name):
        raise ValueError(
            f"{name!r} is no name of a key: so that no other variable is sent, it must end in KEY or TOKEN"
        )
    return name


def checked_address(value: str) -> str:
    """Return a server's address without a slash at its end.

    Raises:
        ValueError: not http(s), or with a user, password, query or fragment, which would end up in artefacts.
    """
    try:
        address = ServerAddress.of(value.strip())
    except ValueError as error:
        raise ValueError(f"{value!r} is not an address: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{value!r} is not an address such as {DEFAULT_URL}")
    if not address.plain:
        raise ValueError("an address may hold no user, password or query; give a key through engine.key_env")
    return address.text.rstrip("/")


def address_from_environment() -> str:
    """Return the server's address where a recipe names none.

    Raises:
        UsageError: what the environment has is no address.
    """
    try:
        return checked_address(os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL)
    except ValueError as error:
        raise UsageError(f"the environment variable OPENAI_BASE_URL: {error}") from error


def may_have_key(root: str) -> bool:
    """Whether a key may go to an address: nobody on the way can read it."""
    address = ServerAddress.of(root)
    return address.scheme == "https" or address.is_loopback


def key_name(name: str | None, root: str) -> str:
    """Return the environment variable whose value may go to an address; "" where none was named and none may.

    Raises:
        UsageError: one was named, and it may not.
    """
    if may_have_key(root):
        return name or "OPENAI_API_KEY"
    if name:
        raise UsageError(f"engine.key_env: {OPEN_LINE.format(name=name, root=root)}")
    return ""


def key_for(name: str | None, root: str) -> str:
    """Return the key from the environment; "" if there is none, or it would go unasked over an open line.

    Args:
        name: of the variable, as a recipe has it; None for `OPENAI_API_KEY`.
        root: address of the server.

    Raises:
        UsageError: a variable was named that is not set, or whose value may not go there; or it holds no key.
    """
    if not (variable := key_name(name, root)):
        return ""
    key = os.environ.get(variable, "").strip()
    if name and not key:
        raise UsageError(f"engine.key_env: the environment variable {name} is not set; export the server's key in it")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"the key in {variable} holds characters that no key has; export it anew")
    return key
