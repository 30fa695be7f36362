"""What the soak runs again and again: a whole recipe on a tiny random model, and what of it must always be equal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from builders import tiny_llama, tiny_tokenizer
from lingraft.recipe.load import dump_recipe, parse_recipe

EVALUATE, PUBLISH, BETWEEN = "evaluate", "publish", "between stages"


def make_recipe(folder: Path) -> Path:
    """Write a tiny random chat model and a recipe in which every stage has something to do; returns the recipe."""
    model, recipe = folder / "model", folder / "recipe.yaml"
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(model)
    tokenizer.save_pretrained(model)
    values = {
        "name": "soak",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en", "limit": 140},
            "test": {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en", "limit": 30},
        },
        "prompts": {"path": "starter:prompts.jsonl", "limit": 80},
        "stages": [
            {
                "method": "radis",
                "params": {"max_rationale_tokens": 24, "filters": [], "min_rationale_words": 0},
                "tuner": {"kind": "lora", "rank": 4, "dropout": 0.1},
                "train": {
                    "tokens_per_step": 512,
                    "micro_tokens": 512,
                    "save_every_steps": 7,
                    "precision": "fp32",
                    "learning_rate": 0.01,
                },
            }
        ],
        "compare": ["vanilla"],
        "evaluate": {
            "bootstrap": 1000,
            "translation": {"max_new_tokens": 24},
            "retention": {
                "suites": [
                    {"kind": "self", "max_prompts": 24, "max_new_tokens": 24, "kl_max_new_tokens": 24},
                    {"kind": "refusal", "max_prompts": 8, "max_new_tokens": 8},
                ]
            },
        },
        "seed": 7,
    }
    recipe.write_text(dump_recipe(parse_recipe(values, "soak", Path("/"))), "utf-8")
    return recipe


@dataclass
class Attempt:
    """One start of the command, watched from outside.

    `code`: exit code, negative for a signal. `stage`: where it was when it ended. `seen`: stage -> seconds since the
    start at which it was first seen.
    """

    code: int
    stage: str
    err: str
    seen: dict[str, float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What the command said of its failure: its last line."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("lingraft: ")]
        assert len(lines) == 1, self.err
        return lines[0]


class Running:
    """The command at work in a run's folder."""

    command: ClassVar[str] = "run"
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, recipe: Path, folder: Path, environment: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self.folder = folder
        self._lines: list[str] = []
        self._seen: dict[str, float] = {}
        self._card = self._stamp("scorecard.json")
        self._start = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lingraft", self.command, str(recipe), "--out", str(folder), *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})},
            **options,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)

    def _stamp(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_mtime_ns
        except OSError:
            return 0

    def stage(self) -> str:
        """Return what the command is doing, from what is on the disk and what it said."""
        partial = next(iter(self.folder.glob("*.partial")), None)
        if partial is not None:
            return partial.name.removesuffix(".partial").rpartition("-")[0]
        if not any(line.startswith("Evaluating") for line in self._lines):
            return BETWEEN
        return EVALUATE if self._stamp("scorecard.json") == self._card else PUBLISH

    def wait(self, until: Callable[[str], bool] = lambda stage: False, timeout: float = 600.0) -> str:
        """Watch until the command ends or `until` says yes to its stage; returns the stage."""
        deadline = time.monotonic() + timeout
        while True:
            stage = self.stage()
            self._seen.setdefault(stage, time.monotonic() - self._start)
            if self.process.poll() is not None or until(stage):
                return stage
            assert time.monotonic() < deadline, f"stuck in {stage}: {''.join(self._lines)}"
            time.sleep(0.002)

    def end(self, signum: int | None = None) -> Attempt:
        """Send a signal if one is given, wait for the end and return what is to be said of it."""
        if signum is not None and self.process.poll() is None:
            if signum == signal.SIGKILL:
                os.killpg(self.process.pid, signum)
            else:
                self.process.send_signal(signum)
        self.wait()
        self._listener.join(10)
        stage = self.stage()
        self._seen["end"] = time.monotonic() - self._start
        return Attempt(self.process.returncode, stage, "".join(self._lines), self._seen)


def finish(recipe: Path, folder: Path, **options: Any) -> Attempt:
    """Run the command to its end."""
    running = Running(recipe, folder, **options)
    running.wait()
    return running.end()
