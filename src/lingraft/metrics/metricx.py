"""Metric `metricx`: MetricX-24, an mT5 that predicts how many errors a translation has.

The checkpoint is Google's own; what it is asked and how its answer is read is in `workers/metricx_worker.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.core.hashing import file_hash
from lingraft.core.model_names import is_place
from lingraft.core.packages import install_command, is_installed
from lingraft.data.records import Pair
from lingraft.metrics.base import CorpusMetric, MeanMetric
from lingraft.metrics.score_cache import score_key
from lingraft.metrics.worker_model import ModelMetric
from lingraft.statistics.metric_facts import Better

PIECES = "spiece.model"


class MetricX(ModelMetric):
    """Mean of MetricX-24's segment scores, from 0 (no error) to 25; the first reference is used, or none."""

    name: ClassVar[str] = "metricx"
    summary: ClassVar[str] = "MetricX-24: predicted errors of a translation, with a reference or without"
    paper: ClassVar[str] = "Juraska et al. 2024, MetricX-24, arXiv 2410.03983"
    label: str = "MetricX-24"
    better: Better = "lower"
    decimals: int | None = 2
    cite: tuple[str, ...] = ("juraska-2024-metricx",)
    at_once: ClassVar[int] = 64
    worker: ClassVar[Path] = Path(__file__).parent / "workers" / "metricx_worker.py"
    what: ClassVar[str] = "MetricX checkpoint"
    weights: ClassVar[Sequence[str]] = ("*.safetensors", "pytorch_model*.bin")
    defining: ClassVar[tuple[str, ...]] = ("reference",)

    class Params(ModelMetric.Params):
        """Of MetricX."""

        model: str = Field(
            "google/metricx-24-hybrid-large-v2p6",
            min_length=1,
            description="checkpoint, by path or hub id: google/metricx-24-hybrid-large-v2p6, -xl-v2p6, -xxl-v2p6, and "
            "each of them in half the memory as ...-v2p6-bfloat16",
        )
        tokenizer: str = Field("google/mt5-large", min_length=1, description="spiece.model of mT5, by folder or hub id")
        reference: bool = Field(True, description="false: quality estimation, from source and translation alone")
        batch_size: int = Field(8, ge=1, description="segments a pass")
        max_tokens: int = Field(
            1536, ge=32, description="longest source, translation and reference together; what is behind it is not read"
        )

    def __init__(self, params: Any, command: Any = None) -> None:
        super().__init__(params, command)
        self.references = params.reference

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        if is_place(self.params.model):
            self.folder()
        if is_place(self.params.tokenizer):
            self._tokenizer()
        if not is_installed("sentencepiece"):
            raise UsageError(f"metric metricx: mT5's tokenizer needs sentencepiece: {install_command('sentencepiece')}")
        return _MetricXMean(self)

    def _tokenizer(self) -> Path:
        return self.folder_of(self.params.tokenizer, None, "tokenizer", PIECES)

    def settings(self) -> Mapping[str, Any]:
        """Return what the process is told first."""
        return {**super().settings(), "tokenizer": str(self._tokenizer())}

    def hashes(self, folder: Path) -> list[list[str]]:
        """Return those of the checkpoint and of the tokenizer."""
        return [*super().hashes(folder), [PIECES, file_hash(self._tokenizer() / PIECES)]]

    def score(self, texts: Sequence[str], pairs: Sequence[Pair]) -> list[float]:
        """Return a score a text, from the cache where it is known.

        Raises:
            ModelError: the checkpoint or the tokenizer is not there.
            EngineError: it failed.
        """
        version, identity, device = file_hash(self.worker), self.identity(), self.params.device
        rows = {}
        keys = []
        for text, pair in zip(texts, pairs, strict=True):
            reference = pair.target if self.params.reference else None
            keys.append(score_key(identity, version, device, pair.source, text, reference or ""))
            rows[keys[-1]] = {"source": pair.source, "candidate": text, "reference": reference}
        # Longest first: what does not fit into memory fails at once.
        queue = sorted(rows, key=lambda key: -sum(len(part or "") for part in rows[key].values()))
        known = self.known_or_asked({key: rows[key] for key in queue})
        return [known[key] for key in keys]


class _MetricXMean(MeanMetric):
    """The mean, with the hash of the checkpoint in the signature."""

    def __init__(self, metric: MetricX) -> None:
        super().__init__(lambda texts, pairs: ((score, 1.0) for score in metric.score(texts, pairs)), "metricx")
        self._metric = metric

    def signature(self, resamples: int, seed: int) -> str:
        params = self._metric.params
        return (
            f"metricx|model:{Path(params.model).name}|sha256:{self._metric.identity()[:12]}|reference:"
            f"{'first' if params.reference else 'none'}|tokens:{params.max_tokens}|bs:{resamples}|seed:{seed}"
        )
