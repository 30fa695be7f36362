"""The Python environment of COMET: made on request, apart from Lingraft's own, and asked through a process.

`unbabel-comet` needs versions of transformers and numpy that Lingraft cannot use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lingraft.core.environment import cache_folder
from lingraft.core.errors import StoreError, UsageError

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
