"""Says how probable it is that a document entails a sentence, by a classifier of pairs.

    first in   {"model": folder, "device": "auto" | "cpu", "batch_size": n, "max_tokens": n}
    a row      {"premise": [sentence, ...], "hypothesis": text}

The rest is in `loop.py`. A document that does not fit beside the sentence is cut between its own sentences into
windows; of these the greatest probability counts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

SPARE = 8
"""Tokens left for what a tokenizer puts between and around the two texts."""


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

    def about(self) -> dict[str, Any]:
        """Return its labels, and which of them it is."""
        return {"labels": self.labels, "entailment": self.entailment}

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
    from loop import answer

    sys.exit(answer(Entailment))
