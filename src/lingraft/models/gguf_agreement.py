"""What a model writes in transformers, and how far llama.cpp writes and predicts the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from lingraft.core.errors import ModelError
from lingraft.data.records import Message
from lingraft.models.llama_cpp import LlamaCpp
from lingraft.models.merged_model import MAX_KL, TOLERANCE, logits_of
from lingraft.rendering.renderer import Renderer

COUNT = 32
"""Most tokens that are written behind a prompt."""


@dataclass(frozen=True)
class Expected:
    """What transformers writes greedily in float32.

    Attributes:
        prompts: their token ids.
        written: ids of what is written behind each, without the one that ends it.
        logits: for each prompt those of the tokens behind it, and of one more: [tokens + 1, vocabulary].
    """

    prompts: list[list[int]]
    written: list[list[int]]
    logits: list[torch.Tensor]


@dataclass(frozen=True)
class Written:
    """Prompts and tokens that are written alike; `ties`: prompts behind which two tokens were equally probable, so far
    as float32 tells, and the rest was not compared."""

    prompts: int
    tokens: int
    ties: int


@dataclass(frozen=True)
class Agreement:
    """How far a type of weights predicts what float32 does.

    Attributes:
        positions: tokens that float32 wrote.
        same_top_token: share of them that are the most probable here, too.
        mean_difference: of their log-probabilities, absolute, where they are; nats.
    """

    positions: int
    same_top_token: float
    mean_difference: float


@torch.inference_mode()
def expected(model: Any, renderer: Renderer, conversations: Sequence[Sequence[Message]]) -> Expected:
    """Return what a model in float32 writes.

    Args:
        model: of transformers.
        renderer: of its prompts.
        conversations: that are prompts.
    """
    ends = list(renderer.end_ids)
    settings = GenerationConfig(do_sample=False, max_new_tokens=COUNT, eos_token_id=ends, pad_token_id=renderer.pad_id)
    prompts = [list(renderer.prompt_ids(turns).ids) for turns in conversations]
    written, logits = [], []
    for prompt in prompts:  # one by one: padding may change a word
        ids = torch.tensor([prompt])
        found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0].tolist()
        more = [one for one in found[len(prompt) :] if one not in ends]
        written.append(more)
        (values,) = logits_of(model, [[*prompt, *more]])
        logits.append(values[len(prompt) - 1 :])
    return Expected(prompts, written, logits)


def compare_written(wanted: Expected, program: LlamaCpp, ends: Sequence[int], graft: Path) -> Written:
    """Compare what llama.cpp writes greedily with what transformers does.

    They compute in another order, so that the last digits of logits differ: where the two tokens' logits in
    transformers are nearer to each other than that, either is right.

    Args:
        wanted: of transformers.
        program: with the model in float32.
        ends: ids that end an answer.
        graft: for messages.

    Raises:
        ModelError: it writes something else.
    """
    found = program.write(wanted.prompts, COUNT)
    tokens = ties = 0
    for number, (one, ids) in enumerate(zip(wanted.written, found, strict=True)):
        other = [token for token in ids if token not in ends]
        same = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        tokens += same
        if one == other:
            continue
        values = wanted.logits[number][same]
        # Where one of them ends there, its token is an end.
        a = values[one[same]] if same < len(one) else values[list(ends)].max()
        b = values[other[same]] if same < len(other) else values[list(ends)].max()
        if abs(a.item() - b.item()) > TOLERANCE * max(1.0, values.abs().max().item()):
            raise ModelError(
                f"llama.cpp writes something else than transformers with {graft}, both in float32: behind prompt "
                f"{number + 1} the token {same + 1} is another; use the graft beside its base, or export without --gguf"
            )
        ties += 1
    return Written(len(wanted.prompts), tokens, ties)


def agreement(wanted: Expected, program: LlamaCpp, graft: Path, kind: str) -> Agreement:
    """Return how far another type predicts what float32 writes.

    Args:
        wanted: of transformers, in float32.
        program: with the model in that type.
        graft: for messages.
        kind: the type.

    Raises:
        ModelError: it predicts something else altogether.
    """
    same, differences = [], []
    for prompt, written, logits in zip(wanted.prompts, wanted.written, wanted.logits, strict=True):
        rows = [[*prompt, *written[:number]] for number in range(len(written))]
        if not rows:
            continue
        tokens, values = program.top(rows)
        exact = logits.log_softmax(-1)
        for number, (token, value) in enumerate(zip(tokens, values, strict=True)):
            same.append(token == written[number])
            if token is not None and value is not None:
                differences.append(abs(value - exact[number, token].item()))
    found = Agreement(
        positions=len(same),
        same_top_token=sum(same) / len(same) if same else 1.0,
        mean_difference=math.fsum(differences) / len(differences) if differences else 0.0,
    )
    if not found.mean_difference <= MAX_KL:  # overflow gives NaN
        raise ModelError(
            f"in {kind} the model of {graft} predicts something else in llama.cpp (log-probabilities differ by "
            f"{found.mean_difference:.2g} nats on average); its numbers do not fit that type: export with --dtype fp32"
        )
    return found
