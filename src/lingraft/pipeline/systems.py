"""The grafts that a run measures: those it trained, given ones, and copies at other scales (`scale-<system>`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.conversation.opening import markers_of
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.strangers import copy_folder, read_object
from lingraft.evaluation.scorecard import System
from lingraft.models.adapter_config import CONFIG
from lingraft.models.graft import GraftInfo, as_trained, check_fit, find_graft, read_info, write_info
from lingraft.models.graft_seal import check_seal
from lingraft.models.vocabulary import read_vocabulary, vocabulary_renderer
from lingraft.pipeline.context import Context
from lingraft.pipeline.train import TrainedSystem
from lingraft.recipe.asking import wording_of_run
from lingraft.recipe.stages import GivenGraft
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import listing
from lingraft.store.files import write_json
from lingraft.translation.markers import Markers


@dataclass(frozen=True)
class MeasuredSystem:
    """A graft that is measured, under the name of its system.

    Attributes:
        graft: folder of the adapter and `lingraft.json`. graft_hash: what it depends on. info: its `lingraft.json`.
        group, seed, scale, stage: as in the scorecard.
        renderer: of its tokenizer. markers: of its extended vocabulary, if it has one.
        trained: how it was trained in this run; None for a given graft.
    """

    name: str
    graft: Path
    graft_hash: str
    info: GraftInfo
    renderer: Renderer
    markers: Markers | None
    tuner: str
    shown: str
    group: str | None = None
    seed: int | None = None
    scale: float | None = None
    stage: int | None = None
    trained: TrainedSystem | None = None

    def described(self) -> System:
        """Return the system's entry in the scorecard."""
        return System(
            name=self.name,
            method=self.info.method,
            tuner=self.tuner,
            graft=self.shown,
            group=self.group,
            seed=self.seed,
            scale=self.scale,
            stage=self.stage,
        )


def measured_grafts(context: Context, trained: Sequence[TrainedSystem]) -> list[MeasuredSystem]:
    """Return all grafts of the run: trained and given ones, the own one behind what it was after each earlier stage,
    then further seeds, then the own graft at other scales.

    Raises:
        ModelError: a given graft is none, or was made for another base.
        UsageError: a graft that cannot be scaled.
    """
    made = [_trained(context, item) for item in trained]
    primary = [*(one for one in made if one.group is None), *(_given(context, one) for one in context.recipe.grafts)]
    own = [one for one in primary if one.name in context.recipe.headliners]
    scaled = [_scaled(context, one, scale) for scale in context.recipe.evaluate.scales for one in own]
    steps = {item.name: _earlier(context, item) for item in trained if item.name in context.recipe.headliners}
    ordered = [graft for one in primary for graft in (*steps.get(one.name, ()), one)]
    return [*ordered, *(one for one in made if one.group is not None), *scaled]


def own_graft(context: Context, grafts: Sequence[MeasuredSystem]) -> MeasuredSystem:
    """Return the graft that the run is about: its own, or the last of the given ones."""
    return next(one for one in grafts if one.name == context.recipe.headliners[-1])


def _trained(context: Context, trained: TrainedSystem) -> MeasuredSystem:
    system = trained.synthesised.system
    return MeasuredSystem(
        system.name,
        trained.graft,
        trained.graft_hash,
        _asked(context, trained),
        *_words(context, trained.graft),
        system.stage.tuner.kind,
        f"{trained.folder.name}/graft",
        system.group,
        system.seed if system.group else None,
        trained=trained,
    )


def _asked(context: Context, trained: TrainedSystem) -> GraftInfo:
    """Return how a graft is asked: one that no stage has taught to translate, in the words of the run."""
    info = read_info(trained.graft)
    if any(item.synthesised.translating for item in trained.lineage):
        return info
    return info.model_copy(update={"instruction": wording_of_run(context.recipe)})


def _earlier(context: Context, trained: TrainedSystem) -> list[MeasuredSystem]:
    """Return what a system was after each of its stages but the last, where the recipe wants that measured."""
    if not context.recipe.evaluate.stages:
        return []
    return [
        replace(_trained(context, item), name=f"{item.name}@{number}", group=item.name, stage=number, trained=None)
        for number, item in enumerate(trained.lineage[:-1], start=1)
    ]


def check_given(context: Context) -> None:
    """Check that the recipe's given grafts can be put on its base, at other scales where these are wanted: before
    anything is trained.

    Raises:
        ModelError: one is no graft, or was made for another base.
        UsageError: one cannot be scaled.
    """
    for choice in context.recipe.grafts:
        folder = find_graft(Path(choice.path))
        read_info(folder)
        if context.recipe.evaluate.scales and choice.label in context.recipe.headliners:
            _scalable(choice.label, folder)
        _fitting(context, folder)


def _fitting(context: Context, folder: Path) -> GraftInfo:
    info = read_info(folder)
    if info.base_sha256 != context.files.sha256:
        raise ModelError(
            f"the graft {folder} was trained on {info.base_id or 'a base'} with hash {info.base_sha256[:12]}, but this "
            f"run's base {context.recipe.model} has hash {context.files.sha256[:12]}; give grafts of one base"
        )
    check_fit(context.files, context.renderer, folder)
    return info


def _given(context: Context, choice: GivenGraft) -> MeasuredSystem:
    folder = find_graft(Path(choice.path))
    info = _fitting(context, folder)
    digest = content_hash({name: file["sha256"] for name, file in listing(folder).items() if name != "README.md"})
    kind = str(_config(folder).get("peft_type", "")).lower()
    return MeasuredSystem(choice.label, folder, digest[:16], info, *_words(context, folder), kind, folder.name)


def _words(context: Context, graft: Path) -> tuple[Renderer, Markers | None]:
    """Return the renderer of a graft's tokenizer, the base's own unless it has another, and its markers."""
    own = read_vocabulary(graft) is not None
    renderer = vocabulary_renderer(context.files, graft, context.recipe.template) if own else context.renderer
    return as_trained(renderer, graft), markers_of(graft, renderer)


def _config(folder: Path) -> dict[str, Any]:
    return read_object(folder / CONFIG)


def _scaled(context: Context, one: MeasuredSystem, scale: float) -> MeasuredSystem:
    """Return a copy of a graft whose update of the base is `scale` times as large."""
    config = _scalable(one.name, one.graft)
    # The update is alpha / rank (or alpha / sqrt(rank)) times the product of the factors.
    alphas = {name: _times(alpha, scale) for name, alpha in (config.get("alpha_pattern") or {}).items()}
    changed = {**config, "lora_alpha": _times(config["lora_alpha"], scale), "alpha_pattern": alphas}

    def build(folder: Path) -> dict[str, Any]:
        copy_folder(one.graft, folder / "graft")
        check_seal(folder / "graft")
        write_json(folder / "graft" / CONFIG, changed)
        write_info(folder / "graft", read_info(folder / "graft"))
        return {}

    name = f"{one.name}*{scale:g}"
    folder = context.artefact(f"scale-{name}", {"graft": one.graft_hash, "scale": scale}, build)
    shown = f"{folder.name}/graft"
    copy = replace(one, name=name, graft=folder / "graft", graft_hash=folder.name, shown=shown, trained=None)
    return replace(copy, group=one.name, scale=scale)


def _scalable(name: str, graft: Path) -> dict[str, Any]:
    """Return the configuration of a graft that has other scales.

    Raises:
        UsageError: it has none.
    """
    config = _config(graft)
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise UsageError(f"{name} is not a plain LoRA graft and has no other scales; drop `evaluate.scales`")
    if config.get("modules_to_save") or config.get("trainable_token_indices"):
        raise UsageError(f"{name} holds whole layers or embeddings, which have no other scales; drop `evaluate.scales`")
    return config


def _times(alpha: float, scale: float) -> float:
    """Return the product, whole where it is: some engines want it so."""
    value = alpha * scale
    return int(value) if value == int(value) else value
