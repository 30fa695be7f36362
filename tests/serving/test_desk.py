"""The queue: whom it takes, and whom it sends away."""

from __future__ import annotations

import anyio
import pytest

from lingraft.serving.asked import ApiError, later
from lingraft.serving.desk import Desk
from lingraft.serving.limits import Limits


def test_one_client_alone_cannot_fill_the_queue() -> None:
    async def run() -> list[str]:
        told, desk = [], Desk(waiting=2)
        try:
            with desk.place(client="a") as first, desk.place(client="a") as second, desk.place(client="a") as third:
                first.served = True
                with pytest.raises(ApiError), desk.place(client="a"):
                    told.append("a has a fourth place")
                with desk.place(client="b") as other:
                    told += [str(place.refusal and place.refusal.code) for place in (first, second, third, other)]
                    with pytest.raises(ApiError), desk.place(client="b"):  # now a has two and b one
                        told.append("b has two places")
                assert desk.inside == 2
        finally:
            desk.close()
        return told

    assert anyio.run(run) == ["None", "None", "queue_full", "None"]


def test_the_tokens_of_the_queue_are_bounded() -> None:
    async def run() -> None:
        desk = Desk(waiting=8, tokens=100)
        try:
            alone = desk.place(1000, "a")  # anything goes
            with alone, pytest.raises(ApiError, match="the queue is full"), desk.place(1, "a"):
                pass
            with desk.place(60, "a"), desk.place(40, "a"):
                with pytest.raises(ApiError) as error, desk.place(1, "a"):
                    pass
                assert 2 <= int(error.value.headers["Retry-After"]) <= 12
        finally:
            desk.close()

    anyio.run(run)


def test_those_that_are_sent_away_together_do_not_come_back_together() -> None:
    waits = {int(later("x", "busy").headers["Retry-After"]) for _ in range(200)}
    assert len(waits) > 5
    assert max(waits) < Limits().idle / 2  # connections that wait are not closed at that moment
