"""Runs and benches watched from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError

if TYPE_CHECKING:
    from lingraft.pipeline.result import Run
    from lingraft.watching.states import WatchedBench, WatchedRun


def watch(run: Run | str | Path, *, html: str | Path | None = None, every: float = 2.0) -> WatchedRun | WatchedBench:
    """Say how far a run, or a bench, has come: once, and from its folder alone. Nothing is locked or written there.

    It may not have begun, be at work in another process, be finished, or have been killed; `over` of what is returned
    says whether there is more to wait for.

    Args:
        run: a run, or the folder of one or of a bench, which need not exist.
        html: file of a page that shows the same; it loads itself anew until the run is over.
        every: seconds after which the page does so.

    Raises:
        StoreError: the folder cannot be read, or the page cannot be written.
        UsageError: the page would lie in the folder.
    """
    folder = Path(run) if isinstance(run, str | Path) else run.folder
    if html is not None and Path(html).resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{html} would lie in the folder that is watched, where a run alone writes; give another place"
        )
    from lingraft.watching.bench_folder import holds_bench, watch_bench
    from lingraft.watching.run_folder import refuse_unreadable, watch_run

    refuse_unreadable(folder)
    state = watch_bench(folder) if holds_bench(folder) else watch_run(folder)
    if html is not None:
        from lingraft.store.files import write_atomic
        from lingraft.watching.page import render_watch

        write_atomic(Path(html), render_watch(state, every))
    return state
