"""Where the base of a graft is on this machine, and what others call it.

A graft goes out: it names its base by a hub id, or not at all, never by a folder of this machine. Here the base is
found by its hash, in the folder that the run notes beside the graft, or in one that was hashed before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lingraft.core.errors import ModelError
from lingraft.core.strangers import read_bytes, read_object
from lingraft.core.validation import HUB_ID
from lingraft.models.files import ALIASES, ModelFiles, find_model, local_path
from lingraft.models.hashes import hashed_folders
from lingraft.store.artefacts import RECORD
from lingraft.store.files import read_sealed

_FOLDERS = frozenset({"model", "models", "checkpoint", "checkpoints", "output", "outputs", "out", "runs", "results"})
_FOLDERS_OF_SYSTEMS = frozenset({"data", "home", "mnt", "root", "tmp", "usr", "var"})


def public_id(files: ModelFiles, given: str | None = None) -> str:
    """Return the hub id of a base; "" where it has none that is known.

    Args:
        files: the base.
        given: by the user. Else a base that is not a folder is called by its id, a snapshot in the hub's cache by that
            of its repository, and any other folder as `_name_or_path` of its configuration says, if that is a hub id.
    """
    if given:
        return given
    if files.name in ALIASES:
        return ALIASES[files.name].hub_id
    if local_path(files.name) is None:
        return files.name
    for part in reversed(files.folder.resolve().parts):
        if found := re.fullmatch(r"models--([^/]+?)--([^/]+)", part):
            return "/".join(found.groups())
    return named_in_config(files.folder)


def named_in_config(folder: Path) -> str:
    """Return the hub id that a model's `config.json` says it was loaded from; "" where it says none."""
    with suppress(OSError, ValueError, ModelError):
        name = read_object(folder / "config.json").get("_name_or_path")
        if not isinstance(name, str) or not re.fullmatch(HUB_ID, name) or local_path(name) is not None:
            return ""
        if name.partition("/")[0].lower() not in _FOLDERS | _FOLDERS_OF_SYSTEMS:
            return name
    return ""


_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_FRONT = re.compile(r"---\r?\n(.*?)\n---\s", re.DOTALL)
_MOST = 256 * 1024


def base_license(name: str, folder: Path | None) -> dict[str, str]:
    """Return what a base's card says of its licence: `license`, and `license_name` and `license_link` where the hub
    has no name of its own for it; nothing where no card of the base is on this machine.

    Args:
        name: what the user calls the base.
        folder: of the base, with its card; None: not at hand.
    """
    if name in ALIASES:
        return {"license": ALIASES[name].license}
    path = folder / "README.md" if folder is not None else None
    if path is None or not path.is_file():
        return {}
    with suppress(OSError, ValueError, ModelError, yaml.YAMLError, RecursionError):
        found = _FRONT.match(read_bytes(path).decode("utf-8"))
        values = yaml.safe_load(found[1]) if found and len(found[1]) < _MOST else None
        if isinstance(values, Mapping) and _LICENCE.fullmatch(str(values.get("license") or "")):
            keys = ("license", "license_name", "license_link") if values["license"] == "other" else ("license",)
            return {key: str(values[key])[:500] for key in keys if isinstance(values.get(key), str)}
    return {}


def graft_base_id(files: ModelFiles, given: str | None = None) -> str:
    """Return what `lingraft.json` calls a base: an alias, else as `public_id`."""
    return files.name if files.name in ALIASES and not given else public_id(files, given)


def find_by_hash(sha256: str, graft: Path) -> ModelFiles | None:
    """Return a base on this machine by its hash: noted by the run around a graft, or hashed before; else None.

    Args:
        sha256: of the base, as `ModelFiles` has it.
        graft: folder of the graft, which may lie in the folder of its run.
    """
    for name in dict.fromkeys([*_noted(graft), *map(str, hashed_folders(sha256))]):
        with suppress(ModelError):  # moved, or damaged: another may be whole
            if find_model(name, remembered=True).sha256 == sha256:
                files = find_model(name)  # read through: it will be used
                if files.sha256 == sha256:
                    return files
    return None


def _noted(graft: Path) -> Iterator[str]:
    """Yield what the runs in whose folder a graft lies call their base."""
    for folder in list(graft.absolute().parents)[:2]:
        with suppress(KeyError, TypeError):
            name = str((read_sealed(folder / RECORD) or {})["recipe"]["model"])
            if local_path(name) is not None or name in ALIASES:
                yield name


def without_folders(value: Any) -> Any:
    """Return a value for others to read: of each path of this machine in it, only the last part."""
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if not isinstance(value, str) or not os.path.isabs(value) or len(Path(value).parts) < 3:
        return value
    return Path(value).name if os.path.lexists(value) else value
