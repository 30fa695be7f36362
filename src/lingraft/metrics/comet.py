"""Metric `comet`: COMET, CometKiwi and XCOMET by the real `unbabel-comet`, in an environment of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import EngineError, ModelError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.core.hub import HubName, from_hub
from lingraft.core.own_environments import COMET
from lingraft.core.validation import IS_PATH
from lingraft.data.records import Pair
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric
from lingraft.metrics.score_cache import score_key
from lingraft.metrics.worker_metric import WorkerMetric
from lingraft.metrics.worker_process import WorkerProcess
from lingraft.statistics.metric_facts import MetricFacts

WORKER = Path(__file__).parent / "workers" / "comet_worker.py"
"""The program that scores, in COMET's own environment."""


def worker_command() -> list[str]:
    """Return the command that starts the worker.

    Raises:
        UsageError: COMET's environment is not there.
    """
    return COMET.command(WORKER, "metric comet")


class Comet(WorkerMetric):
    """Mean of a COMET model's segment scores, in the model's own unit (mostly 0 to 1); the first reference is used."""

    name: ClassVar[str] = "comet"
    summary: ClassVar[str] = "COMET, CometKiwi or XCOMET by unbabel-comet (lingraft install comet)"
    paper: ClassVar[str] = "Rei et al. 2022 (COMET-22, CometKiwi); Guerreiro et al. 2024 (XCOMET, arXiv 2310.10482)"
    label: str = "COMET"
    decimals: int | None = 4
    cite: tuple[str, ...] = ("rei-2022-comet",)
    at_once: ClassVar[int] = 256

    class Params(Metric.Params):
        """Of COMET."""

        model: str = Field(
            "Unbabel/wmt22-comet-da",
            min_length=1,
            description="hub id, e.g. Unbabel/wmt22-cometkiwi-da, Unbabel/XCOMET-XL",
        )
        revision: str | None = Field(None, description="commit, tag or branch of a model of the hub; a commit pins it")
        path: Annotated[str | None, IS_PATH] = Field(
            None, description="a local checkpoint (.ckpt, its hparams.yaml one folder up) instead of the hub's"
        )
        batch_size: int = Field(16, ge=1, description="segments a pass")
        device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one")

    def __init__(self, params: Any, command: Callable[[], Sequence[str]] = worker_command) -> None:
        super().__init__(params, command)
        self.cite = _cited(params.path or params.model)
        self.references = "kiwi" not in (params.path or params.model).lower()
        self._hash = ""

    @classmethod
    def declared(cls, signature: str = "") -> MetricFacts:
        """Return what COMET says about itself; its model is part of the signature."""
        return replace(super().declared(signature), cite=_cited(signature))

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return which checkpoint is unpickled."""
        if params.path:
            checkpoint = str(params.path)
        else:
            checkpoint = f"{params.model} of the hub, revision {params.revision or 'whichever is there'}"
        return [f"unpickles the COMET checkpoint {checkpoint}, which can run any program"]

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        self._command()
        if self.params.path:
            _local(self.params.path)
        return _CometMean(self)

    def checkpoint(self) -> Path:
        """Return the checkpoint's file, fetched from the hub if it is not on the disk.

        Raises:
            ModelError: there is none, or it cannot be fetched.
        """
        return _local(self.params.path) if self.params.path else _from_hub(self.params.model, self.params.revision)

    def measures(self) -> dict[str, Any]:
        """Return which checkpoint scores."""
        if self.params.path:
            return {"path": self.params.path}
        return {"model": self.params.model, "revision": self.params.revision}

    def identity(self) -> str:
        """Return what the scores are scores of: the hash of the checkpoint and its settings."""
        if not self._hash:
            checkpoint = self.checkpoint()
            self._hash = content_hash([file_hash(checkpoint), file_hash(checkpoint.parents[1] / "hparams.yaml")])
        return self._hash

    def score(self, texts: Sequence[str], pairs: Sequence[Pair]) -> list[float]:
        """Return a score a text, from the cache where it is known.

        Raises:
            ModelError: the checkpoint is not there.
            EngineError: COMET failed.
        """
        identity = self.identity()
        rows = [{"src": pair.source, "mt": text, "ref": pair.target} for text, pair in zip(texts, pairs, strict=True)]
        version = " ".join((*COMET.requirements, file_hash(WORKER)))
        keys = [score_key(identity, version, self.params.device, row["src"], row["mt"], row["ref"]) for row in rows]
        # Longest first: what does not fit into memory fails at once, and passes hold texts of like lengths.
        queue = sorted(zip(keys, rows, strict=True), key=lambda one: -len(one[1]["src"]) - len(one[1]["mt"]))
        known = self.known_or_asked(dict(queue))
        return [known[key] for key in keys]

    def start(self) -> WorkerProcess:
        """Start the worker with the checkpoint; see `WorkerMetric`."""
        settings = {
            "checkpoint": str(self.checkpoint()),
            "device": self.params.device,
            "batch_size": self.params.batch_size,
        }
        try:
            return WorkerProcess(self._command(), settings, label="COMET", remedy=COMET.remedy)
        except EngineError as error:
            raise EngineError(
                f"{error} (while loading {self.params.path or self.params.model}; the tokenizer of its encoder "
                f"must be on the disk or the hub be reachable)"
            ) from error


class _CometMean(MeanMetric):
    """The mean, with the hash of the checkpoint in the signature."""

    def __init__(self, metric: Comet) -> None:
        super().__init__(lambda texts, pairs: ((score, 1.0) for score in metric.score(texts, pairs)), "comet")
        self._metric = metric

    def signature(self, resamples: int, seed: int) -> str:
        params = self._metric.params
        name = Path(params.path).name if params.path else params.model
        return (
            f"comet|model:{name}|sha256:{self._metric.identity()[:12]}|unbabel-comet:{COMET.version}"
            f"|reference:first|bs:{resamples}|seed:{seed}"
        )


def _cited(model: str) -> tuple[str, ...]:
    """Return the paper of a family of models: CometKiwi and XCOMET have papers of their own."""
    found = re.search("kiwi|xcomet", model, re.IGNORECASE)
    family = found[0].lower() if found else ""
    return ({"kiwi": "rei-2022-cometkiwi", "xcomet": "guerreiro-2024-xcomet"}.get(family, "rei-2022-comet"),)


def _local(path: str) -> Path:
    """Return a checkpoint file, also from the folder that holds `checkpoints/model.ckpt`."""
    file = Path(path)
    if file.is_dir():
        file = file / "checkpoints" / "model.ckpt"
    if not file.is_file():
        raise ModelError(
            f"{path}: there is no COMET checkpoint; give a .ckpt file or the folder above checkpoints/model.ckpt"
        )
    if not (file.parents[1] / "hparams.yaml").is_file():
        raise ModelError(f"{path}: COMET needs hparams.yaml in the folder above the checkpoint's; copy it there")
    return file


def _from_hub(name: str, revision: str | None) -> Path:
    wanted = ["checkpoints/model.ckpt", "hparams.yaml"]
    folder = from_hub(
        HubName(name, revision),
        wanted,
        instead="give a local checkpoint as `path:`",
        newest=False,
        whole=lambda found: all((found / file).is_file() for file in wanted),
    )
    return _local(str(folder))
