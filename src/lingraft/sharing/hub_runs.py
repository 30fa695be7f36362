"""Runs of the hub: the numbers that `lingraft push` puts beside a graft, to be compared on any machine."""

from __future__ import annotations

from pathlib import Path

from lingraft.core.errors import StoreError
from lingraft.core.hub import HubName, from_hub
from lingraft.evaluation.published import NUMBERS, RUN
from lingraft.models.files import local_path
from lingraft.sharing.contents import NUMBERS_FOLDER


def locate_run(name: str) -> tuple[Path, str]:
    """Return the folder of a finished run, and what it is called: of this machine, else of the hub, fetched if needed.

    Args:
        name: a folder, or a repository of the hub to which a run was pushed, perhaps at a revision.

    Raises:
        ModelError: it is no folder here, and cannot be fetched.
        StoreError: it can be no name of the hub either, or was pushed without its results.
    """
    local = local_path(name)
    if local is not None:
        return local, ""
    if (repository := HubName.read(name)) is None:
        raise StoreError(f"{name}: there is no such folder; give that of a finished run, or org/name of the hub")
    wanted = [f"{NUMBERS_FOLDER}/{one}" for one in (*NUMBERS, RUN)]
    instead = "give the folder of a finished run: there is none of that name here"
    folder = from_hub(repository, [*wanted, "lingraft.json"], instead=instead) / NUMBERS_FOLDER
    if missing := next((one for one in wanted if not (folder.parent / one).is_file()), ""):
        raise StoreError(f"{name} has no {missing}: it was pushed by an earlier version; push the run again")
    return folder, str(repository)
