"""Answering many requests with an engine, in parts that survive a kill: byte-identical to an undisturbed run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.data.records import Generation, Request
from lingraft.engines import Engine
from lingraft.errors import EngineError
from lingraft.store import PartStore, content_hash


def plan_parts(requests: Sequence[Request], size: int) -> list[Sequence[Request]]:
    """Cut requests into parts in order; the cut depends on the requests alone."""
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def generate(
    engine: Engine,
    requests: Sequence[Request],
    folder: Path,
    *,
    identity: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Generation]:
    """Answer all requests; finished parts in `folder` are taken from there.

    Args:
        identity: what besides the requests decides the answers: model hash, graft, engine.
        progress: called with answers so far and tokens written so far.

    Returns:
        Generation by request id.

    Raises:
        EngineError: two requests have one id, or the engine left a request out, answered twice, or answered one nobody
            asked.
    """
    parts = plan_parts(requests, engine.part_size)
    keys = [content_hash([dict(identity), [request.to_dict() for request in part]]) for part in parts]
    twice = [id_ for id_, times in Counter(request.id for request in requests).items() if times > 1]
    if twice:
        raise EngineError(f"request {twice[0]!r} is asked twice, so that its answers could not be told apart")
    store = PartStore(folder)
    count = tokens = 0

    def work(index: int) -> Iterator[str]:
        nonlocal count, tokens
        wanted = {request.id for request in parts[index]}
        answers: dict[str, Generation] = {}
        for generation in engine.generate(parts[index]):
            if generation.id not in wanted or generation.id in answers:
                raise EngineError(f"engine {engine.name!r} answered request {generation.id!r} twice or unasked")
            answers[generation.id] = generation
            count, tokens = count + 1, tokens + len(generation.token_ids)
            if progress:
                progress(count, tokens)
        missing = wanted - answers.keys()
        if missing:
            raise EngineError(f"engine {engine.name!r} left out {len(missing)} requests, such as {min(missing)!r}")
        for request in parts[index]:  # in the order asked, whatever order they came in
            yield answers[request.id].to_json()

    def done(index: int, known: bool) -> None:
        nonlocal count
        if known:
            count += len(parts[index])
            if progress:
                progress(count, tokens)

    store.run(keys, work, done)
    return {generation.id: generation for generation in map(Generation.from_json, store.lines())}
