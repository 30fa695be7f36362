"""What methods share whose training text the base itself writes: how it is sampled, and hard or soft targets."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from lingraft.core.validation import Needs
from lingraft.data.records import Generation, Request, Sampling, Span, Teacher
from lingraft.language.thinking import said
from lingraft.methods.base import MethodParams


class DistillationParams(MethodParams):
    """Parameters of text written by the base."""

    needs: ClassVar[Needs] = {
        "top_k": ("`targets: soft`", lambda own: own.targets == "soft"),
        "top_p": ("a `temperature` above 0", lambda own: own.temperature > 0),
    }
    targets: Literal["hard", "soft"] = Field(
        "hard",
        description="hard: cross-entropy on the words written; soft: KL to the base's own distribution at each of "
        "them, recorded while it wrote",
    )
    top_k: int = Field(
        16, ge=1, le=256, description="soft targets: probabilities recorded per token, the rest as one (8 bytes each)"
    )
    truncated: Literal["keep", "drop"] = Field(
        "keep", description="text that reached the token limit: keep (stop token not supervised) or drop"
    )
    temperature: float = Field(0.0, ge=0, description="of the sampling; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling")

    @property
    def soft(self) -> bool:
        """Whether targets are soft."""
        return self.targets == "soft"

    def sampling(self, max_new_tokens: int, seed: int) -> Sampling:
        """Return how the text is sampled."""
        return Sampling(max_new_tokens, self.temperature, self.top_p, seed=seed)

    def asked(self, request: Request) -> Request:
        """Return the request, asking for log-probabilities too where targets are soft."""
        return replace(request, top_logprobs=self.top_k if self.soft else 0)

    def written(self, generation: Generation, role: str, weight: float = 1.0, *, given: str) -> Span:
        """Return the span of what the base wrote, with its distributions where targets are soft; an empty block of
        thoughts before it is none of it.

        Args:
            generation: what the base wrote.
            role: of the span, such as "answer".
            weight: of the span's tokens in the loss.
            given: what the base was asked (`Request.given`).
        """
        text = said(generation.text, given).text.rstrip()
        if self.targets == "hard" or generation.logprobs is None:
            return Span(text, role, weight=weight)
        return Span(text, role, "kl", weight, Teacher(generation.token_ids, generation.logprobs))
