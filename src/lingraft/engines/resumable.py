"""Answering many requests with an engine, in parts that survive a kill: byte-identical to an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.errors import EngineError
from lingraft.core.hashing import HashSet, content_hash, text_hash
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine
from lingraft.store.parts import PartStore


def plan_parts(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Cut requests into parts in order; the cut depends on the requests alone."""
    rows = iter(requests)
    while part := list(islice(rows, size)):
        yield part


def generate(
    engine: Engine,
    requests: Iterable[Request],
    folder: Path,
    *,
    identity: Mapping[str, Any],
    graft: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    kept: Callable[[], None] | None = None,
) -> int:
    """Answer all requests; finished parts in `folder` are taken from there, in any order of completion.

    Args:
        engine: that answers; its `part_size` cuts the requests into parts.
        requests: can be iterated more than once; they are not held in memory.
        folder: of the parts; `PartStore(folder).lines()` gives the generations in the order of the requests.
        identity: what besides the requests decides the answers: model hash, graft, engine.
        graft: adapter to answer with.
        progress: called with answers so far and tokens written so far in this call.
        kept: called when a part is in `folder`.

    Returns:
        Number of requests.

    Raises:
        EngineError: two requests have one id, or the engine left a request out, answered twice, or answered one nobody
            asked.
    """
    keys, total = _keys(requests, engine.part_size, identity)
    store = PartStore(folder)
    known = store.known(keys)
    count = sum(min(engine.part_size, total - index * engine.part_size) for index in known)
    tokens = 0
    if progress and count:
        progress(count, tokens)
    asked: dict[int, list[str]] = {}
    answers: dict[int, dict[str, Generation]] = {}
    part_of: dict[str, int] = {}

    def drawn() -> Iterator[list[Request]]:
        """Yield the parts that are missing, noting who waits for what."""
        for index, part in enumerate(plan_parts(requests, engine.part_size)):
            if index not in known:
                asked[index], answers[index] = [request.id for request in part], {}
                part_of.update((request.id, index) for request in part)
                yield part

    missing = drawn()
    calls = [(request for part in missing for request in part)] if engine.streams else missing
    for call in calls:
        for generation in engine.generate(call, graft):
            index = part_of.pop(generation.id, -1)
            if index < 0:
                raise EngineError(f"engine {engine.name!r} answered request {generation.id!r} twice or unasked")
            answers[index][generation.id] = generation
            count, tokens = count + 1, tokens + len(generation.token_ids)
            if progress:
                progress(count, tokens)
            if len(answers[index]) == len(asked[index]):
                found, order = answers.pop(index), asked.pop(index)
                store.put(index, keys[index], (found[id_].to_json() for id_ in order))
                if kept:
                    kept()
        if part_of:
            raise EngineError(
                f"engine {engine.name!r} left out {len(part_of)} requests, such as {next(iter(part_of))!r}"
            )
    if unasked := next(missing, None):
        raise EngineError(f"engine {engine.name!r} left out requests from {unasked[0].id!r} on")
    return total


def _keys(requests: Iterable[Request], size: int, identity: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the hash of each part and the number of requests."""
    ids = HashSet()  # 64 bits each: of a million ids, two meet with a chance of 3 in 100 million
    keys, total = [], 0
    for part in plan_parts(requests, size):
        for request in part:
            total += 1
            if not ids.add(text_hash(request.id)):
                raise EngineError(f"request {request.id!r} is asked twice, so that its answers could not be told apart")
        keys.append(content_hash([dict(identity), [request.to_dict() for request in part]]))
    return keys, total
