"""Artefacts `similarity-<method>`: how alike what a method teaches is to what the base itself writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.hashing import list_hash
from lingraft.data.records import Generation
from lingraft.methods.base import Likeness, Method, MethodInputs
from lingraft.models.embedding import TextEmbedder, cosine, embedder_folder
from lingraft.models.hashes import model_hash
from lingraft.pipeline.context import Context
from lingraft.store.files import write_json

COMPARED = 500
"""Texts of each set, the first ones: training pairs come shuffled."""


def tell_similarity(
    context: Context, method: Method, inputs: MethodInputs, answers: Mapping[str, Generation]
) -> float | None:
    """Say how similar what a method teaches is to the base's own answers, and return it; None: it
    asks for none, or the base has written nothing.

    It is DES of CFT (arXiv 2410.16006), the cosine of the mean embeddings of two sets of texts.

    Args:
        context: of the run.
        method: with a `likeness`.
        inputs: of the method, prepared.
        answers: to its rounds so far.

    Raises:
        ModelError: the embedding model cannot be used.
    """
    likeness = method.likeness(inputs, answers)
    if likeness is None:
        return None
    digests = [list_hash(islice(texts(), COMPARED)) for texts in (likeness.taught, likeness.own)]
    if not all(count for _, count in digests):
        context.reporter.say(
            f"Warning: {method.name}: none of the base's own answers is there to be replayed, or compared with the "
            f"training data; raise `replay_share`, or change how they are asked for",
            always=True,
        )
        return None
    by = model_hash(embedder_folder(likeness.embedder)) if likeness.embedder else context.files.sha256
    key = {"texts": [digest for digest, _ in digests], "embedder": by, "own": likeness.embedder is None}
    folder = context.artefact(f"similarity-{method.name}", key, lambda path: _build(context, likeness, path))
    found = float(json.loads((folder / "similarity.json").read_text("utf-8"))["similarity"])
    context.reporter.say(_words(method.name, found, likeness.embedder), always=True)
    return found


def _build(context: Context, likeness: Likeness, folder: Path) -> dict[str, Any]:
    embedder = TextEmbedder.open(likeness.embedder) if likeness.embedder else TextEmbedder.of_base(context.loaded)
    taught, own = (embedder.mean(islice(texts(), COMPARED)) for texts in (likeness.taught, likeness.own))
    found = {"similarity": cosine(taught, own), "embedder": likeness.embedder}
    write_json(folder / "similarity.json", found)
    return found


def _words(method: str, found: float, embedder: str | None) -> str:
    if embedder is None:
        by = (
            "the base's own mean hidden states, as no embedding model is named (`embedder`); these take all texts for "
            "alike, and the number compares with others of this base alone"
        )
    else:
        by = f"{embedder}; in the paper data at 0.924 kept what a model could do, and data at 0.746 lost some (LaBSE)"
    return f"{method}: similarity of the training data to the base's own answers {found:.3f}, by {by}"
