"""Merged copies: base and graft as one model on disk, for engines that cannot load the graft beside the base."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lingraft.core.environment import cache_folder, workers_beside
from lingraft.core.hashing import file_hashes
from lingraft.models.devices import free_memory
from lingraft.models.files import ModelFiles
from lingraft.models.merged_model import write_merged
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import artefact_path, build_artefact
from lingraft.store.disk import explain_os_errors

KEPT = 2
"""Merged copies kept in the cache, for each process that works at once; older ones go when a new one is made."""

log = logging.getLogger(__name__)


def merged_copy(files: ModelFiles, graft: Path, dtype: torch.dtype, why: str) -> Path:
    """Return the folder of a model that is base and graft in one, made if it is not in the cache.

    It is written and checked as `write_merged` does.

    Args:
        files: the base.
        graft: its folder.
        dtype: of the copy's weights.
        why: reason that the graft is merged, for the message that states the disk use.

    Raises:
        ModelError: the graft does not fit the base, or the copy computes something else.
        StoreError: the copy cannot be written.
    """
    root = cache_folder() / "merged"
    adapter = file_hashes(graft, ("adapter_config.json", "adapter_model.safetensors"))
    inputs: dict[str, Any] = {"base": files.sha256, "adapter": adapter, "dtype": str(dtype)}
    vocabulary = Vocabulary.in_folder(graft)
    if vocabulary is not None:
        inputs["vocabulary"] = vocabulary.info.model_dump(mode="json", by_alias=True)

    def build(folder: Path) -> dict[str, Any]:
        write_merged(files, graft, folder, dtype, "set `engine: transformers`")
        free_memory()
        return {"merged": str(graft), "base": files.name}

    with explain_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            known = artefact_path(root, "merged", inputs).exists()
            folder = build_artefact(root, "merged", inputs, build)
            folder.touch()  # used last
            if not known:
                size = sum(path.stat().st_size for path in folder.iterdir()) / 1024**3
                log.warning(
                    "%s is merged into a copy of the base because %s: %.1f GiB in %s, where the last %d are kept",
                    *(graft, why, size, folder, KEPT * workers_beside()),
                )
                _remove_old(root)
    return folder


def _remove_old(root: Path) -> None:
    copies = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in copies[: -KEPT * workers_beside()]:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
