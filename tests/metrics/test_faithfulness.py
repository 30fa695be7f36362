"""Faithfulness by entailment: the worker against transformers itself, windows, sentences, the cache, and refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from builders import tiny_tokenizer
from lingraft.core.errors import EngineError, ModelError
from lingraft.data.records import Pair
from lingraft.metrics.base import open_metric
from lingraft.metrics.faithfulness import Faithfulness
from lingraft.metrics.workers.entailment_worker import Entailment, entailment_of

FAKE = Path(__file__).parents[1] / "support" / "entailment_fake.py"
DOCUMENT = "Der Hafen wurde 1870 gebaut. Er ist heute ein Museum. Im Sommer kommen viele Gäste."
SUMMARY = "The harbour was built in 1870. It is a museum today!"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of pairs."""
    place, tokenizer = tmp_path_factory.mktemp("nli"), tiny_tokenizer("smollm2")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        id2label={0: "neutral", 1: "entailment", 2: "contradiction"},
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(place)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(place)
    return place


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"model": str(folder), "device": "cpu", "batch_size": 2, "max_tokens": 512, **changes}


def probability(folder: Path, premise: str, hypothesis: str) -> float:
    """Return P(entailment) of one pair, alone."""
    model, tokenizer = BertForSequenceClassification.from_pretrained(folder).eval(), tiny_tokenizer("smollm2")
    with torch.inference_mode():
        logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits
    return float(logits.softmax(-1)[0, 1])


def test_a_row_has_the_probability_of_its_pair_whatever_is_beside_it(folder: Path) -> None:
    worker = Entailment(settings(folder))
    rows = [
        {"premise": ["Er ist heute ein Museum.", "Im Sommer kommen Gäste."], "hypothesis": "It is a museum."},
        {"premise": ["Ja."], "hypothesis": "No, it is not so, and never was."},
        {"premise": [], "hypothesis": "Nothing."},
    ]
    expected = [probability(folder, " ".join(row["premise"]), str(row["hypothesis"])) for row in rows]
    assert worker.scores(rows) == pytest.approx(expected, abs=1e-5)
    worker._pads, worker._batch = False, 1  # as where the tokenizer has nothing to pad with
    assert worker.scores(rows) == pytest.approx(expected, abs=1e-5)
    assert (worker.entailment, worker.labels[2]) == (1, "contradiction")


def test_of_a_long_document_the_window_counts_that_entails_most(folder: Path) -> None:
    sentences = [f"Satz Nummer {n} steht hier." for n in range(12)]
    worker = Entailment(settings(folder, max_tokens=64))
    windows = worker.windows(sentences, "A short claim.")
    assert len(windows) > 1
    assert " ".join(windows) == " ".join(sentences)
    tokenizer = tiny_tokenizer("smollm2")
    assert all(len(tokenizer(window, "A short claim.")["input_ids"]) <= 64 for window in windows)
    (score,) = worker.scores([{"premise": sentences, "hypothesis": "A short claim."}])
    assert score == pytest.approx(max(probability(folder, window, "A short claim.") for window in windows), abs=1e-5)
    (cut,) = worker.scores([{"premise": ["Wort " * 90], "hypothesis": "A short claim."}])  # no window holds it
    assert 0 < cut < 1


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1"}, {0: "entailed", 1: "entailment"}])
def test_a_classifier_of_other_labels_is_refused(labels: dict[int, str]) -> None:
    with pytest.raises(ValueError, match="not exactly one is called entailment; set `id2label`"):
        entailment_of(labels)
    assert entailment_of({0: "not_entailment", 1: "ENTAILMENT"}) == 1


def stub(folder: Path, log: Path) -> Faithfulness:
    return Faithfulness(Faithfulness.Params(model=str(folder)), lambda: [sys.executable, str(FAKE), str(log)])


def test_a_summary_has_the_mean_of_its_sentences_and_is_scored_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    pairs = [Pair(str(n), DOCUMENT, "", "de", "en") for n in range(3)]
    texts = [SUMMARY, "Im Sommer kommen\n- viele Leute", " ... "]
    metric, log = stub(folder, tmp_path / "log"), tmp_path / "log"
    # Of "The harbour was built in 1870." nothing stands there as a word, of the bullets 3 of 3 and 1 of 2 words.
    assert metric.score(texts, pairs) == pytest.approx([0.0, 0.75, 0.0])
    metric.close()
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [row["hypothesis"] for row in rows[:2]] == ["The harbour was built in 1870.", "It is a museum today!"]
    assert rows[0]["premise"] == DOCUMENT.replace(". ", ".\n").split("\n")
    again = stub(folder, log)
    assert again.score(texts[:2], pairs[:2]) == pytest.approx([0.0, 0.75])
    assert len(log.read_text("utf-8").splitlines()) == len(rows)
    built = again.build("de", "en", ())
    assert "|premise:document|hypothesis:sentence|windows:max, 512 tokens" in built.signature(10, 1)
    assert again.identity() != Faithfulness(Faithfulness.Params(model=str(folder), max_tokens=64)).identity()


def test_sentences_are_those_of_the_languages_of_document_and_summary(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    german, log = "Es traf am 3. Mai Hrn. Meyer. Er ging.", tmp_path / "log"
    metric = stub(folder, log)
    metric.score([german, german], [Pair("1", german, "", "de", "de"), Pair("2", german, "", "en", "de")])
    metric.close()
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    whole = ["Es traf am 3. Mai Hrn. Meyer.", "Er ging."]
    assert [row["hypothesis"] for row in rows] == whole * 2
    assert rows[0]["premise"] == whole
    assert len(rows[2]["premise"]) > 2  # by the rules of English an ordinal number ends a sentence


def test_after_a_failure_another_process_scores(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    dying = "import os, sys; input(); os.write(int(sys.argv[1]), b'{}\\n'); input()"
    commands = [[sys.executable, "-c", dying], [sys.executable, str(FAKE), str(tmp_path / "log")]]
    metric = Faithfulness(Faithfulness.Params(model=str(folder)), lambda: commands.pop(0))
    asked = ["Der Hafen"], [Pair("1", "Der Hafen.", "", "de", "en")]
    with pytest.raises(EngineError, match="faithfulness's process ended with exit code 0"):
        metric.score(*asked)
    assert metric.score(*asked) == [0.5]  # "Der" of "Der" and "Hafen."
    metric.close()


def test_what_is_missing_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"there is no classifier with config\.json"):
        open_metric({"kind": "faithfulness", "model": str(tmp_path)}).metric.build("de", "en", ())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"'org/nothing-here' from the hub .it is not on this machine.*folder as the"):
        Faithfulness(Faithfulness.Params(model="org/nothing-here")).folder()


@pytest.mark.long
def test_the_real_worker_in_its_process(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    metric = Faithfulness(Faithfulness.Params(model=str(folder), device="cpu"))
    (score,) = metric.score(["It is a museum."], [Pair("1", "Er ist ein Museum.", "", "de", "en")])
    metric.close()
    assert score == pytest.approx(probability(folder, "Er ist ein Museum.", "It is a museum."), abs=1e-5)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"faithfulness: .*while loading"):
        Faithfulness(Faithfulness.Params(model=str(broken))).score(["A claim."], [Pair("1", "Ja.", "", "de", "en")])
