"""What the tests of the openai engine ask, in this process and in those that they kill."""

from __future__ import annotations

from lingraft.data.records import Request
from models_support import request, tiny_loaded

LOADED = tiny_loaded()
IDENTITY = {"model": "tiny"}


def asked(count: int) -> list[Request]:
    return [request(f"r{i}", f"Say {i}, bitte.", max_new_tokens=60) for i in range(count)]
