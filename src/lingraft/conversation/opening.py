"""A model ready for a conversation: a graft on its base, or a base alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.conversation.chain import markers_in
from lingraft.core.errors import ModelError
from lingraft.models.files import find_model
from lingraft.models.graft import GraftInfo, find_base, find_graft, grafted, read_info
from lingraft.models.loading import LoadedModel, load_model
from lingraft.models.vocabulary import Vocabulary
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import Markers

DEFAULT_MODEL = "smollm2-135m-instruct"


@contextmanager
def open_model(graft: Path | None, model: str | None) -> Iterator[tuple[LoadedModel, Markers | None]]:
    """Yield the model, its graft on, and the markers where it is asked through the chain.

    Args:
        graft: folder, or that of its run; None for the base alone.
        model: the base, where it is not the one the graft names.

    Raises:
        ModelError: the model or the graft cannot be used, or the graft lacks the markers of its chain.
    """
    if graft is None:
        yield load_model(find_model(model or DEFAULT_MODEL)), None
        return
    graft = find_graft(graft)
    info = read_info(graft)
    with grafted(load_model(find_base(info, graft, model), variables=info.template), graft) as loaded:
        yield loaded, markers_in_use(graft, info, loaded.renderer)


def markers_in_use(graft: Path, info: GraftInfo, renderer: Renderer) -> Markers | None:
    """Return the markers of a graft that is asked through the translation chain of thought; None of another.

    Args:
        graft: folder.
        info: what it holds.
        renderer: of the graft's tokenizer.

    Raises:
        ModelError: it lacks them.
    """
    if info.chat != "tcot":
        return None
    markers = markers_of(Vocabulary.in_folder(graft), renderer)
    if markers is None:
        raise ModelError(
            f"the graft {graft} holds conversations through the translation chain of thought, but its tokenizer "
            f"has no markers; copy the graft anew with all of its files"
        )
    return markers


def markers_of(vocabulary: Vocabulary | None, renderer: Renderer) -> Markers | None:
    """Return the markers that a graft was trained with: those of its vocabulary, or of a base that has had them before.

    Args:
        vocabulary: of the graft; None where it has the base's.
        renderer: of the graft's tokenizer.
    """
    return vocabulary.markers if vocabulary else markers_in(renderer)
