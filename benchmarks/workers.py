"""Rationale synthesis by two workers of the `ray` engine, each on half the cores, against one process on all cores.

python benchmarks/workers.py [--quick] [--json] [--pairs FILE --from de --to en]

Beside it, what decided for actors of our own and against Ray Data: the seconds until a first answer arrives, for the
first call of the `ray` engine, for a later one, and for each dataset that Ray Data executes.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from common import all_versions, build_result, device_name, load_pairs, parser, positive, radis_for, run

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel
from lingraft.engines.ray import RayEngine
from lingraft.engines.ray_pool import cores
from lingraft.engines.ray_worker import Worker, WorkerState
from lingraft.engines.resumable import plan_parts
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import load_model

FULL = {"rows": 256, "new_tokens": 64, "repeats": 3}
QUICK = {"rows": 128, "new_tokens": 16, "repeats": 1}
WORKERS = 2


class Mapper:
    """What one writes for `map_batches`: an engine a worker, made when the worker is."""

    def __init__(self, work: WorkerState) -> None:
        self._worker = Worker()
        self._worker.start(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch of requests given and returned as JSON."""
        answers, _ = self._worker.answer([Request.from_json(row) for row in batch["request"]], None)
        return {"answer": [answer.to_json() for answer in answers]}


def with_ray_data(work: WorkerState, requests: Sequence[Request], part_size: int) -> Iterator[Generation]:
    """Answer the requests with one dataset and an actor pool; Ray must be initialised."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"request": request.to_json()} for request in requests], override_num_blocks=WORKERS)
    pool = ray.data.ActorPoolStrategy(size=WORKERS)
    mapped = rows.map_batches(Mapper, fn_constructor_args=(work,), batch_size=part_size, compute=pool, num_cpus=1)
    for row in mapped.iter_rows():
        yield Generation.from_json(row["answer"])


def first_answer(answers: Iterator[Generation]) -> float:
    """Return the seconds until the first of the answers; waits for the others."""
    began = time.perf_counter()
    next(answers)
    seconds = time.perf_counter() - began
    for _ in answers:
        continue
    return seconds


def rate(engine: Engine, requests: Sequence[Request]) -> tuple[float, dict[str, tuple[int, ...]]]:
    """Return tokens a second and the tokens by request id, in parts as synthesis hands them over."""
    began = time.perf_counter()
    calls = [requests] if engine.streams else plan_parts(requests, engine.part_size)
    answers = [answer for call in calls for answer in engine.generate(call)]
    seconds = time.perf_counter() - began
    written = sum(len(answer.token_ids) + (answer.finish_reason == "stop") for answer in answers)
    return written / seconds, {answer.id: answer.token_ids for answer in answers}


def measure(options: Any) -> dict[str, Any]:
    """Return the result of the benchmark."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("this benchmark needs Ray; run `pip install 'lingraft[ray]'`")
    size = QUICK if options.quick else FULL
    count, repeats = options.rows or size["rows"], options.repeats or size["repeats"]
    new_tokens = options.new_tokens or size["new_tokens"]
    method, inputs = radis_for(load_pairs(options.pairs, options.source, options.target, count), new_tokens)
    requests = list(method.requests(inputs))
    brief = [replace(request, sampling=replace(request.sampling, max_new_tokens=1)) for request in requests[:8]]
    files = find_model(options.model)
    torch.set_num_threads(cores())
    loaded = load_model(files)
    alone = TransformersEngine(loaded)
    params = RayEngine.Params(workers=WORKERS, inner={"kind": "transformers"})
    began = time.perf_counter()
    engine = RayEngine.create(EngineModel.at(files), params)
    try:
        seconds = {"ray engine, first call": time.perf_counter() - began + first_answer(engine.generate(brief))}
        while engine.ready < WORKERS:
            rate(engine, brief)
        list(alone.generate(brief))
        seconds["ray engine, later call"] = first_answer(engine.generate(brief))
        ours: list[float] = []
        peer: list[float] = []
        written: dict[bool, dict[str, tuple[int, ...]]] = {}
        for repetition in range(repeats):
            for mine in (True, False) if repetition % 2 == 0 else (False, True):
                speed, written[mine] = rate(engine if mine else alone, requests)
                (ours if mine else peer).append(speed)
                print(f"{'ours' if mine else 'peer'}: {speed:.1f} tokens/s", file=sys.stderr)
        values = {key: value for key, value in params.inner.items() if key != "kind"}
        work = WorkerState(files, "auto", "transformers", values, max(1, cores() // WORKERS))
        for window in ("first", "second"):
            seconds[f"Ray Data, {window} dataset"] = first_answer(with_ray_data(work, brief, len(brief) // WORKERS))
    finally:
        engine.close()
    equal = sum(written[True][request.id] == written[False][request.id] for request in requests) / len(requests)
    return build_result(
        "workers",
        ours,
        {"one process, all cores": peer},
        unit="tokens/s",
        n=len(requests),
        device=device_name(loaded.device),
        package_versions=all_versions("ray"),
        details={
            "model": options.model,
            "workers": WORKERS,
            "cores": cores(),
            "part_size": engine.part_size,
            "max_new_tokens": new_tokens,
            "equal_outputs": round(equal, 3),
            "seconds_to_first_answer": {what: round(value, 2) for what, value in seconds.items()},
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("tokens/s of rationale synthesis: two workers of the ray engine against one process")
    options.add_argument("--new-tokens", type=positive, help="longest rationale in tokens")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
