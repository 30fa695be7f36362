"""What a run measures: its base, the grafts it trained, given ones, and copies at other scales (`scale-<system>`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.conversation.opening import markers_of
from lingraft.core.errors import UsageError
from lingraft.core.registry import Registry
from lingraft.core.strangers import copy_folder, read_object
from lingraft.evaluation.scorecard import System
from lingraft.evaluation.scoring import BASE
from lingraft.methods.base import METHODS
from lingraft.models.adapter import read_parts
from lingraft.models.adapter_config import CONFIG
from lingraft.models.graft import as_trained, find_graft, read_info, write_info
from lingraft.models.graft_seal import check_seal
from lingraft.models.sparse_files import write_entries
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.given_grafts import check_upon, content_of, fitting, given_folder
from lingraft.pipeline.stage_training import TrainedSystem
from lingraft.recipe.asking import Chat, wording_of_run
from lingraft.recipe.stages import GivenGraft
from lingraft.rendering.renderer import Renderer
from lingraft.store.files import write_json
from lingraft.training.tuners import TUNERS
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem

_PARTS = "translator, base, translator"
_HOW = "the untouched base answers in English; a translator carries questions to English, and answers back"
"""What a scorecard says of a base between translators."""

_FILE_PARTS = "translations from a file"
_FILE_HOW = "the translations were given in a file, and nothing else of it was measured"
"""What a scorecard says of a system of which only translations are known."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSystem:
    """What is measured: the base, or a graft on it.

    Attributes:
        name: of the system, unique in the run.
        renderer: of its tokenizer.
        translating: how it is asked for translations.
        markers: of its extended vocabulary, if it has one.
        chat: how it holds conversations: "direct", or "tcot" through the translation chain of thought.
        graft: folder of the adapter and `lingraft.json`; None for the base.
        graft_hash: what the graft depends on; "" for the base.
        method: with which the graft was trained; None for the base.
        tuner: with which it was trained; None for the base.
        cites: what is cited for the tuners of all its stages as they were set; none: what is cited for `tuner`.
        shown: the graft as the scorecard names it; None for the base.
        group: the system of which it is a variant, if it is one.
        seed: of the training, of a further seed.
        scale: of the graft's update of the base, of a copy at another scale.
        stage: after which the graft is measured, from 1, where stages follow.
        trained: how it was trained in this run; None for the base and for a graft that was not.
        translated: whether a translator stands before and after it.
        elsewhere: whether only its translations are known, which were made elsewhere.
    """

    name: str
    renderer: Renderer
    translating: TranslationSystem
    markers: Markers | None = None
    chat: Chat = "direct"
    graft: Path | None = None
    graft_hash: str = ""
    method: str | None = None
    tuner: str | None = None
    cites: Sequence[str] = ()
    shown: str | None = None
    group: str | None = None
    seed: int | None = None
    scale: float | None = None
    stage: int | None = None
    trained: TrainedSystem | None = None
    translated: bool = False
    elsewhere: bool = False

    @property
    def given(self) -> bool:
        """Whether it is a graft that this run has not trained."""
        return self.graft is not None and self.trained is None

    def described(self) -> System:
        """Return the system's entry in the scorecard."""
        parts, how = (_PARTS, _HOW) if self.translated else (_FILE_PARTS, _FILE_HOW) if self.elsewhere else (None, None)
        return System(
            name=self.name,
            method=self.method,
            tuner=self.tuner,
            cite_method=_cited(METHODS, self.method),
            cite_tuner=list(self.cites) or _cited(TUNERS, self.tuner),
            graft=self.shown,
            group=self.group,
            seed=self.seed,
            scale=self.scale,
            stage=self.stage,
            parts=parts,
            how=how,
        )


def _cited(registry: Registry[Any], named: str | None) -> list[str]:
    """Return what everything is cited by that is named in, say, "radis+recovery"; a graft of elsewhere names others."""
    names = [name for name in re.split(r"[^A-Za-z0-9_-]+", named or "") if name in registry]
    return list(dict.fromkeys(key for name in names for key in registry.get(name).cite))


def measured_systems(context: Context, trained: Sequence[TrainedSystem]) -> list[MeasuredSystem]:
    """Return the base, then all grafts of the run: trained and given ones, the own one behind what it was after each
    earlier stage, then further seeds, then the own graft at other scales.

    Args:
        context: of the run.
        trained: what the run has trained, in the recipe's order.

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
    grafts = [*ordered, *(one for one in made if one.group is not None), *scaled]
    # The base is asked in the words of the system that the run is about.
    translating = TranslationSystem(own_system(context, grafts).translating.instruction)
    return [MeasuredSystem(name=BASE, renderer=context.renderer, translating=translating), *grafts]


def own_system(context: Context, systems: Sequence[MeasuredSystem]) -> MeasuredSystem:
    """Return the system that the run is about: its own graft, or the last of the given ones."""
    return next(one for one in systems if one.name == context.recipe.headliners[-1])


def _trained(context: Context, trained: TrainedSystem) -> MeasuredSystem:
    system, info = trained.synthesised.system, read_info(trained.graft)
    renderer, markers = _words(context, trained.graft)
    stages = [item.synthesised.stage for item in trained.lineage]
    taught = any(item.synthesised.translating for item in trained.lineage)
    return MeasuredSystem(
        name=system.name,
        renderer=renderer,
        # A graft that no stage has taught to translate is asked in the words of the run.
        translating=info.translating
        if taught
        else replace(info.translating, instruction=wording_of_run(context.recipe)),
        markers=markers,
        chat=info.chat,
        graft=trained.graft,
        graft_hash=trained.graft_hash,
        method=info.method,
        tuner=system.stage.tuner.kind,
        cites=tuple(dict.fromkeys(key for one in stages for key in TUNERS.create(one.tuner).cited)),
        shown=f"{trained.folder.name}/graft",
        group=system.group,
        seed=system.seed if system.group else None,
        trained=trained,
    )


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
    for stage in context.recipe.stages[:1]:
        if stage.upon:
            check_upon(context, find_graft(Path(stage.upon)))
    for choice in context.recipe.grafts:
        for path in choice.paths:
            folder = find_graft(Path(path))
            read_info(folder)
            if context.recipe.evaluate.scales and choice.label in context.recipe.headliners:
                _scalable(choice.label, folder)
        folder = given_folder(context, choice)
        if context.recipe.precision == "nf4" and _config(folder).get("peft_type") == "SHIRA":
            raise UsageError(
                f"{choice.label} changes single numbers of the base, which has none in 4 bits; choose another "
                f"train.precision than nf4"
            )


def _given(context: Context, choice: GivenGraft) -> MeasuredSystem:
    folder = given_folder(context, choice)
    info, digest = fitting(context, folder), content_of(folder)
    renderer, markers = _words(context, folder)
    return MeasuredSystem(
        name=choice.label,
        renderer=renderer,
        translating=info.translating,
        markers=markers,
        chat=info.chat,
        graft=folder,
        graft_hash=digest[:16],
        method=info.method,
        tuner=str(_config(folder).get("peft_type", "")).lower(),
        shown=folder.name if len(choice.paths) == 1 else f"{folder.parent.name}/graft",
    )


def _words(context: Context, graft: Path) -> tuple[Renderer, Markers | None]:
    """Return the renderer of a graft's tokenizer, the base's own unless it has another, and its markers."""
    own = Vocabulary.in_folder(graft)
    renderer = own.renderer(context.files, context.recipe.template) if own else context.renderer
    return as_trained(renderer, graft), markers_of(own, renderer)


def _config(folder: Path) -> dict[str, Any]:
    return read_object(folder / CONFIG)


def _scaled(context: Context, one: MeasuredSystem, scale: float) -> MeasuredSystem:
    """Return a copy of a graft whose update of the base is `scale` times as large."""
    original = one.graft
    assert original is not None, "the base has no other scales"
    config = _scalable(one.name, original)
    sparse = config.get("peft_type") == "SHIRA"
    # The update is alpha / rank (or alpha / sqrt(rank)) times the product of the factors.
    alphas = {name: _times(alpha, scale) for name, alpha in (config.get("alpha_pattern") or {}).items()}
    alpha = {} if sparse else {"lora_alpha": _times(config["lora_alpha"], scale), "alpha_pattern": alphas}

    def build(folder: Path) -> dict[str, Any]:
        copy_folder(original, folder / "graft")
        check_seal(folder / "graft")
        if sparse:
            parts = read_parts(original)
            scaled = {name: entries.times(scale) for name, entries in parts.sparse.items()}
            write_entries(parts.config, scaled, folder / "graft")
        else:
            write_json(folder / "graft" / CONFIG, {**config, **alpha})
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
    if config.get("peft_type") == "SHIRA":
        return config
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise UsageError(f"{name} is not a plain LoRA graft and has no other scales; drop `evaluate.scales`")
    if config.get("modules_to_save") or config.get("trainable_token_indices"):
        raise UsageError(f"{name} holds whole layers or embeddings, which have no other scales; drop `evaluate.scales`")
    return config


def _times(alpha: float, scale: float) -> float:
    """Return the product, whole where it is: some engines want it so."""
    value = alpha * scale
    return int(value) if value == int(value) else value
