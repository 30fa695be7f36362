"""Base and graft as one model in a folder, kept only if it computes what they compute beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from lingraft.core.errors import ModelError
from lingraft.data.records import Message
from lingraft.models.architectures import open_weights
from lingraft.models.devices import free_memory, quiet
from lingraft.models.files import ModelFiles
from lingraft.models.graft import grafted, template_of
from lingraft.models.loading import LoadedModel, load_model

TOLERANCE = 1e-3
"""Largest difference in float32 between logits beside each other and merged, as a share of the largest logit."""
MAX_KL = 0.5
"""Nats a token; more is not what rounding does to a model that is sound (bfloat16 costs some thousandths)."""
_CONTINUED = 24  # tokens that the graft writes behind each prompt that is compared
TEXTS = (
    "The quick brown fox jumps over the lazy dog; it took 12 seconds.",
    "Guten Tag! Wie geht es Ihnen?",
    "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา",
    "今天天气很好。 Сегодня хорошая погода.",
)


@dataclass(frozen=True, kw_only=True)
class PredictionAgreement:
    """How far one model predicts what another does.

    Attributes:
        positions: tokens of texts, prompts and what the graft writes behind them.
        same_top_token: share of them at which the most probable next token is the same.
        mean_kl: KL(exact || rounded), nats a token.
        max_logit_difference: over all positions, and over the tokens that a vocabulary added.
    """

    positions: int
    same_top_token: float
    mean_kl: float
    max_logit_difference: float


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """A merged model that was written.

    Attributes:
        parameters: of the model.
        tokens: of its tokenizer.
        max_logit_difference: in float32, between beside each other and merged.
        rounded: what the type changes in weights and arithmetic; None where it is float32.
    """

    parameters: int
    tokens: int
    max_logit_difference: float
    rounded: PredictionAgreement | None


def write_merged(files: ModelFiles, graft: Path, folder: Path, dtype: torch.dtype, remedy: str) -> MergedModel:
    """Write base and graft as one model: weights (safetensors), configuration, tokenizer with chat template.

    The sum is computed in float32 on the CPU, written, read again and compared with base and graft beside each other;
    only then is it rounded to `dtype`, read again and compared once more.

    Args:
        files: the base.
        graft: its folder.
        folder: to write into; it must be there.
        dtype: of the weights.
        remedy: where the numbers do not fit that type.

    Raises:
        ModelError: the graft does not fit the base, or the merged model gives other logits, rounded or not.
    """
    rows, expected, vocab = _merge(
        load_model(files, "fp32", torch.device("cpu"), variables=template_of(graft)), graft, folder
    )
    free_memory()
    again = _read(folder, torch.float32)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    difference = largest_difference(logits_of(again, rows), expected)
    if not difference <= TOLERANCE * max(1.0, *(values.abs().max().item() for values in expected)):
        raise ModelError(
            f"the merged model's logits differ by {difference:.2g} from those of {graft}; use the graft beside its base"
        )
    if tokenizer.get_vocab() != vocab or plain_rows(tokenizer) != rows[: len(TEXTS)]:
        raise ModelError(f"the tokenizer of {graft} is not read back as it was written; use the graft beside its base")
    rounded = None
    if dtype != torch.float32:
        again = _rounded(again, folder, dtype)
        rounded = _agreement(expected, logits_of(again, rows), 2 * len(TEXTS))
        if not rounded.mean_kl <= MAX_KL:  # overflow gives NaN
            raise ModelError(
                f"in {str(dtype).removeprefix('torch.')} the merged model of {graft} predicts something else (KL "
                f"{rounded.mean_kl:.2g} nats a token); its numbers do not fit that type: {remedy}"
            )
    return MergedModel(
        parameters=sum(parameter.numel() for parameter in again.parameters()),
        tokens=len(tokenizer),
        max_logit_difference=difference,
        rounded=rounded,
    )


def _merge(
    loaded: LoadedModel, graft: Path, folder: Path
) -> tuple[list[list[int]], list[torch.Tensor], dict[str, int]]:
    """Write the sum of a loaded base and a graft; return rows of token ids, their logits, and the vocabulary."""
    with grafted(loaded, graft) as on, quiet(), torch.inference_mode():
        rows = [*_rows(on), *_new_ids(on)]
        expected = logits_of(on.model, rows)
        merging: Any = on.model
        merging.merge_and_unload(safe_merge=True).save_pretrained(folder)
        on.renderer.tokenizer.save_pretrained(folder)
        return rows, expected, on.renderer.tokenizer.get_vocab()


def _read(folder: Path, dtype: torch.dtype) -> Any:
    with quiet():
        return open_weights(folder, dtype=dtype).eval()


def _rounded(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Write a model in another type, and return it as it is read from there.

    Reading again matters for more than the files: `Module.to` also rounds buffers, such as the frequencies of rotary
    embeddings, that every program computes anew in float32.

    Raises:
        ModelError: other numbers are read than were written.
    """
    with quiet():
        model.to(dtype).save_pretrained(folder)
    again = _read(folder, dtype)
    found = again.state_dict()
    if any(not torch.equal(value, found[name]) for name, value in model.state_dict().items()):
        raise ModelError(f"the weights in {folder} are not read back as they were written; export again")
    return again


def plain_rows(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text).input_ids) for text in TEXTS]


def _rows(loaded: LoadedModel) -> list[list[int]]:
    """Return token ids to compare with: plain texts, and the texts as prompts with what the graft writes then."""
    renderer = loaded.renderer
    writing: Any = loaded.model  # its stubs do not know `generate`
    prompts = [list(renderer.prompt_ids((Message("user", text),)).ids) for text in TEXTS]
    longest = max(map(len, prompts))
    ends = list(renderer.end_ids)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=_CONTINUED, eos_token_id=ends, pad_token_id=renderer.pad_id
    )
    # All at once: each step reads the weights once. Padding may change a word; what is compared has none.
    found = writing.generate(
        input_ids=torch.tensor([[renderer.pad_id] * (longest - len(ids)) + ids for ids in prompts]),
        attention_mask=torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]),
        generation_config=settings,
    )[:, longest:].tolist()
    written = [ids[: next((i + 1 for i, one in enumerate(ids) if one in ends), len(ids))] for ids in found]
    return [*plain_rows(renderer.tokenizer), *(ids + more for ids, more in zip(prompts, written, strict=True))]


def _new_ids(loaded: LoadedModel) -> list[list[int]]:
    """Return a row of the ids that a vocabulary added, if there is one."""
    new = list(loaded.new_ids)
    return [new[:: max(1, len(new) // 64)]] if new else []


@torch.inference_mode()
def logits_of(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [model(input_ids=torch.tensor([list(row)])).logits[0].float() for row in rows]


def largest_difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


def _agreement(exact: Sequence[torch.Tensor], found: Sequence[torch.Tensor], texts: int) -> PredictionAgreement:
    """Compare logits of rows, of which the first `texts` are text."""
    same: list[torch.Tensor] = []
    divergence: list[torch.Tensor] = []
    for one, other in zip(exact[:texts], found[:texts], strict=True):
        p, q = one.log_softmax(-1), other.log_softmax(-1)
        same.append(one.argmax(-1) == other.argmax(-1))
        divergence.append(torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1))
    agreed = torch.cat(same).double()
    return PredictionAgreement(
        positions=len(agreed),
        same_top_token=agreed.mean().item(),
        mean_kl=torch.cat(divergence).double().mean().item(),
        max_logit_difference=largest_difference(exact, found),
    )
