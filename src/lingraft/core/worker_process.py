"""A process of another Python environment that is asked: JSON lines in, JSON lines out, whatever its libraries print.

What it answers comes by a file descriptor of its own; see `metrics/workers` and `models/workers`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lingraft.core.errors import EngineError


class WorkerProcess:
    """A process that answers, started at once; `close` ends it.

    Args:
        command: program and arguments, to which the number of the file descriptor for its answers is added.
        settings: its first line.
        label: what it is called in messages.
        remedy: what to do where it does not work, such as "run `lingraft install comet`".

    Attributes:
        about: its answer to the settings.
        failed: whether it said what is wrong, or nothing that makes sense; it answers no more.

    Raises:
        EngineError: it did not start, or said what is wrong.
    """

    def __init__(self, command: Sequence[str], settings: Mapping[str, Any], *, label: str, remedy: str) -> None:
        self.label, self.remedy, self.failed = label, remedy, False
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "r", encoding="utf-8")
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        # What stands beside the program is found, whatever the user's own Python looks at.
        left = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
        kept = {name: value for name, value in os.environ.items() if name not in left}
        try:
            self._process = subprocess.Popen(
                [*command, str(writing)],
                stdin=subprocess.PIPE,
                stdout=self._noise,
                stderr=self._noise,
                pass_fds=(writing,),
                env={**kept, "TOKENIZERS_PARALLELISM": "false"},
            )
        except OSError as error:
            self._answers.close()
            self._noise.close()
            raise EngineError(f"{label}'s Python cannot be started ({error.strerror}); {remedy}") from error
        finally:
            os.close(writing)
        try:
            self.about = self.ask(settings)
        except BaseException:
            self.close()
            raise

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return what it answers to a message.

        Raises:
            EngineError: it said what is wrong, or ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is in its last answer, or in what it printed
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._process.stdin.flush()
        try:
            answer = json.loads(self._answers.readline() or "null")
        except ValueError:
            answer = None
        self.failed = not isinstance(answer, dict) or "error" in answer
        if not isinstance(answer, dict):
            raise EngineError(f"{self.label}'s process ended{self._last_words()}; {self.remedy} again if it is damaged")
        if "error" in answer:
            raise EngineError(f"{self.label}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._noise.seek(0)
        said = [line for line in self._noise.read().decode("utf-8", "replace").splitlines() if line.strip()]
        code = self._process.poll()
        return f" with exit code {code}" + (f" ({said[-1].strip()[:200]})" if said else "")

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._noise.close()
