"""The queue: whom it takes, and whom it sends away."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import aclosing

import anyio
import pytest

from lingraft.serving.limits import Limits
from lingraft.serving.queue import RequestQueue, Ticket
from lingraft.serving.request import ApiError, later


def written(*items: str) -> Generator[str, None, None]:
    """What a model writes."""
    yield from items


def test_one_client_alone_cannot_fill_the_queue() -> None:
    async def run() -> list[str]:
        told, desk = [], RequestQueue(waiting=2)
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


def test_clients_have_their_turns_however_many_requests_others_have() -> None:
    """One client has nine requests in the queue; another comes later, and again and again."""

    async def run() -> list[str]:
        desk, order = RequestQueue(waiting=16), []

        async def ask(client: str, mark: str, tokens: int) -> None:
            with desk.place(tokens, client) as place:
                async for item in desk.serve(lambda: written(mark), place):
                    order.append(item)

        async def regular(client: str) -> None:
            for number in range(4):
                await ask(client, f"{client}{number}", 10)

        try:
            async with anyio.create_task_group() as group:
                for number in range(9):
                    group.start_soon(ask, "a", f"a{number}", 10)
                await anyio.lowlevel.checkpoint()
                group.start_soon(regular, "b")
                group.start_soon(regular, "c")
                group.start_soon(ask, "d", "d0", 1000)
        finally:
            desk.close()
        return order

    order = anyio.run(run)
    assert [mark for mark in order if mark[0] == "a"] == [f"a{number}" for number in range(9)]
    assert max(order.index(mark) for mark in ("b0", "c0", "d0")) <= 4
    others = [mark for mark in order if mark[0] in "bc"]
    assert order.index(others[-1]) <= len(others) + 6  # nobody with one request at a time waits for the nine
    assert "a" in "".join(order[4:8])  # who has many is not put off for ever


def test_a_turn_that_is_lost_goes_to_the_next() -> None:
    """Requests that are cancelled while they wait, as they are called, and while they are answered."""

    async def run() -> list[str]:
        desk, order = RequestQueue(waiting=16), []

        async def lose_when_called(place: Ticket) -> None:
            await place.called.wait()
            place.scope.cancel()

        async def ask(mark: str, lost: str = "") -> None:
            async with anyio.create_task_group() as group:
                with desk.place(1, mark) as place, place.scope:
                    if lost == "called":
                        group.start_soon(lose_when_called, place)
                        await anyio.lowlevel.checkpoint()
                    async with aclosing(desk.serve(lambda: written(*[mark] * 3), place)) as items:
                        async for item in items:
                            order.append(item)
                            if lost == "served":
                                place.scope.cancel()
                            await anyio.lowlevel.checkpoint()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, "a")
                for number, lost in enumerate(("called", "served", "called", "", "served", "")):
                    group.start_soon(ask, f"{number}{lost}", lost)
                with anyio.move_on_after(0) as gone:
                    await ask("gone")
                assert gone.cancelled_caught
        finally:
            desk.close()
        assert desk.inside == 0
        return order

    order = anyio.run(run)
    assert order == ["a", "a", "a", "1served", "3", "3", "3", "4served", "5", "5", "5"]


def test_the_tokens_of_the_queue_are_bounded() -> None:
    async def run() -> None:
        desk = RequestQueue(waiting=8, tokens=100)
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
