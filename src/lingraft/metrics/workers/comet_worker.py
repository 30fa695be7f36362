"""Scores segments with a COMET checkpoint. Run by the Python of the COMET environment; imports nothing of Lingraft.

It reads JSON lines from standard input and writes JSON lines to the file descriptor given as its only argument, so
that nothing a library prints gets between them:

    in   {"checkpoint": path, "device": "auto" | "cpu", "batch_size": n}
    out  {"class": name, "references": bool, "versions": {...}}
    in   {"rows": [{"src": text, "mt": text, "ref": text}, ...]}
    out  {"scores": [number, ...]}          any number of times, until standard input ends

What fails is {"error": sentence}, and the end.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from typing import Any, TextIO


def main() -> int:
    """Answer until standard input ends; return the exit code."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:
        try:
            settings = json.loads(sys.stdin.readline())
            model = _load(settings["checkpoint"])
            _say(
                out,
                {
                    "class": type(model).__name__,
                    "references": bool(model.requires_references()),
                    "versions": {name: version(name) for name in ("unbabel-comet", "torch", "transformers")},
                },
            )
            for line in sys.stdin:
                _say(out, {"scores": _scores(model, json.loads(line)["rows"], settings)})
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            _say(out, {"error": f"{type(error).__name__}: {first[:300]}"})
            return 1
    return 0


def _say(out: TextIO, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


def _load(checkpoint: str) -> Any:
    from comet import load_from_checkpoint

    # Tokenizer and configuration of the encoder: from the disk where they are there, else from the hub.
    try:
        return load_from_checkpoint(checkpoint, local_files_only=True)
    except OSError:
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise
        return load_from_checkpoint(checkpoint)


def _scores(model: Any, rows: list[dict[str, str]], settings: dict[str, Any]) -> list[float]:
    import torch

    gpus = 1 if settings["device"] != "cpu" and torch.cuda.is_available() else 0
    found = model.predict(
        rows,
        batch_size=settings["batch_size"],
        gpus=gpus,
        accelerator="auto" if gpus else "cpu",
        progress_bar=False,
        num_workers=0 if not gpus else 1,
        length_batching=True,
    )
    return [float(score) for score in found["scores"]]


if __name__ == "__main__":
    sys.exit(main())
