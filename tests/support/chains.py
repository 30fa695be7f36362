"""A tiny tokenizer that knows markers, and answers of the chain as token ids."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.conversation.chain import ChainReader
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import Markers

MARKERS = Markers.for_languages(["th", "de"])


def marked_renderer(family: str = "smollm2", markers: Markers = MARKERS) -> Renderer:
    """Return the renderer of a tiny tokenizer with markers."""
    tokenizer = tiny_tokenizer(family)
    tokenizer.add_special_tokens({"additional_special_tokens": [*markers.tokens]}, replace_extra_special_tokens=False)
    return Renderer(tokenizer)


def ids_of(reader: ChainReader, *parts: str) -> list[int]:
    """Return the ids of texts, markers ("<EN>") and the end of the turn ("END")."""
    known = {token: reader.renderer.tokenizer.convert_tokens_to_ids(token) for token in reader.markers.tokens}
    known["END"] = reader.renderer.end_of_turn_id
    return [id_ for part in parts for id_ in ([known[part]] if part in known else reader.renderer.plain_ids(part))]


@cache
def loaded(seed: int, family: str = "smollm2", marker_gain: float = 0.0) -> LoadedModel:
    """A random model; `marker_gain` lengthens the markers' rows, so that it writes them now and then."""
    renderer = marked_renderer(family)
    model = tiny_llama(renderer.tokenizer, seed=seed)
    ids = ChainReader(renderer, MARKERS).ids
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
        if marker_gain:
            model.get_input_embeddings().weight[[*ids.markers, *ids.ends]] *= marker_gain
    return LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, renderer)
