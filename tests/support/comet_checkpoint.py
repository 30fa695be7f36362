"""Makes a tiny random COMET checkpoint and scores rows with COMET's own interface. Run by COMET's Python.

Usage: comet_checkpoint.py FOLDER KIND ROWS OUT; KIND is "regression" (COMET-22), "kiwi" (CometKiwi: no reference) or
"xcomet".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import yaml
from comet import load_from_checkpoint
from comet.models import RegressionMetric, UnifiedMetric, XCOMETMetric
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def encoder(folder: Path, texts: list[str]) -> None:
    """Write tokenizer and configuration of a two-layer XLM-R."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    ).save_pretrained(folder)


def main() -> None:
    """Make the checkpoint, load it again and score."""
    folder, kind, rows_file, out = sys.argv[1:]
    rows = json.loads(Path(rows_file).read_text("utf-8"))
    base = Path(folder) / "encoder"
    encoder(base, [text for row in rows for text in row.values()] * 5)
    torch.manual_seed(3)
    shared = {
        "pretrained_model": str(base),
        "encoder_model": "XLM-RoBERTa",
        "load_pretrained_weights": False,
        "local_files_only": True,
        "hidden_sizes": [16],
    }
    if kind == "kiwi":
        model = UnifiedMetric(**shared, input_segments=["mt", "src"], sent_layer="mix", word_level_training=False)
    elif kind == "xcomet":
        model = XCOMETMetric(**shared, word_layer=2)
    else:
        model = RegressionMetric(**shared)
    with torch.no_grad():
        for parameter in model.parameters():  # random weights of a size at which texts differ
            parameter.add_(0.2 * torch.randn_like(parameter))
    checkpoint = Path(folder) / "checkpoints" / "model.ckpt"
    checkpoint.parent.mkdir(parents=True)
    hparams = dict(model.hparams)
    torch.save(
        {"state_dict": model.state_dict(), "hyper_parameters": hparams, "pytorch-lightning_version": "2.0.0"},
        checkpoint,
    )
    identifier = {"kiwi": "unified_metric", "xcomet": "xcomet_metric"}.get(kind, "regression_metric")
    (Path(folder) / "hparams.yaml").write_text(yaml.safe_dump({**hparams, "class_identifier": identifier}))
    loaded = load_from_checkpoint(str(checkpoint), local_files_only=True)
    scores = loaded.predict(rows, batch_size=1, gpus=0, accelerator="cpu", progress_bar=False, num_workers=0)["scores"]
    Path(out).write_text(json.dumps(scores), "utf-8")


if __name__ == "__main__":
    main()
