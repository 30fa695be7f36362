"""Metrics of a model that transformers loads: its files, what they are, and the process that scores with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import EngineError, ModelError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.core.hub import HubName, from_hub
from lingraft.core.model_names import is_place
from lingraft.metrics.base import Metric
from lingraft.metrics.worker_metric import WorkerMetric
from lingraft.metrics.worker_process import WorkerProcess

TOKENIZER = ("*.json", "*.model", "vocab.txt", "merges.txt")
"""Files of tokenizers, and the model's config."""
_REMEDY = "check the model"


class ModelMetric(WorkerMetric):
    """A metric whose scores a model gives, in a process of its own of this Python.

    Args:
        params: of the metric.
        command: returns the program and its arguments; default: `worker`.

    Attributes:
        worker: the program that scores.
        what: the model is, in messages.
        weights: patterns of the files that hold them; those of the first that are there count.
        defining: names of further parameters that change the scores.
    """

    worker: ClassVar[Path]
    what: ClassVar[str]
    weights: ClassVar[Sequence[str]] = ("*.safetensors",)
    defining: ClassVar[tuple[str, ...]] = ()

    class Params(Metric.Params):
        """Of the model."""

        model: str = Field(min_length=1, description="the model, by path or hub id")
        revision: str | None = Field(None, description="commit, tag or branch of a model of the hub; a commit pins it")
        batch_size: int = Field(16, ge=1, description="texts a pass")
        max_tokens: int = Field(512, ge=32, description="longest text, in tokens")
        device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one")

    def __init__(self, params: Any, command: Callable[[], Sequence[str]] | None = None) -> None:
        super().__init__(params, command or (lambda: [sys.executable, str(self.worker)]))
        self._hash = ""

    def folder(self) -> Path:
        """Return the folder of the model, fetched from the hub if it is not on the disk.

        Raises:
            ModelError: there is none, or it cannot be fetched.
        """
        return self.folder_of(self.params.model, self.params.revision, "model")

    def folder_of(self, name: str, revision: str | None, field: str, file: str = "") -> Path:
        """Return the folder of what a parameter names.

        Args:
            name: path or hub id.
            revision: of one of the hub.
            field: the parameter.
            file: which alone is needed; "": config and weights, with a tokenizer.

        Raises:
            ModelError: there is none, or it cannot be fetched.
        """
        wanted = [file] if file else [*TOKENIZER, *self.weights]

        def whole(folder: Path) -> bool:
            return (folder / (file or "config.json")).is_file() and bool(file or self._weights(folder))

        if is_place(name) or Path(name).is_dir():
            found = Path(name).expanduser()
        else:
            instead = f"give a folder as the metric's `{field}`"
            found = from_hub(HubName(name, revision), wanted, instead=instead, newest=False, whole=whole)
        if not whole(found):
            lacking = file or f"{self.what} with config.json and {' or '.join(self.weights)}"
            raise ModelError(
                f"{name}: there is no {lacking}; give a folder or hub id that has it as the metric's `{field}`"
            )
        return found

    def _weights(self, folder: Path) -> list[Path]:
        return next((found for pattern in self.weights if (found := sorted(folder.glob(pattern)))), [])

    def hashes(self, folder: Path) -> list[list[str]]:
        """Return the names and hashes of a folder's files that are read."""
        files = sorted({path for pattern in TOKENIZER for path in folder.glob(pattern)} | {*self._weights(folder)})
        return [[path.name, file_hash(path)] for path in files]

    def measures(self) -> dict[str, object]:
        """Return which model scores, and how much it sees at once."""
        return self.params.model_dump(mode="json", include={"model", "revision", "max_tokens", *self.defining})

    def identity(self) -> str:
        """Return what the scores are scores of: the hash of the model's files and of what changes them."""
        if not self._hash:
            settings = [getattr(self.params, name) for name in ("max_tokens", *self.defining)]
            self._hash = content_hash([self.hashes(self.folder()), *settings])
        return self._hash

    def settings(self) -> Mapping[str, Any]:
        """Return what the process is told first."""
        return {
            "model": str(self.folder()),
            "device": self.params.device,
            "batch_size": self.params.batch_size,
            "max_tokens": self.params.max_tokens,
        }

    def start(self) -> WorkerProcess:
        """Start the process with the model; see `WorkerMetric`."""
        try:
            return WorkerProcess(self._command(), dict(self.settings()), label=self.name, remedy=_REMEDY)
        except EngineError as error:
            raise EngineError(f"{error} (while loading {self.params.model})") from error
