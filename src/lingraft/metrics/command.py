"""Metric `command`: any scorer that is a program. It is given the segments as JSONL and returns a score a line."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.errors import DataError, UsageError
from lingraft.core.tasks import ALL_TASKS, Task
from lingraft.data.records import Pair
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric


class Command(Metric):
    """Mean of the scores that a program gives each segment."""

    name: ClassVar[str] = "command"
    summary: ClassVar[str] = "any program: segments as JSONL in, a score a line out (BLEURT, your own)"
    tasks: ClassVar[frozenset[Task]] = ALL_TASKS

    class Params(Metric.Params):
        """Of a program that scores."""

        command: str = Field(
            "",
            description="the program with its arguments, run without a shell; {input} and {output} stand for files "
            "(without them standard input and output are used), {source_lang} and {target_lang} for codes",
        )
        field: str = Field("score", description="where a line is a JSON object: its field with the score")
        label: str = Field("", max_length=80, description="what reports call it; default: its `name`")
        better: Literal["higher", "lower", "neither"] = Field("higher", description="which end is better")
        decimals: int | None = Field(
            None, ge=0, le=10, description="decimals in reports; default: the fewer, the larger the scores are"
        )
        references: bool = Field(
            True, description="whether it compares with references; false: it estimates quality without them"
        )
        timeout: float = Field(3600, gt=0, description="seconds for one system on one test set")

        @field_validator("command")
        @classmethod
        def _splits(cls, value: str) -> str:
            try:
                parts = shlex.split(value)
            except ValueError as error:
                raise ValueError(f"cannot be split into words ({error}); check its quotes") from error
            if not parts:
                raise ValueError('is empty; give a program, such as command: "python score.py {input} {output}"')
            return value

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if not params.command:
            raise UsageError('metric command: give it a program, such as {kind: command, command: "python score.py"}')
        self.label = params.label
        self.better = None if params.better == "neither" else params.better
        self.decimals = params.decimals
        self.references = params.references

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that the program runs, and where: what a relative name means depends on it."""
        return [f"runs the program `{params.command}` in {Path.cwd()}"]

    def measures(self) -> dict[str, Any]:
        """Return the program, and where its scores stand."""
        return {"command": self.params.command, "field": self.params.field}

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        def values(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            self.progress(0, len(texts))
            scores = run_scorer(self.params, texts, pairs, source_lang, target_lang)
            self.progress(len(texts), len(texts))
            return [(score, 1.0) for score in scores]

        return MeanMetric(values, f"command|{self.params.command}")


def run_scorer(
    params: Command.Params, texts: Sequence[str], pairs: Sequence[Pair], source_lang: str, target_lang: str
) -> list[float]:
    """Return the program's score of each text.

    Args:
        params: the program, and how long it may take.
        texts: translations, one for each pair.
        pairs: source and references.
        source_lang: language code, given to the program.
        target_lang: language code, likewise.

    Raises:
        UsageError: there is no such program.
        DataError: it failed, took too long, or did not write a finite number for each segment.
    """
    rows = "".join(
        json.dumps(
            {
                "id": pair.id,
                "source": pair.source,
                "hypothesis": text,
                "reference": pair.target,
                "references": [pair.target, *pair.references],
                "source_lang": source_lang,
                "target_lang": target_lang,
            },
            ensure_ascii=False,
        )
        + "\n"
        for text, pair in zip(texts, pairs, strict=True)
    )
    with tempfile.TemporaryDirectory(prefix="lingraft-score-") as folder:
        given, written = Path(folder) / "input.jsonl", Path(folder) / "output.jsonl"
        given.write_text(rows, "utf-8", errors="surrogatepass")
        places = {"input": given, "output": written, "source_lang": source_lang, "target_lang": target_lang}
        parts = shlex.split(params.command)
        for name, value in places.items():
            parts = [part.replace(f"{{{name}}}", str(value)) for part in parts]
        shown = f"the scorer {params.command[:80]!r}"
        with given.open("rb") as stdin:
            try:
                done = subprocess.run(parts, stdin=stdin, capture_output=True, timeout=params.timeout, check=False)
            except subprocess.TimeoutExpired as error:
                raise DataError(
                    f"{shown} had not ended after {params.timeout:g} s; raise its `timeout:` or score fewer segments"
                ) from error
            except OSError as error:
                raise UsageError(f"{shown} cannot be started ({error.strerror}); check its `command:`") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
            why = f": {said[-1].strip()[:200]}" if said else ""
            raise DataError(f"{shown} failed with exit code {done.returncode}{why}; run it by hand on a few segments")
        if "{output}" in params.command:
            try:
                output = written.read_bytes()
            except OSError as error:
                raise DataError(f"{shown} wrote no file {{output}}; check its `command:`") from error
        else:
            output = done.stdout
    return _scores(output.decode("utf-8", "replace"), len(texts), params.field, shown)


def _scores(output: str, expected: int, field: str, shown: str) -> list[float]:
    lines = output.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != expected:
        raise DataError(
            f"{shown} wrote {len(lines)} lines for {expected} segments; it must write one score a line and nothing else"
        )
    scores = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            score = float(value[field] if isinstance(value, dict) else value)
        except (ValueError, TypeError, KeyError, RecursionError):
            score = math.nan
        if not math.isfinite(score):
            raise DataError(
                f"{shown}: line {number} is {line.strip()[:60]!r}; each must be a number, or a JSON object with a "
                f"number in {field!r} (see `field:`)"
            )
        scores.append(score)
    return scores
