"""Benches: rows of one recipe, run and set side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError

if TYPE_CHECKING:
    from lingraft.pipeline.bench_estimate import BenchEstimate
    from lingraft.pipeline.bench_result import BenchResult
    from lingraft.recipe.trust import Act


def bench(
    file: str | Path,
    *,
    out: str | Path | None = None,
    replace: bool = False,
    trust: bool = False,
    ask: Callable[[Sequence[Act]], bool] | None = None,
    quiet: bool = False,
    workers: int | None = None,
    ray: str | None = None,
) -> BenchResult:
    """Run the rows of a bench file on the same base, pairs, prompts and seeds. A killed bench continues.

    Args:
        file: the bench, YAML; see `docs/bench.md`.
        out: folder of the bench; by default benches/<name>.
        replace: whether what another recipe published in a row's folder may be replaced; finished stages are kept.
        trust: whether the rows may, this time, run and send what `estimate_bench` lists.
        ask: is shown what the rows run and send, and returns whether that is allowed, from then on as well.
        quiet: say only what came out.
        workers: rows that are run at once, each in a process of its own; by default one, in this process. On a cluster
            by default as many as it has GPUs, or machines without.
        ray: address of a Ray cluster whose machines run the rows: auto, host:port or ray://host:port; by default this
            machine does. The bench's folder is on a file system that all of them share.

    Raises:
        UsageError: a bad bench; a folder holds another experiment; what it runs or sends was not allowed; no cluster.
        LingraftError: a row failed; what was finished is kept.
    """
    from lingraft.recipe.bench import load_bench

    _check_workers(workers)
    plan = load_bench(Path(file), Path(out) if out is not None else None)
    from lingraft.core.progress import Reporter
    from lingraft.recipe.trust import require_consent

    for one in plan.to_run:
        require_consent(one.recipe, trust, ask)
    from lingraft.pipeline.bench import run_bench  # heavy: after what may be refused

    return run_bench(plan, Reporter(quiet), replace=replace, workers=workers, ray=ray)


def estimate_bench(
    file: str | Path,
    *,
    out: str | Path | None = None,
    gpu: str | None = None,
    replace: bool = False,
    workers: int | None = None,
) -> BenchEstimate:
    """Check everything that can be known before a bench starts, and reckon the hours of its rows; as a text, the dry
    run's.

    Args:
        file: as for `bench`.
        out: likewise.
        gpu: name of the card to run on, e.g. "rtx4090"; by default what is here.
        replace: as for `bench`.
        workers: likewise.

    Raises:
        LingraftError: what would stop the bench as well.
    """
    from lingraft.recipe.bench import load_bench

    _check_workers(workers)
    plan = load_bench(Path(file), Path(out) if out is not None else None)
    from lingraft.pipeline.bench_estimate import estimate_bench

    return estimate_bench(plan, gpu, replace=replace, workers=workers)


def collect(folders: Sequence[str | Path] | str | Path, out: str | Path, *, quiet: bool = False) -> BenchResult:
    """Write the results of benches without their texts, to be shared, and join rows that were run in several folders.

    Of each finished row the scorecard and the results of each item go along, and neither a text of pairs, prompts or
    answers nor a path of this machine; `compare` reads them. Rows stand in the order of the first folder; one that is
    finished somewhere is taken from there.

    Args:
        folders: of benches, or of results that were collected before; or one of them.
        out: folder to write: a new one, or results that were collected before, whose rows are all among these.
        quiet: say nothing.

    Raises:
        UsageError: `out` holds something else, or lies in one of the folders.
        DataError: they are of different benches (base, test items, questions, seeds, training data), a row was run
            twice with other results, or none is finished.
        StoreError: what a row published was changed or damaged, or `out` cannot be written.
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.bench_collect import collect_benches

    return collect_benches([Path(folder) for folder in given], Path(out), Reporter(quiet))


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise UsageError(
            f"a bench has 1 worker or more, not {workers}; leave `workers` out for one row after the other"
        )
