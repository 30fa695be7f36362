"""Artefacts `vectors`: embeddings of texts, by which decoders choose what they show; each set is embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core.hashing import list_hash
from lingraft.models.embedding import VECTORS, TextEmbedder, embedder_folder, kept_vectors
from lingraft.models.hashes import model_hash
from lingraft.pipeline.context import Context

if TYPE_CHECKING:
    import numpy as np

PARTS = "parts"


@dataclass(frozen=True)
class Embedding:
    """Embeds texts for the decoders of a run; see `lingraft.decoders.base.Embed`.

    Attributes:
        context: of the run.
        used: where the embeddings are, for the costs; those of each call are added.
    """

    context: Context
    used: list[Path] = field(default_factory=list)

    def __call__(self, texts: Sequence[str], embedder: str | None) -> np.ndarray:
        """Return the embeddings of texts.

        Raises:
            ModelError: the embedding model cannot be used.
        """
        identity = {"device": self.context.device, **self._identity(embedder)}

        def opened() -> TextEmbedder:
            return TextEmbedder.open(embedder) if embedder else TextEmbedder.of_base(self.context.loaded)

        def build(folder: Path) -> dict[str, Any]:
            with self.context.reporter.task("vectors", len(texts)) as task:
                kept_vectors(opened, texts, folder / PARTS, identity, lambda done, _: task.update(done))
            return {"texts": len(texts)}

        asked = {"vectors": VECTORS, "identity": identity, "texts": list_hash(texts)[0]}
        folder = self.context.artefact("vectors", asked, build)
        self.used.append(folder)
        return kept_vectors(opened, texts, folder / PARTS, identity)

    def _identity(self, embedder: str | None) -> dict[str, Any]:
        if embedder is not None:
            return {"embedder": model_hash(embedder_folder(embedder))}
        return {"base": self.context.files.sha256, "precision": self.context.precision}
