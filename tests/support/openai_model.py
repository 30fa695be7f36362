"""A tiny model behind the OpenAI protocol, as vLLM would serve it: plain forward passes, one token at a time."""

from __future__ import annotations

from typing import Any

import torch

from lingraft.models.loading import LoadedModel
from openai_server import choice


class ModelAnswers:
    """Answers completions of token-id prompts; sampling follows the request's seed alone."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        renderer, model = self._loaded.renderer, self._loaded.model
        ids, written, rows = list(body["prompt"]), [], []
        random = torch.Generator().manual_seed(body.get("seed", 0))
        k = body.get("logprobs", 0)
        while len(written) < body["max_tokens"]:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids + written])).logits[0, -1].double()
            logprobs = torch.log_softmax(logits, dim=-1)
            token = int(logits.argmax())
            if body["temperature"] > 0:
                token = self._drawn(logits / body["temperature"], body["top_p"], random)
            written.append(token)
            best = {token, *logprobs.topk(k).indices.tolist()} if k else set()
            rows.append({f"token_id:{each}": float(logprobs[each]) for each in best})
            text = renderer.decode(written)
            if token in body["stop_token_ids"]:
                return self._reply(text, written, rows, "stop", token)
            if hits := [stop for stop in body.get("stop", ()) if stop in text]:
                first = min(hits, key=text.index)
                return self._reply(text[: text.index(first)], written, rows, "stop", first)
        return self._reply(text, written, rows, "length", None)

    @staticmethod
    def _drawn(logits: torch.Tensor, top_p: float, random: torch.Generator) -> int:
        values, order = torch.softmax(logits, dim=-1).sort(descending=True)
        values[values.cumsum(0) - values >= top_p] = 0
        return int(order[int(torch.multinomial(values, 1, generator=random))])

    @staticmethod
    def _reply(text: str, written: list[int], rows: list[dict[str, float]], reason: str, why: Any) -> dict[str, Any]:
        logprobs = {"tokens": [f"token_id:{token}" for token in written], "top_logprobs": rows} if any(rows) else None
        return choice(text, written, reason, stop_reason=why, logprobs=logprobs)
