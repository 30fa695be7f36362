"""The server against mutated requests: it answers in the protocol's form or closes, whatever comes; see `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile import POISON
from hostile_server import BODY, REQUESTS, SERVER_ENTRY_POINTS, ask_server, read_body

NOWHERE = Path()


@pytest.mark.parametrize("name", SERVER_ENTRY_POINTS)
@given(data=st.data())
def test_mutated_requests(name: str, data: st.DataObject) -> None:
    entry, seeds = SERVER_ENTRY_POINTS[name]
    found = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(found)))
        piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from(POISON)))
        found[at : at + data.draw(st.integers(0, 20))] = piece
    entry(bytes(found), NOWHERE)


def test_what_is_right_is_answered() -> None:
    for request in REQUESTS[::2]:
        assert ask_server(request, NOWHERE).startswith(b"HTTP/1.1 200 ")
    assert read_body(BODY, NOWHERE) is not None
