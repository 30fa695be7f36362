"""MetricX: what is asked and how it is read, against transformers' own forward pass; files, the cache, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MT5Config, MT5ForConditionalGeneration, MT5Model

from lingraft.core.errors import ModelError
from lingraft.data.records import Pair
from lingraft.metrics.base import open_metric
from lingraft.metrics.metricx import MetricX
from lingraft.metrics.workers import metricx_worker

sentencepiece = pytest.importorskip("sentencepiece", reason="mT5's tokenizer needs sentencepiece")

TEXTS = [
    "Der Hafen wurde 1870 gebaut.",
    "The harbour was built in 1870.",
    "It is a museum today!",
    "source: candidate:",
]
PAIRS = [Pair(str(n), text, "The harbour is old.", "de", "en") for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mT5 of one layer with mT5's vocabulary, and a SentencePiece tokenizer as mT5 has one."""
    place = tmp_path_factory.mktemp("metricx")
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_prefix=str(place / "spiece"),
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        **special,
    )
    sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = MT5ForConditionalGeneration(MT5Config(vocab_size=250112, **sizes))
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        weights["lm_head.weight"] = torch.randn(250112, 8)  # which is not what the embeddings are, as in all of mT5's
        read = model.encoder(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
        start = torch.zeros((1, 1), dtype=torch.long)
        state = model.decoder(input_ids=start, encoder_hidden_states=read).last_hidden_state[0, 0]
        weights["lm_head.weight"][250089] = 8 * state / state.norm() ** 2  # scores lie about 8
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        weights.pop(name, None)
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    written = {**model.config.to_dict(), "tie_word_embeddings": False, "architectures": ["MT5ForRegression"]}
    (place / "config.json").write_text(json.dumps(written), "utf-8")
    return place


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": str(folder),
        "tokenizer": str(folder),
        "device": "cpu",
        "batch_size": 3,
        "max_tokens": 1536,
        **changes,
    }


def expected(folder: Path, text: str) -> float:
    """Return the logit of <extra_id_10> in the decoder's first step, cut to 0 to 25, of one text alone; the output
    layer is read from the checkpoint."""
    model = MT5Model.from_pretrained(folder).eval()
    ids = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")).encode(text)
    with torch.inference_mode():
        step = torch.zeros((1, 1), dtype=torch.long)
        state = model(input_ids=torch.tensor([ids]), decoder_input_ids=step).last_hidden_state[0, 0]
        logit = load_file(folder / "model.safetensors")["lm_head.weight"][250089] @ state
    return min(25.0, max(0.0, float(logit)))


def test_a_row_has_the_score_of_its_text_whatever_is_beside_it(folder: Path) -> None:
    worker = metricx_worker.MetricX(settings(folder))
    rows = [
        {"source": source, "candidate": candidate, "reference": reference}
        for source in TEXTS
        for candidate, reference in (("It is a museum today!", "The harbour."), ("", None), (TEXTS[1] * 9, ""))
    ]
    texts = [
        f"source: {row['source']} candidate: {row['candidate']}"
        + ("" if row["reference"] is None else f" reference: {row['reference']}")
        for row in rows
    ]
    scores = worker.scores(rows)
    assert scores == pytest.approx([expected(folder, text) for text in texts], abs=1e-4)
    assert len({round(score, 3) for score in scores if 0 < score < 25}) > 3
    assert worker.about() == {"dtype": "float32"}


def test_what_is_too_long_is_cut_behind(folder: Path) -> None:
    worker = metricx_worker.MetricX(settings(folder, max_tokens=32))
    (score,) = worker.scores([{"source": TEXTS[0] * 40, "candidate": "x", "reference": "y"}])
    ids = worker.ids({"source": TEXTS[0] * 40, "candidate": "x", "reference": "y"})
    assert len(ids) == 31
    assert worker._pieces.decode(ids).startswith("source: Der Hafen")
    assert 0 <= score <= 25


def test_the_mean_of_a_set_and_its_signature(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # of a careful user: the process finds what stands beside its program
    chosen = {"kind": "metricx", "model": str(folder), "tokenizer": str(folder), "device": "cpu"}
    metric = open_metric(chosen).metric
    built = metric.build("de", "en", ())
    texts = ["The harbour was built.", "A museum.", "The harbour was built.", "A"]
    try:
        rows = built.statistics(texts, PAIRS)
    finally:
        metric.close()
    by_hand = [
        expected(folder, f"source: {pair.source} candidate: {text} reference: {pair.target}")
        for text, pair in zip(texts, PAIRS, strict=True)
    ]
    assert rows[:, 0].tolist() == pytest.approx(by_hand, abs=1e-4)
    assert built.signature(10, 1).startswith(f"metricx|model:{folder.name}|sha256:")
    assert "|reference:first|tokens:1536|" in built.signature(10, 1)
    again = open_metric({**chosen, "reference": False})
    assert (again.metric.references, metric.references) == (False, True)
    assert again.metric.identity() != metric.identity()
    assert (metric.facts.better, metric.facts.label) == ("lower", "MetricX-24")
    known = open_metric(chosen).metric
    monkeypatch.setattr(known, "start", None)  # all of it is in the cache
    assert known.build("de", "en", ()).statistics(texts, PAIRS).tolist() == rows.tolist()


def test_what_is_missing_is_told_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no MetricX checkpoint with config\.json and \*\.safetensors or pytorch_model"
    ):
        open_metric({"kind": "metricx", "model": str(tmp_path)}).metric.build("de", "en", ())
    chosen = {"kind": "metricx", "model": str(folder), "tokenizer": str(tmp_path)}
    metric = open_metric(chosen).metric
    with pytest.raises(ModelError, match=r"there is no spiece\.model; .* as the metric's `tokenizer`"):
        metric.build("de", "en", ())


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mt5", "vocab_size": 100}), "utf-8")
    with pytest.raises(ValueError, match="it is a model of type mt5 of 100 tokens, and MetricX is an mt5 of 250112"):
        metricx_worker.MetricX(settings(folder, model=str(tmp_path)))


def test_a_checkpoint_without_the_output_layer_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its embeddings would take the layer's place, and all scores be wrong."""
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(ValueError, match=r"no output layer of its own \(lm_head.weight\)"):
        metricx_worker.MetricX(settings(folder, model=str(tmp_path)))


def test_weights_of_a_pickle_are_read_as_tensors_alone(folder: Path, tmp_path: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    row = {"source": TEXTS[0], "candidate": TEXTS[1], "reference": TEXTS[2]}
    own, other = (metricx_worker.MetricX(settings(folder, model=str(one))).scores([row]) for one in (folder, tmp_path))
    assert own == other
    assert MetricX(MetricX.Params(model=str(tmp_path))).folder() == tmp_path
