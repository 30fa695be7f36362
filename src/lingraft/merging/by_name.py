"""Merging what a user names: grafts, runs with one, whole models, and the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.progress import Reporter
from lingraft.merging.base import MERGERS
from lingraft.merging.plan import BASE, Given, given
from lingraft.merging.stream import merged
from lingraft.merging.weight_files import SHARD, shard_bytes
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import find_base, read_info


def merge_named(
    names: Sequence[str],
    out: Path,
    *,
    kind: str,
    params: Mapping[str, Any],
    base: str | None,
    checkpoint: bool,
    dtype: str,
    max_shard_size: str = "",
    reporter: Reporter,
) -> dict[str, Any]:
    """Merge models by their names into a folder, and return what was written.

    Args:
        names: of what is merged, in order: folders, hub ids, aliases, or `base`.
        out: folder to write; one that was made of the very same stays.
        kind: registered name of the merger.
        params: its parameters; those left out have their defaults.
        base: alias, folder or hub id of the base; None: that of the first graft.
        checkpoint: whether a model of its own is written instead of a graft.
        dtype: of its weights; "": as the base has them.
        max_shard_size: of a file of its weights, such as "5GB"; "": 50GB.
        reporter: shows progress.

    Raises:
        UsageError: nothing to merge, an unknown merger or parameter, or no base.
        ModelError, StoreError: as `lingraft.merging.stream.merged`.
    """
    merger = MERGERS.create({**params, "kind": kind})
    if not [name for name in names if name != BASE]:
        raise UsageError("there is nothing to merge; give a graft, the folder of its run, or a model")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{twice} is given twice; give it once, and a larger weight if it is to count more")
    if dtype and not checkpoint:
        raise UsageError("a graft holds whole layers in float32; drop the type, or write a model of its own")
    if max_shard_size and not checkpoint:
        raise UsageError("a graft is one file; drop the size of files, or write a model of its own")
    shard = shard_bytes(max_shard_size) if max_shard_size else SHARD
    merger.check(len(names))
    models = [given(name) for name in names]
    with reporter.task("merging", 1) as task:
        written = merged(
            merger,
            _base(models, base),
            models,
            out,
            "checkpoint" if checkpoint else "graft",
            dtype,
            lambda done, total: task.update(done, total=total),
            shard,
        )
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    return {"folder": str(out), "kind": kind, "of": list(names), "bytes": size, **asdict(written)}


def _base(models: Sequence[Given], name: str | None) -> ModelFiles:
    graft = next((model for model in models if isinstance(model, Path)), None)
    if graft is not None:
        return find_base(read_info(graft), graft, name)
    if name is None:
        raise UsageError("none of these is a graft, which would say what its base is; give the base they came from")
    return find_model(name)
