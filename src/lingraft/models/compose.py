"""The sum of several grafts that were trained apart on one base, as one graft: theta0 + phi1 + phi2 (arXiv 2204.02292).

Low-rank updates are laid side by side, sparse changes are summed number by number. What replaces weights is no
difference: two grafts that replace the same cannot be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from filelock import FileLock

from lingraft.core.environment import cache_folder
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.strangers import shown
from lingraft.models.adapter import Parts, read_parts, write_parts
from lingraft.models.concatenate import joined
from lingraft.models.graft import find_graft, read_info, write_info
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import build_artefact
from lingraft.store.disk import explain_os_errors


def compose_grafts(folders: Sequence[Path], out: Path) -> None:
    """Write the sum of grafts of one base as a graft.

    It is asked as the last one is, which is told in its `lingraft.json`; directions are those of all.

    Args:
        folders: of two or more grafts.
        out: folder to write.

    Raises:
        ModelError: one is damaged, they are of different bases or kinds, or two replace the same weights.
    """
    infos = [read_info(folder) for folder in folders]
    first = infos[0]
    for folder, info in zip(folders, infos, strict=True):
        if info.base_sha256 != first.base_sha256:
            raise ModelError(
                f"the grafts {folders[0]} and {folder} were trained on different bases ({first.base_sha256[:12]} and "
                f"{info.base_sha256[:12]}); give grafts of one base"
            )
        if Vocabulary.in_folder(folder) is not None:
            raise ModelError(
                f"the graft {folder} has a vocabulary of its own, and no other graft knows its rows; it cannot be added"
            )
    parts = [read_parts(folder) for folder in folders]
    for one, other in combinations(range(len(parts)), 2):
        if both := _overlap(parts[one], parts[other]):
            raise ModelError(
                f"the grafts {folders[one]} and {folders[other]} overlap: both replace {shown(both)}, and only one "
                f"can; give grafts of low-rank updates or sparse changes"
            )
    total = parts[0]
    for folder, more in zip(folders[1:], parts[1:], strict=True):
        # What replaces a weight goes first, so that the other's update is added to it.
        pair = (more, total) if any(total.factors.keys() & _replaced(more)) else (total, more)
        total = joined(*pair, f"the grafts {folders[0]} and {folder}")
    write_parts(total, out)
    last = infos[-1]
    directions = list({(one.source, one.target): one for info in infos for one in info.directions}.values())
    method = " & ".join(dict.fromkeys(info.method for info in infos))[:200]
    write_info(out, last.model_copy(update={"directions": directions, "method": method, "upon_sha256": None}))


def composed(folders: Sequence[Path]) -> Path:
    """Return the folder of the sum of some grafts, made in the cache if it is not there; of one, that folder.

    Raises:
        UsageError: there is none.
        ModelError: as `compose_grafts`.
    """
    if not folders:
        raise UsageError("there is no graft to open; give a folder or a hub id")
    if len(folders) == 1:
        return folders[0]
    grafts = [find_graft(folder) for folder in folders]
    inputs = {"grafts": [[adapter_hash(one), content_hash(read_info(one).model_dump(mode="json"))] for one in grafts]}

    def build(folder: Path) -> None:
        compose_grafts(grafts, folder / "graft")

    root = cache_folder() / "sums"
    with explain_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            return build_artefact(root, "sum", inputs, build) / "graft"


def _replaced(parts: Parts) -> set[str]:
    """Return the layers of which a graft replaces something."""
    return {name.rpartition(".")[0] for name in parts.whole} | set(parts.rows)


def _overlap(one: Parts, other: Parts) -> str:
    """Return a layer of which both replace the same, or "" if there is none."""
    if both := sorted(one.whole.keys() & other.whole.keys()):
        return both[0]
    for first, second in ((one, other), (other, one)):
        if within := sorted(layer for layer in first.rows if second.replaces(layer)):
            return within[0]
    shared = sorted(one.rows.keys() & other.rows.keys())
    return next((layer for layer in shared if set(one.rows[layer][0]) & set(other.rows[layer][0])), "")
