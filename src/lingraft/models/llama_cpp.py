"""llama.cpp and its converter, asked through processes in an environment of their own; see `workers/gguf_worker.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from lingraft.core.errors import ModelError
from lingraft.core.own_environments import GGUF
from lingraft.core.worker_process import WorkerProcess
from lingraft.data.records import Message

WORKER = Path(__file__).parent / "workers" / "gguf_worker.py"


def worker_command() -> list[str]:
    """Return the command that starts the worker.

    Raises:
        UsageError: the environment is not there.
    """
    return GGUF.command(WORKER, "export --gguf")


class _Asked:
    """A process of the environment.

    Args:
        command: that starts it.

    Raises:
        EngineError: it does not start.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = WorkerProcess(
            command, {"threads": torch.get_num_threads()}, label=GGUF.title, remedy=GGUF.remedy
        )
        self.versions: dict[str, str] = dict(self._process.about.get("versions", {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.close()

    def _ask(self, what: str, **values: Any) -> dict[str, Any]:
        answer = self._process.ask({"do": what, **values})
        if refused := answer.get("refused"):
            raise ModelError(f"the model cannot be written as GGUF: {refused}; export it without --gguf")
        return answer


class Converter(_Asked):
    """llama.cpp's converter."""

    def vocabulary(self, folder: Path, names: Sequence[str], out: Path) -> dict[str, Path]:
        """Write a tokenizer alone, as the converter would, and once for each further name of a way to cut words; return
        the files by these names, "" where its kind of tokenizer has none.

        Args:
            folder: with configuration and tokenizer, without weights.
            names: of ways to cut words that llama.cpp knows.
            out: folder to write into.

        Raises:
            ModelError: the converter knows neither model nor tokenizer.
        """
        found = self._ask("vocabulary", folder=str(folder), names=list(names), out=str(out))
        return {name: Path(path) for name, path in found["files"].items()}

    def convert(self, folder: Path, out: Path, kind: str, cuts: str, name: str) -> None:
        """Write a model.

        Args:
            folder: of it, as transformers has it.
            out: file to write.
            kind: type of the weights: "f32", "f16", "bf16" or "q8_0".
            cuts: name of the way to cut words; "": the converter's own.
            name: that the file gives the model.

        Raises:
            ModelError: the converter cannot.
        """
        self._ask("convert", folder=str(folder), out=str(out), type=kind, cuts=cuts, name=name)


class LlamaCpp(_Asked):
    """llama.cpp with one file open.

    Args:
        command: that starts the worker.
        file: GGUF.
        context: tokens that fit into it.

    Raises:
        ModelError: llama.cpp cannot read the file.
    """

    def __init__(self, command: Sequence[str], file: Path, context: int) -> None:
        super().__init__(command)
        try:
            self._ask("open", file=str(file), context=context)
        except BaseException:
            self._process.close()
            raise

    def ids(self, texts: Sequence[str], *, prompt: bool) -> list[list[int]]:
        """Return the token ids of texts; with `prompt` as prompts: control tokens are read, and BOS is put before."""
        return [list(row) for row in self._ask("ids", texts=list(texts), prompt=prompt)["ids"]]

    def render(self, conversations: Sequence[Sequence[Message]], variables: Mapping[str, Any]) -> list[str]:
        """Return the prompts that llama.cpp makes of conversations by the chat template in the file."""
        rows = [[message.to_dict() for message in turns] for turns in conversations]
        return list(self._ask("render", conversations=rows, variables=dict(variables))["prompts"])

    def write(self, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """Return what is written greedily behind prompts, up to `count` tokens each."""
        return [list(row) for row in self._ask("write", prompts=[list(ids) for ids in prompts], count=count)["ids"]]

    def top(self, rows: Sequence[Sequence[int]]) -> tuple[list[int | None], list[float | None]]:
        """Return the most probable next token behind each row and its log-probability; None where it is not told."""
        found = self._ask("top", rows=[list(ids) for ids in rows])
        return list(found["ids"]), list(found["logprobs"])


Opener = Callable[[], Sequence[str]]
"""Returns the command that starts a worker."""
