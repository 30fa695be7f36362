"""Grafts that exist already: whether they go with a run's base, and the sum of several as one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.errors import ModelError
from lingraft.core.hashing import content_hash
from lingraft.merging.plan import pinned_given
from lingraft.models.compose import compose_grafts
from lingraft.models.graft import GraftInfo, check_fit, read_info
from lingraft.models.graft_names import graft_folder, hub_graft, pinned
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.recipe.merging import is_path
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import GivenGraft
from lingraft.store.artefacts import listing


def fitting(context: Context, folder: Path) -> GraftInfo:
    """Return what a graft says about itself, if it can be put on the run's base.

    Raises:
        ModelError: it is no graft, damaged, or was made for another base.
    """
    info = read_info(folder)
    if info.base_sha256 != context.files.sha256:
        raise ModelError(
            f"the graft {folder} was trained on {info.base_id or 'a base'} with hash {info.base_sha256[:12]}, but this "
            f"run's base {context.recipe.model} has hash {context.files.sha256[:12]}; give grafts of one base"
        )
    check_fit(context.files, context.renderer, folder)
    return info


def pinned_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe whose grafts of the hub are named by their commits: a branch may move while the run goes on, and
    what is measured has to be known afterwards.

    Raises:
        ModelError: one cannot be fetched.
    """
    grafts = [
        one.model_copy(update={"path": pinned(one.path) if isinstance(one.path, str) else list(map(pinned, one.path))})
        for one in recipe.grafts
    ]
    stages = [
        one.model_copy(update={"upon": pinned(one.upon)}) if one.upon and hub_graft(one.upon) else one
        for one in recipe.stages
    ]
    merge = [
        one.model_copy(update={"of": [pinned_given(part) if is_path(part) else part for part in one.of]})
        for one in recipe.merge
    ]
    named = (recipe.grafts, recipe.stages, recipe.merge)
    changed = (grafts, stages, merge)
    return recipe if changed == named else recipe.model_copy(update=dict(zip(_NAMING, changed, strict=True)))


_NAMING = ("grafts", "stages", "merge")
"""Keys of a recipe that may name grafts."""


def check_upon(context: Context, folder: Path) -> None:
    """Check that a graft can be merged into the run's base for a training.

    Raises:
        ModelError: it is no graft, damaged, of another base, or has a vocabulary of its own.
    """
    fitting(context, folder)
    if Vocabulary.in_folder(folder) is not None:
        raise ModelError(
            f"`upon`: the graft {folder} has a vocabulary of its own, with which the base would be another model; "
            f"continue its training as a further stage instead"
        )


def given_folder(context: Context, choice: GivenGraft) -> Path:
    """Return the folder of a given graft; of several, that of their sum, made if needed.

    Raises:
        ModelError: one is no graft, damaged or of another base, or they cannot be added.
    """
    folders = [graft_folder(path) for path in choice.paths]
    for folder in folders:
        fitting(context, folder)
    if len(folders) == 1:
        return folders[0]
    inputs = {"grafts": [content_of(folder) for folder in folders]}
    return context.artefact(f"sum-{choice.label}", inputs, partial(_compose, folders)) / "graft"


def _compose(folders: list[Path], folder: Path) -> dict[str, Any]:
    compose_grafts(folders, folder / "graft")
    return {"grafts": len(folders)}


def content_of(folder: Path) -> str:
    """Return a hash of all files of a graft but its card."""
    return content_hash({name: file["sha256"] for name, file in listing(folder).items() if name != "README.md"})
