"""How a graft is named: by its folder, by that of its run, or, on the hub, as `org/name` or `org/name@revision`.

What lies on this machine under the very name comes first; `org/name@main` is the hub's in any case where there is no
such folder. What is fetched are the files of a graft alone: weights as safetensors, descriptions as JSON.
"""

from __future__ import annotations

from pathlib import Path

from lingraft.core.errors import ModelError
from lingraft.core.hub import HubName, commit_of, from_hub
from lingraft.models.files import local_path
from lingraft.models.graft import find_graft
from lingraft.models.graft_seal import ADAPTER, INFO

FETCHED = [
    *(*ADAPTER, INFO, "README.md"),
    *("vocabulary.json", "tokenizer*.json", "tokenizer.model", "chat_template*", "special_tokens_map.json"),
    *("route-*.json", "route-*.safetensors"),
]
LEFT = ["*/*"]


def hub_graft(name: str) -> HubName | None:
    """Return the repository that a graft's name stands for; None where it is a folder, or can be no repository."""
    return None if local_path(name) is not None else HubName.read(name)


def locate_adapter(name: str | Path) -> Path:
    """Return the folder of an adapter that is no graft yet, as `locate_graft`; a path is a folder of this machine.

    Raises:
        ModelError: there is none.
    """
    if isinstance(name, str) and local_path(name) is None and (repository := HubName.read(name)) is not None:
        return _fetched(repository, "give the folder of an adapter: there is none of that name here")
    folder = local_path(name) if isinstance(name, str) else name
    if folder is None or not folder.exists():
        raise ModelError(
            f"there is no adapter at {name}; give the folder that holds {ADAPTER[0]}, or a name of the hub such as "
            f"org/name or org/name@revision"
        )
    if not folder.is_dir():
        raise ModelError(f"{name} is no folder; give the folder that holds {ADAPTER[0]}")
    return folder


def locate_graft(name: str) -> Path:
    """Return the folder of a graft, or of its run: of this machine, else of the hub, fetched if needed.

    Args:
        name: a folder, or a repository of the hub, perhaps at a revision.

    Raises:
        ModelError: it is neither.
    """
    local = local_path(name)
    if local is not None:
        return local
    if (repository := HubName.read(name)) is None:
        raise ModelError(
            f"there is no graft at {name}; give its folder, that of its run, or a name of the hub such as org/name or "
            f"org/name@revision"
        )
    return _fetched(repository, "give the folder of a graft or of its run: there is none of that name here")


def _fetched(repository: HubName, instead: str) -> Path:
    return from_hub(repository, FETCHED, LEFT, instead=instead, whole=lambda found: (found / ADAPTER[0]).is_file())


def graft_folder(name: str) -> Path:
    """Return the folder of a graft by its name: as `locate_graft`, and within the folder of its run.

    Raises:
        ModelError: a name of the hub of which nothing can be fetched.
    """
    return find_graft(Path(name) if hub_graft(name) is None else locate_graft(name))


def pinned(name: str) -> str:
    """Return a graft's name so that it stands for the same weights tomorrow: one of the hub with its commit.

    Raises:
        ModelError: as `graft_folder`.
    """
    repository = hub_graft(name)
    if repository is None or repository.is_pinned:
        return name
    return str(commit_of(locate_graft(name)) or repository)


def shown_name(folder: Path) -> str:
    """Return what the folder of a graft is called in a scorecard: of the hub, the repository and its commit."""
    return str(commit_of(folder) or folder.name)
