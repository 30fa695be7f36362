"""Scores translations with a MetricX-24 checkpoint.

    first in   {"model": folder, "tokenizer": folder, "device": "auto" | "cpu", "batch_size": n, "max_tokens": n}
    a row      {"source": text, "candidate": text, "reference": text or null}

The rest is in `loop.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCORE_TOKEN = 250089
"""<extra_id_10> of mT5: its logit in the first step of the decoder is the score (MetricX's `models.py`)."""
BEST, WORST = 0.0, 25.0


class MetricX:
    """An mT5 that predicts the errors of a translation, as MQM counts them.

    Of the output layer only the row of one token is needed; the other 250,111 are not computed.

    Args:
        settings: as the first line has them.

    Raises:
        ValueError: the model is no mT5 with mT5's vocabulary, or its output layer cannot be told from its embeddings.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import torch
        from sentencepiece import SentencePieceProcessor
        from transformers import MT5ForConditionalGeneration

        config = json.loads((Path(settings["model"]) / "config.json").read_text("utf-8"))
        kind, size = config.get("model_type"), config.get("vocab_size", 0)
        if kind != "mt5" or size <= SCORE_TOKEN:
            raise ValueError(f"it is a model of type {kind} of {size} tokens, and MetricX is an mt5 of 250112")
        self._pieces: Any = SentencePieceProcessor(model_file=str(Path(settings["tokenizer"]) / "spiece.model"))
        # Weights are read as tensors alone, whether they are safetensors or a pickle (torch.load, weights_only).
        model: Any = MT5ForConditionalGeneration.from_pretrained(
            settings["model"], dtype="auto", weights_only=True, trust_remote_code=False, local_files_only=True
        )
        # transformers says of every mT5 that its output layer is its embeddings; what the checkpoint says counts.
        shared = bool(config.get("tie_word_embeddings", False))
        if not shared and model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr():
            raise ValueError("it has no output layer of its own (lm_head.weight), and its config.json says it has one")
        gpu = settings["device"] != "cpu" and torch.cuda.is_available()
        self._model = model.to("cuda" if gpu else "cpu").eval()
        self._row = model.lm_head.weight[SCORE_TOKEN]
        self._scale = model.config.d_model**-0.5 if shared else 1.0
        self._most, self._batch = int(settings["max_tokens"]), int(settings["batch_size"])
        self._pad = max(0, self._pieces.pad_id())

    def about(self) -> dict[str, Any]:
        """Return in which numbers it computes."""
        return {"dtype": str(self._row.dtype).removeprefix("torch.")}

    def ids(self, row: Mapping[str, Any]) -> list[int]:
        """Return the ids of a row as MetricX was trained with them: at most as many as the longest text has without the
        token of its end, which is left out."""
        text = f"source: {row['source']} candidate: {row['candidate']}"
        if row["reference"] is not None:
            text += f" reference: {row['reference']}"
        found: list[int] = self._pieces.encode(text)
        return found[: self._most - 1]

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the errors of each row: 0 for none, at most 25."""
        ids = [self.ids(row) for row in rows]
        order = sorted(range(len(rows)), key=lambda place: -len(ids[place]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), self._batch):
            places = order[start : start + self._batch]
            for place, score in zip(places, self._pass([ids[place] for place in places]), strict=True):
                found[place] = score
        return found

    def _pass(self, ids: Sequence[list[int]]) -> list[float]:
        import torch

        longest = max(map(len, ids))
        device = self._model.device
        padded = torch.tensor([[*row, *[self._pad] * (longest - len(row))] for row in ids], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=device)
        with torch.inference_mode():
            read = self._model.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
            step = self._model.decoder(
                input_ids=torch.zeros((len(ids), 1), dtype=torch.long, device=device),
                encoder_hidden_states=read,
                encoder_attention_mask=mask,
                use_cache=False,
            ).last_hidden_state[:, 0]
            values: list[float] = ((step * self._scale) @ self._row).clamp(BEST, WORST).float().tolist()
        return values


if __name__ == "__main__":
    from loop import answer

    sys.exit(answer(MetricX))
