"""One of the systems that a run measures: its base, or a graft on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lingraft.conversation.opening import markers_of
from lingraft.core.registry import Registry
from lingraft.decoders.base import Decoder
from lingraft.evaluation.scorecard import System
from lingraft.merging.base import MERGERS
from lingraft.methods.base import METHODS
from lingraft.models.graft import as_trained
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.stage_training import TrainedSystem
from lingraft.recipe.asking import Chat
from lingraft.rendering.renderer import Renderer
from lingraft.training.tuners import TUNERS
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem

_PARTS = "translator, base, translator"
_HOW = "the untouched base answers in English; a translator carries questions to English, and answers back"
"""What a scorecard says of a base between translators."""

_FILE_PARTS = "translations from a file"
_FILE_HOW = "the translations were given in a file, and nothing else of it was measured"
"""What a scorecard says of a system of which only translations are known."""

_ROUTED = (
    "requests for translations go to {of}, all others to the untouched base, both of one model in memory; the decider "
    "{by!r} tells them apart, and log-likelihoods, for which nobody asks, are the base's"
)
"""What a scorecard says of a system that routes."""


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
        weights: of a system that translates by a decoder: the one whose weights it asks, and whose answers to suites
            are its own as well; "" for all others.
        decoder: its registered name.
        cites_decoder: what is cited for it.
        merged: what its weights were made of, by the merger `method`.
        swept: what the sweep that it belongs to gives that merger.
        foreign: whether some of what it was merged from was trained elsewhere.
        routed: the system whose graft answers its requests for translations, and what decides which these are.
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
    weights: str = ""
    decoder: str | None = None
    cites_decoder: Sequence[str] = ()
    merged: Sequence[str] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)
    foreign: bool = False
    routed: tuple[str, str] | None = None

    def decoding(self, name: str, decoder: Decoder) -> MeasuredSystem:
        """Return the system that translates by a decoder with these weights."""
        return replace(
            self,
            name=name,
            weights=self.name,
            decoder=decoder.name,
            cites_decoder=decoder.cite,
            group=self.group or self.name,
            seed=None,
            scale=None,
            stage=None,
            swept={},
            trained=None,
        )

    @property
    def given(self) -> bool:
        """Whether it is a graft that this run has not trained."""
        return self.graft is not None and self.trained is None and not self.merged

    def described(self) -> System:
        """Return the system's entry in the scorecard."""
        parts, how = (_PARTS, _HOW) if self.translated else (_FILE_PARTS, _FILE_HOW) if self.elsewhere else (None, None)
        if self.routed:
            of, by = self.routed
            parts, how = f"{of} for translations, else base", _ROUTED.format(of=of, by=by)
        return System(
            name=self.name,
            method=self.method,
            tuner=self.tuner,
            cite_method=_cited(MERGERS if self.merged else METHODS, self.method),
            cite_tuner=list(self.cites) or _cited(TUNERS, self.tuner),
            graft=self.shown,
            group=self.group,
            seed=self.seed,
            scale=self.scale,
            stage=self.stage,
            weights=self.weights or None,
            decoder=self.decoder,
            cite_decoder=list(self.cites_decoder),
            merged=list(self.merged),
            swept=dict(self.swept),
            parts=parts,
            how=how,
        )


def _cited(registry: Registry[Any], named: str | None) -> list[str]:
    """Return what everything is cited by that is named in, say, "radis+recovery"; a graft of elsewhere names others."""
    names = [name for name in re.split(r"[^A-Za-z0-9_-]+", named or "") if name in registry]
    return list(dict.fromkeys(key for name in names for key in registry.get(name).cite))


def own_system(context: Context, systems: Sequence[MeasuredSystem]) -> MeasuredSystem:
    """Return the system that the run is about: its own graft, or the last of the given ones, or of what is merged."""
    return next(one for one in systems if one.name == context.recipe.headliners[-1])


def words_of(context: Context, graft: Path) -> tuple[Renderer, Markers | None]:
    """Return the renderer of a graft's tokenizer, the base's own unless it has another, and its markers."""
    own = Vocabulary.in_folder(graft)
    renderer = own.renderer(context.files, context.recipe.template) if own else context.renderer
    return as_trained(renderer, graft), markers_of(own, renderer)
