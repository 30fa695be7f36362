"""A graft merged into its base: one model folder that any program for Hugging Face models loads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lingraft.core.errors import UsageError
from lingraft.core.strangers import copy_file
from lingraft.models.architectures import Loading
from lingraft.models.bases import base_license
from lingraft.models.exported_card import exported_card
from lingraft.models.graft import find_base, find_graft, graft_renderer, read_info
from lingraft.models.merged_model import write_merged
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import LOCK
from lingraft.store.files import write_atomic
from lingraft.store.publishing import new_folder, refuse_existing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OTHER_CUTS = (
    "The tokenizer cuts words otherwise than the base's, since its combining marks stay in words. GGUF keeps only the "
    "name of a way to cut words, and most converters take it to be the base's, so that llama.cpp and Ollama would read "
    "text as other tokens than the model was trained on. `lingraft export --gguf` compares the tokens and refuses; use "
    "transformers or vLLM, or train with `vocabulary: {marks_join_letters: false}`."
)


def export_graft(graft: Path, out: Path, model: str | None = None, dtype: str = "bf16") -> dict[str, Any]:
    """Write base and graft as one model: weights (safetensors), configuration, tokenizer with chat template.

    The sum is computed in float32 on the CPU, written, read again and compared with base and graft beside each other;
    only then is it rounded to `dtype`, read again and compared once more, and given its name.

    Args:
        graft: its folder, or that of its run.
        out: folder to write, which must not exist yet.
        model: the base, if not where the graft says.
        dtype: "bf16", "fp16" or "fp32".

    Returns:
        `folder`, `dtype`, `parameters`, `bytes`, `tokens` (of the tokenizer); `max_logit_difference` in float32;
        `rounded`, what `dtype` changes in weights and arithmetic, see `PredictionAgreement`; None for "fp32";
        `template`, the variables that the chat template needs to ask it as it was trained; `warnings`, what a user
        of the folder should know.

    Raises:
        UsageError: `out` exists, or an unknown dtype.
        ModelError: no graft, another base, or the merged model gives other logits, rounded or not.
        StoreError: it cannot be written.
    """
    if dtype not in DTYPES:
        raise UsageError(f"there is no type {dtype!r} to export in; choose one of {', '.join(DTYPES)}")
    refuse_existing(out)
    graft = find_graft(graft)
    info, vocabulary = read_info(graft), Vocabulary.in_folder(graft)
    files = find_base(info, graft, model)
    warnings = [OTHER_CUTS] if vocabulary and vocabulary.info.cuts_as_base is False else []
    with new_folder(out) as partial:
        smaller = "bf16" if dtype == "fp16" else "fp32"
        merged = write_merged(files, graft, partial, DTYPES[dtype], f"export with --dtype {smaller}")
        size = sum(path.stat().st_size for path in partial.iterdir() if path.name != LOCK)
        copy_file(graft / "lingraft.json", partial / "lingraft.json")
        renderer = graft_renderer(files, graft)
        loading = Loading.of(partial)
        card = exported_card(
            info,
            graft,
            renderer,
            name=out.name,
            dtype=dtype,
            warnings=warnings,
            loading=loading,
            licence=base_license(files.name, files.folder),
        )
        write_atomic(partial / "README.md", card)
    return {
        "folder": str(out),
        "dtype": dtype,
        "bytes": size,
        **asdict(merged),
        "template": info.template or {},
        "warnings": warnings,
    }
