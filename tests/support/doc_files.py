"""The files that the pages about the Python API name, few and small."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import lingraft
from builders import tiny_llama, tiny_tokenizer

STARTER = Path(lingraft.__file__).parent / "shipped" / "starter"


def lay_out(folder: Path) -> None:
    """Write the files that the page names, few and small; the model's weights are random."""
    tokenizer = tiny_tokenizer("smollm2")
    model = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # sure enough of its choices to write something
    model.save_pretrained(folder / "my-model")
    tokenizer.save_pretrained(folder / "my-model")
    for name, rows in (("train", 16), ("test", 4)):
        pairs = map(json.loads, (STARTER / f"{name}.de-en.jsonl").read_text("utf-8").splitlines()[:rows])
        lines = ["de\ten", *(f"{pair['source']}\t{pair['target']}" for pair in pairs)]
        (folder / f"{name}.tsv").write_text("\n".join([*lines, ""]), "utf-8")
    prompts = (STARTER / "prompts.jsonl").read_text("utf-8").splitlines()[:12]
    (folder / "prompts.jsonl").write_text("\n".join([*prompts, ""]), "utf-8")
