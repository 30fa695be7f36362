"""What is merged: models of one base that were found to go together, and each weight of the result when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.core.errors import ModelError
from lingraft.core.hub import HubName, commit_of
from lingraft.core.strangers import shown
from lingraft.merging.agreement import check_layers, control_rows, difference
from lingraft.merging.base import Merger, Weight
from lingraft.merging.sources import Base, Checkpoint, Graft, Layout, Weights
from lingraft.models.checks import is_finite
from lingraft.models.files import ModelFiles, find_model, load_tokenizer, local_path
from lingraft.models.graft import GraftInfo, check_fit, find_graft, read_info
from lingraft.models.graft_names import hub_graft, locate_graft
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.growth import growing
from lingraft.models.loading import load_renderer
from lingraft.models.vocabulary import Vocabulary

BASE = "base"
Given = str | Path | ModelFiles
"""A model that is merged: `BASE`, the folder of a graft, or a model of its own."""


def given(name: str) -> Given:
    """Return the model of a name: `base`, the folder of a graft or of its run, a model's folder, alias or hub id.

    Raises:
        ModelError: there is none.
    """
    if name == BASE:
        return BASE
    local = local_path(name)
    if local is not None:
        folder = find_graft(local)
        return folder if (folder / "adapter_config.json").exists() else find_model(name)
    repository = HubName.read(name)
    if repository is None:
        return find_model(name)
    try:
        return locate_graft(name)
    except ModelError:  # of the hub, where a model is no graft
        return find_model(repository.repository, repository.revision)


def pinned_given(name: str) -> str:
    """Return a model's name so that it stands for the same weights tomorrow: one of the hub with its commit.

    Raises:
        ModelError: as `given`.
    """
    repository = hub_graft(name)
    if repository is None or repository.is_pinned:
        return name
    found = given(name)
    folder = found.folder if isinstance(found, ModelFiles) else Path(found)
    return str(commit_of(folder) or repository)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Models of one base that go together, and how they are merged.

    Attributes:
        merger: what merges them.
        base: the base.
        models: those that are merged, in their order.
        grafts: folders of those of them that are grafts, with what they say about themselves.
        vocabulary: that all of them share instead of the base's.
        shapes: first name of each weight of the result -> its shape.
        rows: see `Weight.rows`; None where all models have one vocabulary.
        identity: of all that decides the result, JSON-ready.
        changed: first names of the weights that may be others than the base's.
    """

    merger: Merger
    base: Checkpoint
    models: Sequence[Weights]
    grafts: Sequence[tuple[Path, GraftInfo]]
    vocabulary: Vocabulary | None
    shapes: dict[str, tuple[int, ...]]
    rows: dict[int, int] | None
    identity: dict[str, Any]
    changed: frozenset[str]
    _grow: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def layout(self) -> Layout:
        """The base's weights."""
        return self.base.layout

    def weight(self, name: str) -> torch.Tensor:
        """Return a weight of the result, float32.

        Args:
            name: its first name; of what is no weight its name, and it is the base's.

        Raises:
            ModelError: a model's numbers are damaged, or the merger gives none that can be used.
        """
        if name in self.layout.buffers:
            return self.base.buffer(name)
        layout, tokens = self.layout, name in self.layout.token_rows
        backbone = self.base.read(name)
        if tokens and self._grow is not None:
            backbone = self._grow(backbone)
        if name not in self.changed:
            return backbone
        about = Weight(
            name=name,
            embedding=name == layout.embedding,
            head=name == layout.head,
            transposed=name in layout.transposed,
            rows=self.rows if tokens else None,
        )
        found = self.merger.merge(about, backbone, [model.read(name, backbone) for model in self.models])
        if tuple(found.shape) != self.shapes[name] or found.dtype != torch.float32 or not is_finite(found):
            raise ModelError(
                f"the merger {self.merger.name} gives {tuple(found.shape)} {found.dtype} numbers for {shown(name)}, "
                f"where {self.shapes[name]} finite ones of float32 are due; choose parameters closer to 1"
            )
        return found


def planned(merger: Merger, base: ModelFiles, models: Sequence[Given]) -> Plan:
    """Compare models of a base, tokenizers and vocabularies first, and return how they are merged.

    Args:
        merger: what merges them.
        base: the base.
        models: in their order; the base may be one of them.

    Raises:
        UsageError: the merger does not take so many models, or its parameters do not fit them.
        ModelError: a model is damaged, of another base or size, or has another vocabulary or tokenizer.
    """
    merger.check(len(models))
    backbone = Checkpoint(base)
    layout, tokenizer = backbone.layout, load_tokenizer(base.folder)
    folders = [find_graft(one) if isinstance(one, Path) else None for one in models]
    infos = _read_infos(base, [folder for folder in folders if folder is not None])
    vocabularies = [None if folder is None else Vocabulary.in_folder(folder) for folder in folders]
    shared = _shared(merger, models, vocabularies)
    layouts = [Layout(one.folder) if isinstance(one, ModelFiles) else None for one in models]
    other = shared is None and vocabularies[0] is not None
    for place, (one, found) in enumerate(zip(models, layouts, strict=True)):
        if isinstance(one, ModelFiles) and found is not None:
            free = merger.other_vocabularies and place == 0
            other = check_model(base, layout, one, found, free=free) or other
    weights = [
        _opened(one, folder, found, layout, growing(tokenizer, own) if own and not shared else None)
        for one, folder, found, own in zip(models, folders, layouts, vocabularies, strict=True)
    ]
    shapes = dict(layout.shapes)
    if grown := shared or vocabularies[0]:
        shapes |= {name: (grown.info.rows, *shapes[name][1:]) for name in layout.token_rows}
    elif other and layouts[0] is not None:
        shapes |= {name: layouts[0].shapes[name] for name in layout.token_rows}
    keeps = merger.keeps_base(len(models))
    touched = [name for name in shapes if not keeps or any(one.touches(name) for one in weights)]
    if not touched:
        raise ModelError(f"none of the models changes a weight of {base.name}; give one that does")
    return Plan(
        merger=merger,
        base=backbone,
        models=weights,
        grafts=list(infos.items()),
        vocabulary=shared,
        shapes=shapes,
        rows=_control_rows(base, models, vocabularies[0], weights[0].label) if other else None,
        identity={
            "merger": [merger.name, merger.version, merger.params.model_dump(mode="json")],
            "base": base.sha256,
            "models": [_hash(one, folder) for one, folder in zip(models, folders, strict=True)],
        },
        changed=frozenset(touched),
        _grow=growing(tokenizer, shared) if shared is not None else None,
    )


def _read_infos(base: ModelFiles, folders: Sequence[Path]) -> dict[Path, GraftInfo]:
    """Return what grafts say about themselves, once each of them was found to fit the base."""
    infos = {folder: read_info(folder) for folder in folders}
    for folder, info in infos.items():
        if info.base_sha256 != base.sha256:
            raise ModelError(
                f"the graft {folder} was trained on {info.base_id or 'a base'} with hash {info.base_sha256[:12]}, and "
                f"{base.name} has hash {base.sha256[:12]}; merge grafts of one base"
            )
    renderer = load_renderer(base) if infos else None
    for folder in infos:
        if renderer is not None:
            check_fit(base, renderer, folder)
    return infos


def check_model(base: ModelFiles, layout: Layout, one: ModelFiles, found: Layout, *, free: bool) -> bool:
    """Return whether a model has another vocabulary than the base, which it may where it is `free`.

    Args:
        base: the base.
        layout: of its weights.
        one: the model.
        found: layout of its weights.
        free: see above.

    Raises:
        ModelError: it is no model of the base, or has another vocabulary and is not free.
    """
    odd = difference(load_tokenizer(base.folder), load_tokenizer(one.folder))
    if odd and not free:
        raise ModelError(f"the tokenizer of {one.name} is not that of {base.name}: {odd}; merge models of one base")
    check_layers(layout, found, one.name, other_tokens=free)
    return bool(odd) or any(found.shapes[name] != layout.shapes[name] for name in layout.token_rows)


def _opened(
    one: Given,
    folder: Path | None,
    found: Layout | None,
    layout: Layout,
    grow: Callable[[torch.Tensor], torch.Tensor] | None,
) -> Weights:
    if isinstance(one, ModelFiles):
        return Checkpoint(one, found)
    return Base() if folder is None else Graft(folder, layout, grow)


def _control_rows(
    base: ModelFiles, models: Sequence[Given], vocabulary: Vocabulary | None, name: str
) -> dict[int, int]:
    """Return the rows that the first model, whose vocabulary is another, takes over from the last."""
    first, last = (one.folder if isinstance(one, ModelFiles) else base.folder for one in (models[0], models[-1]))
    learnt = load_tokenizer(vocabulary.folder if vocabulary is not None else first)
    return control_rows(learnt, load_tokenizer(last), name)


def _hash(one: Given, folder: Path | None) -> str | None:
    if isinstance(one, ModelFiles):
        return one.sha256
    return BASE if folder is None else adapter_hash(folder)


def _shared(merger: Merger, models: Sequence[Given], vocabularies: Sequence[Vocabulary | None]) -> Vocabulary | None:
    """Return the vocabulary that all models have instead of the base's; None where it is the base's.

    Raises:
        ModelError: some have another than others, and the merger does not take that.
    """
    known = [one for one in vocabularies if one is not None]
    others = [own for one, own in zip(models[1:], vocabularies[1:], strict=True) if one != BASE]
    free = merger.other_vocabularies and vocabularies[0] is not None
    if not known or (free and others and not any(others)):
        return None
    for one, vocabulary in zip(models, vocabularies, strict=True):
        if one == BASE:
            continue  # it is grown as the others were
        if vocabulary is None:
            raise ModelError(
                f"{_name(one)} has the vocabulary of the base, and {known[0].folder} one of its own; merge models of "
                f"one vocabulary"
            )
        if vocabulary.info.sha256 != known[0].info.sha256:
            odd = difference(load_tokenizer(known[0].folder), load_tokenizer(vocabulary.folder))
            raise ModelError(
                f"{vocabulary.folder} and {known[0].folder} have vocabularies of their own that differ"
                f"{': ' + odd.replace('the base', 'the other') if odd else ''}; merge models of one vocabulary"
            )
    return known[0]


def _name(one: Given) -> str:
    return one.name if isinstance(one, ModelFiles) else str(one)
