"""Says how probable it is that a document entails a sentence, by a classifier of pairs. Imports nothing of Lingraft.

It reads JSON lines from standard input and writes JSON lines to the file descriptor given as its only argument:

    in   {"model": folder, "device": "auto" | "cpu", "batch_size": n, "max_tokens": n}
    out  {"labels": {number: name}, "entailment": number}
    in   {"rows": [{"premise": [sentence, ...], "hypothesis": text}, ...]}
    out  {"scores": [number, ...]}          any number of times, until standard input ends

What fails is {"error": sentence}, and the end. A document that does not fit beside the sentence is cut between its own
sentences into windows; of these the greatest probability counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

SPARE = 8
"""Tokens left for what a tokenizer puts between and around the two texts."""


def main() -> int:
    """Answer until standard input ends; return the exit code."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:
        try:
            settings = json.loads(sys.stdin.readline())
            model = Entailment(settings)
            _say(out, {"labels": model.labels, "entailment": model.entailment})
            for line in sys.stdin:
                _say(out, {"scores": model.scores(json.loads(line)["rows"])})
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            _say(out, {"error": f"{type(error).__name__}: {first[:300]}"})
            return 1
    return 0


def _say(out: TextIO, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


class Entailment:
    """A classifier of pairs of texts.

    Args:
        settings: as the first line has them.

    Raises:
        ValueError: none of its labels is called entailment, or several are.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = settings["model"]
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        gpu = settings["device"] != "cpu" and torch.cuda.is_available()
        self._model = model.to("cuda" if gpu else "cpu").eval()
        self.labels = {int(number): str(name) for number, name in model.config.id2label.items()}
        self.entailment = entailment_of(self.labels)
        limits = [settings["max_tokens"], self._tokenizer.model_max_length]
        limits.append(getattr(model.config, "max_position_embeddings", None) or settings["max_tokens"])
        self._pads = self._tokenizer.pad_token is not None  # else one pair after the other
        self._most, self._batch = int(min(limits)), int(settings["batch_size"]) if self._pads else 1

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return for each row the greatest probability over the windows of its document."""
        pairs = [
            (window, row["hypothesis"], place)
            for place, row in enumerate(rows)
            for window in self.windows(row["premise"], row["hypothesis"])
        ]
        pairs.sort(key=lambda one: len(one[0]) + len(one[1]))
        found = [0.0] * len(rows)
        for start in range(0, len(pairs), self._batch):
            part = pairs[start : start + self._batch]
            for (_, _, place), value in zip(part, self._probabilities(part), strict=True):
                found[place] = max(found[place], value)
        return found

    def windows(self, sentences: Sequence[str], hypothesis: str) -> list[str]:
        """Return runs of sentences that fit beside a hypothesis; a sentence that does not fit stands alone, and is cut
        by the tokenizer."""
        room = self._most - self._length(hypothesis) - SPARE
        windows, taken = [""], 0
        for sentence in sentences:
            size = self._length(sentence)
            if windows[-1] and taken + size > room:
                windows.append("")
                taken = 0
            windows[-1] = f"{windows[-1]} {sentence}".strip()
            taken += size
        return windows

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _probabilities(self, part: Sequence[tuple[str, str, int]]) -> list[float]:
        import torch

        encoded = self._tokenizer(
            [premise for premise, _, _ in part],
            [hypothesis for _, hypothesis, _ in part],
            padding=self._pads,
            truncation=True,
            max_length=self._most,
            return_tensors="pt",
        ).to(self._model.device)
        with torch.inference_mode():
            logits = self._model(**encoded).logits.float()
        values: list[float] = logits.softmax(-1)[:, self.entailment].tolist()
        return values


def entailment_of(labels: Mapping[int, str]) -> int:
    """Return the number of the label that stands for entailment.

    Raises:
        ValueError: there is not exactly one.
    """
    found = [number for number, name in labels.items() if name.lower().startswith("entail")]
    if len(found) != 1:
        named = ", ".join(labels.values())
        raise ValueError(
            f"its labels are {named}, of which not exactly one is called entailment; set `id2label` in the model's "
            f"config.json"
        )
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
