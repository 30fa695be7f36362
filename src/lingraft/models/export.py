"""A graft merged into its base: one model folder that any program for Hugging Face models loads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from lingraft.core.errors import ModelError, UsageError
from lingraft.core.strangers import copy_file
from lingraft.data.records import Message
from lingraft.models.architectures import Loading, open_weights
from lingraft.models.devices import free_memory, quiet
from lingraft.models.exported_card import exported_card
from lingraft.models.graft import find_base, find_graft, graft_renderer, grafted, read_info
from lingraft.models.loading import LoadedModel, load_model
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import LOCK, locked
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import sync_folder, sync_tree, usual_modes
from lingraft.store.files import write_atomic

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OTHER_CUTS = (
    "The tokenizer cuts words otherwise than the base's, since its combining marks stay in words. GGUF keeps only the "
    "name of the base's way, so that llama.cpp and Ollama would read text as other tokens than the model was trained "
    "on: use transformers or vLLM, or train with `vocabulary: {marks_join_letters: false}`."
)
TOLERANCE = 1e-3
"""Largest difference in float32 between logits beside each other and merged, as a share of the largest logit."""
MAX_KL = 0.5
"""Nats a token; more is not what rounding does to a model that is sound (bfloat16 costs some thousandths)."""
_CONTINUED = 24  # tokens that the graft writes behind each prompt that is compared
_TEXTS = (
    "The quick brown fox jumps over the lazy dog; it took 12 seconds.",
    "Guten Tag! Wie geht es Ihnen?",
    "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา",
    "今天天气很好。 Сегодня хорошая погода.",
)


def export_graft(graft: Path, out: Path, model: str | None = None, dtype: str = "bf16") -> dict[str, Any]:
    """Write base and graft as one model: weights (safetensors), configuration, tokenizer with chat template.

    The sum is computed in float32 on the CPU, written, read again and compared with base and graft beside each other;
    only then is it rounded to `dtype`, read again and compared once more, and given its name.

    Args:
        graft: its folder, or that of its run. out: folder to write, which must not exist yet.
        model: the base, if not where the graft says. dtype: "bf16", "fp16" or "fp32".

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
    if out.exists():
        raise UsageError(f"{out} exists already; give a new folder")
    graft = find_graft(graft)
    info, vocabulary = read_info(graft), Vocabulary.in_folder(graft)
    files = find_base(info, graft, model)
    warnings = [OTHER_CUTS] if vocabulary and vocabulary.info.cuts_as_base is False else []
    partial = out.with_name(f".{out.name}.partial")
    with explain_os_errors(out), locked(partial):
        try:
            if out.exists():  # another export has made it meanwhile
                raise UsageError(f"{out} exists already; give a new folder")
            for leftover in partial.iterdir():  # of an export that was killed
                if leftover.name != LOCK:
                    leftover.unlink()
            found = _write(
                load_model(files, "fp32", torch.device("cpu"), variables=info.template), graft, partial, dtype
            )
            copy_file(graft / "lingraft.json", partial / "lingraft.json")
            renderer = graft_renderer(files, graft)
            loading = Loading.of(partial)
            card = exported_card(info, graft, renderer, name=out.name, dtype=dtype, warnings=warnings, loading=loading)
            write_atomic(partial / "README.md", card)
            usual_modes(partial)
            sync_tree(partial)
            partial.replace(out)
            (out / LOCK).unlink()
            sync_folder(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"folder": str(out), "dtype": dtype, **found, "template": info.template or {}, "warnings": warnings}


@dataclass(frozen=True)
class PredictionAgreement:
    """How far one model predicts what another does.

    Attributes:
        positions: tokens of texts, prompts and what the graft writes behind them. same_top_token: share of them at
            which the most probable next token is the same. mean_kl: KL(exact || rounded), nats a token.
        max_logit_difference: over all positions, and over the tokens that a vocabulary added.
    """

    positions: int
    same_top_token: float
    mean_kl: float
    max_logit_difference: float


def _write(loaded: LoadedModel, graft: Path, folder: Path, dtype: str) -> dict[str, Any]:
    with grafted(loaded, graft) as on, quiet(), torch.inference_mode():
        rows, new = _rows(on), _new_ids(on)
        expected = _logits(on.model, [*rows, *new])
        merging: Any = on.model
        merged = merging.merge_and_unload(safe_merge=True)
        merged.save_pretrained(folder)
        on.renderer.tokenizer.save_pretrained(folder)
        vocab = on.renderer.tokenizer.get_vocab()
    del loaded, on, merging, merged
    free_memory()
    again = _read(folder, torch.float32)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    difference = _difference(_logits(again, [*rows, *new]), expected)
    if not difference <= TOLERANCE * max(1.0, *(values.abs().max().item() for values in expected)):
        raise ModelError(
            f"the merged model's logits differ by {difference:.2g} from those of {graft}; use the graft beside its base"
        )
    if tokenizer.get_vocab() != vocab or _plain_rows(tokenizer) != rows[: len(_TEXTS)]:
        raise ModelError(f"the tokenizer of {graft} is not read back as it was written; use the graft beside its base")
    rounded = None
    if dtype != "fp32":
        again = _rounded(again, folder, DTYPES[dtype])
        rounded = _agreement(expected, _logits(again, [*rows, *new]), len(rows))
        if not rounded.mean_kl <= MAX_KL:  # overflow gives NaN
            raise ModelError(
                f"in {dtype} the merged model of {graft} predicts something else (KL {rounded.mean_kl:.2g} nats a "
                f"token); its numbers do not fit that type: export with --dtype {'bf16' if dtype == 'fp16' else 'fp32'}"
            )
    return {
        "parameters": sum(parameter.numel() for parameter in again.parameters()),
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.name != LOCK),
        "tokens": len(tokenizer),
        "max_logit_difference": difference,
        "rounded": asdict(rounded) if rounded else None,
    }


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


def _plain_rows(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text).input_ids) for text in _TEXTS]


def _rows(loaded: LoadedModel) -> list[list[int]]:
    """Return token ids to compare with: plain texts, and the texts as prompts with what the graft writes then."""
    renderer, model = loaded.renderer, loaded.model
    writing: Any = model  # its stubs do not know `generate`
    rows = _plain_rows(renderer.tokenizer)
    for text in _TEXTS:
        ids = torch.tensor([renderer.prompt_ids((Message("user", text),)).ids])
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=_CONTINUED,
            eos_token_id=list(renderer.end_ids),
            pad_token_id=renderer.pad_id,
        )
        rows += writing.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
        ).tolist()
    return rows


def _new_ids(loaded: LoadedModel) -> list[list[int]]:
    """Return a row of the ids that a vocabulary added, if there is one."""
    new = list(loaded.new_ids)
    return [new[:: max(1, len(new) // 64)]] if new else []


@torch.inference_mode()
def _logits(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    return [model(input_ids=torch.tensor([list(row)])).logits[0].float() for row in rows]


def _difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
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
        len(agreed), agreed.mean().item(), torch.cat(divergence).double().mean().item(), _difference(exact, found)
    )
