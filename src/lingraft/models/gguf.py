"""A model in GGUF as one that transformers loads in moments."""

from __future__ import annotations

import copy
import mmap
import struct
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lingraft.core.errors import ModelError
from lingraft.core.packages import install_command


def convert(folder: Path, gguf: str, target: Path) -> None:
    """Write a GGUF model into a folder as float32 safetensors, and check that its logits equal the original's.

    Args:
        folder: that holds the GGUF file.
        gguf: name of the file.
        target: folder to write; what an interrupted conversion left is removed.

    Raises:
        ModelError: the package `gguf` is missing, or the copy computes something else.
    """
    try:
        # `AutoTokenizer` would read the whole file for a configuration first, which takes seconds.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=gguf)
        _split_digits(tokenizer, folder / gguf)
        original = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32).eval()
    except ImportError as error:
        raise ModelError(f"reading {gguf} needs the package `gguf`; run `{install_command('gguf')}`") from error
    config = copy.deepcopy(original.config)  # reading it from the file again takes seconds
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain float32 from here on
    config.dtype = torch.float32
    with torch.device("meta"):  # it has weights already
        converted = AutoModelForCausalLM.from_config(config)
    converted.load_state_dict(original.state_dict(), assign=True)
    converted.tie_weights()
    converted.generation_config = original.generation_config
    for leftover in target.iterdir():
        leftover.unlink()
    converted.save_pretrained(target)
    tokenizer.save_pretrained(target)
    again = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    difference = logit_difference(original, again, tokenizer, ["The quick brown fox", "Guten Tag, wie geht es Ihnen?"])
    if difference > 1e-4:
        raise ModelError(f"the converted copy of {gguf} differs from the original by {difference:.2g} in its logits")


def _split_digits(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
    """Restore the digit splitting that reading GGUF loses: SmolLM's tokenizer takes each digit alone, before the
    GPT-2 split, so that a blank line before a number is one token."""
    from tokenizers import pre_tokenizers

    if text_field(gguf, "tokenizer.ggml.pre") == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


_STRING = 8  # as GGUF numbers the types of values


def text_field(gguf: Path, key: str) -> str | None:
    """Return the text that a GGUF file has under a key; None if it has none. `GGUFReader` would take seconds, since it
    reads a vocabulary word by word."""
    name = key.encode()
    begin = struct.pack("<Q", len(name)) + name + struct.pack("<I", _STRING)
    with gguf.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if (found := content.find(begin)) < 0:
            return None
        start = found + len(begin) + 8
        (length,) = struct.unpack("<Q", content[start - 8 : start])
        return content[start : start + length].decode()


def logit_difference(
    one: PreTrainedModel, two: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> float:
    """Return the largest absolute difference of two models' logits over some texts."""
    largest = 0.0
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt").input_ids
            gap = one(input_ids=ids).logits.float() - two(input_ids=ids).logits.float()
            largest = max(largest, gap.abs().max().item())
    return largest
