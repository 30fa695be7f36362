"""A tiny model behind the OpenAI protocol, as vLLM would serve it: one token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lingraft.conversation.writing import TokenWriter
from lingraft.core.errors import EngineError
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


class ModelStream:
    """Answers completions as they are written; of prompts of token ids with ids, of texts with text alone."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def __call__(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        renderer, own = self._loaded.renderer, not isinstance(body["prompt"], str)
        prompt = body["prompt"] if own else renderer.tokenizer.encode(body["prompt"])
        sampling = {"temperature": body["temperature"], "top_p": body["top_p"], "seed": body.get("seed", 0)}
        top, given, ids = body.get("logprobs"), "", list[int]()
        try:
            writer = TokenWriter(self._loaded, prompt, most=body["max_tokens"], top=top, **sampling)
        except EngineError as error:
            yield {"error": {"message": f"the context length is exceeded: {error}", "code": 400}}
            return
        ends = body.get("stop_token_ids", renderer.end_ids)
        while writer.room > 0:
            token = writer.propose()
            writer.accept(token)
            ids.append(token)
            text = "" if (whole := renderer.decode(ids)).endswith("\ufffd") and writer.room else whole[len(given) :]
            given += text
            reason = "stop" if token in ends else None if writer.room else "length"
            logprobs = None
            if (noted := writer.noted) is not None:
                row = {f"token_id:{id_}": value for id_, value in (*noted.top, (noted.id, noted.logprob))}
                logprobs = {"tokens": [f"token_id:{token}"], "top_logprobs": [row]}
            event = choice(text, [token] if own else None, "", logprobs=logprobs)
            event["choices"][0]["finish_reason"] = reason
            yield event
            if reason:
                return
