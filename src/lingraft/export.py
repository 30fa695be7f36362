"""A graft merged into its base: one model folder that any program for Hugging Face models loads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingraft.data.records import Message
from lingraft.errors import ModelError, UsageError
from lingraft.graft import find_base, grafted, read_info
from lingraft.models import LoadedModel, free_memory, load_model, quiet
from lingraft.store import explained

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = 1e-3
"""Largest difference in float32 between logits beside each other and merged, as a share of the largest logit."""
_TEXTS = (
    "The quick brown fox jumps over the lazy dog; it took 12 seconds.",
    "Guten Tag! Wie geht es Ihnen?",
    "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา",
    "今天天气很好。 Сегодня хорошая погода.",
)


def export_graft(graft: Path, out: Path, model: str | None = None, dtype: str = "bf16") -> dict[str, Any]:
    """Write base and graft as one model: weights (safetensors), configuration, tokenizer with chat template.

    The sum is computed in float32 on the CPU, written, read again and compared with base and graft beside each other;
    only then is it rounded to `dtype` and given its name.

    Args:
        graft: its folder. out: folder to write, which must not exist yet.
        model: the base, if not where the graft says. dtype: "bf16", "fp16" or "fp32".

    Returns:
        `folder`, `dtype`, `parameters`, `bytes`, `tokens` (of the tokenizer), `max_logit_difference` in float32, and
        `max_logit_difference_rounded`, what rounding to `dtype` changes.

    Raises:
        UsageError: `out` exists, or an unknown dtype.
        ModelError: no graft, another base, or the merged model gives other logits.
        StoreError: it cannot be written.
    """
    if dtype not in DTYPES:
        raise UsageError(f"there is no type {dtype!r} to export in; choose one of {', '.join(DTYPES)}")
    if out.exists():
        raise UsageError(f"{out} exists already; give a new folder")
    files = find_base(read_info(graft), graft, model)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = _write(load_model(files, "fp32", torch.device("cpu")), graft, partial, DTYPES[dtype])
            shutil.copyfile(graft / "lingraft.json", partial / "lingraft.json")
            partial.replace(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"folder": str(out), "dtype": dtype, **found}


def _write(loaded: LoadedModel, graft: Path, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    with grafted(loaded, graft) as on, quiet(), torch.inference_mode():
        rows = _rows(on)
        expected = _logits(on.model, rows)
        merging: Any = on.model
        merged = merging.merge_and_unload(safe_merge=True)
        merged.save_pretrained(folder)
        on.renderer.tokenizer.save_pretrained(folder)
        vocab = on.renderer.tokenizer.get_vocab()
    del loaded, on, merging, merged
    free_memory()
    with quiet():
        again: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    difference = _difference(_logits(again, rows), expected)
    if not difference <= TOLERANCE * max(1.0, *(values.abs().max().item() for values in expected)):
        raise ModelError(
            f"the merged model's logits differ by {difference:.2g} from those of {graft}; use the graft beside its base"
        )
    if tokenizer.get_vocab() != vocab or _plain_rows(tokenizer) != rows[: len(_TEXTS)]:
        raise ModelError(f"the tokenizer of {graft} is not read back as it was written; use the graft beside its base")
    rounded = 0.0
    if dtype != torch.float32:
        with quiet():
            again.to(dtype).save_pretrained(folder)
        rounded = _difference(_logits(again, rows), expected)
    return {
        "parameters": sum(parameter.numel() for parameter in again.parameters()),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "tokens": len(tokenizer),
        "max_logit_difference": difference,
        "max_logit_difference_rounded": rounded,
    }


def _plain_rows(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text).input_ids) for text in _TEXTS]


def _rows(loaded: LoadedModel) -> list[list[int]]:
    """Return token ids to compare with: plain texts, a prompt, and the ids that a vocabulary added."""
    prompt = loaded.renderer.prompt_ids((Message("user", _TEXTS[0]),)).ids
    new = list(loaded.new_ids)
    step = max(1, len(new) // 64)
    return [*_plain_rows(loaded.renderer.tokenizer), list(prompt), *([new[::step]] if new else [])]


@torch.inference_mode()
def _logits(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [model(input_ids=torch.tensor([list(row)])).logits.float() for row in rows]


def _difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))
