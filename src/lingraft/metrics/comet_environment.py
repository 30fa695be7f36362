"""The Python environment of COMET: made on request, apart from Lingraft's own, and asked through a process.

`unbabel-comet` needs versions of transformers and numpy that Lingraft cannot use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lingraft.core.environment import cache_folder
from lingraft.core.errors import EngineError, StoreError, UsageError

REQUIREMENTS = ("torch==2.13.0", "unbabel-comet==2.2.7", "setuptools<81")
"""In this order: COMET imports pkg_resources, which setuptools 81 no longer has."""

INSTALL = "run `lingraft install comet`"
_MARK = "lingraft-environment.json"
WORKER = Path(__file__).parent / "workers" / "comet_worker.py"
"""The program that scores there."""


def environment_folder() -> Path:
    """Return where the environment is or would be."""
    return cache_folder() / "environments" / "comet-2.2.7"


def installed() -> bool:
    """Say whether the environment is there, whole and with the versions that this Lingraft wants."""
    try:
        mark = json.loads((environment_folder() / _MARK).read_text("utf-8"))
        return bool(mark["requirements"] == list(REQUIREMENTS)) and _python(environment_folder()).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def worker_command() -> list[str]:
    """Return the command that starts the worker.

    Raises:
        UsageError: the environment is not there.
    """
    if not installed():
        raise UsageError(f"metric comet needs an environment of its own, which is not there; {INSTALL}")
    return [str(_python(environment_folder())), str(WORKER)]


def install(say: Callable[[str], None]) -> Path:
    """Make the environment, replacing one that is there, and return its folder.

    Args:
        say: is given a line before each step.

    Raises:
        StoreError: an installation failed.
    """
    folder = environment_folder()
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be replaced ({error.strerror}); remove it by hand") from error
    say(f"making {folder}")
    _step([sys.executable, "-m", "venv", str(folder)])
    pip = [str(_python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say(f"installing {REQUIREMENTS[0]}")
    _step([*pip, REQUIREMENTS[0]])
    say(f"installing {' '.join(REQUIREMENTS[1:])}")
    _step([*pip, *REQUIREMENTS])
    say("trying it")
    _step([str(_python(folder)), "-c", "import comet"])
    (folder / _MARK).write_text(json.dumps({"requirements": list(REQUIREMENTS)}), "utf-8")
    return folder


def _step(command: Sequence[str]) -> None:
    """Run one step of the installation; Lingraft's own packages must not be seen in it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=kept, check=False)
    except OSError as error:
        raise StoreError(f"{command[0]} cannot be started ({error.strerror}); check this Python") from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if "error" in line.lower()] or said or [f"exit code {done.returncode}"]
        raise StoreError(f"COMET could not be installed: {errors[-1].strip()[:300]}; see to it and {INSTALL} again")


class CometProcess:
    """A process that scores, started at once; `close` ends it.

    Args:
        command: program and arguments, to which the number of the file descriptor for its answers is added.
        settings: its first line.

    Raises:
        EngineError: it did not start, or said what is wrong.
    """

    def __init__(self, command: Sequence[str], settings: Mapping[str, Any]) -> None:
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "r", encoding="utf-8")
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
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
            raise EngineError(f"COMET's Python cannot be started ({error.strerror}); {INSTALL}") from error
        finally:
            os.close(writing)
        try:
            self.about = self._exchange(settings)
        except BaseException:
            self.close()
            raise

    def score(self, rows: Sequence[Mapping[str, str]]) -> list[float]:
        """Return the score of each row (src, mt, and ref where the model wants one).

        Raises:
            EngineError: it failed, or answered something else.
        """
        scores = self._exchange({"rows": list(rows)}).get("scores")
        if not isinstance(scores, list) or len(scores) != len(rows):
            raise EngineError(f"COMET's process did not return a score for each of {len(rows)} segments; {INSTALL}")
        return [float(score) for score in scores]

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is in its last answer, or in what it printed
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._process.stdin.flush()
        try:
            answer = json.loads(self._answers.readline() or "null")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"COMET's process ended{self._last_words()}; {INSTALL} again if it is damaged")
        if "error" in answer:
            raise EngineError(f"COMET: {answer['error']}")
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
