"""What every translation metric promises, over all entries of the registry."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Pair, Request
from lingraft.metrics.base import METRICS, CorpusMetric, Metric, open_metric
from lingraft.metrics.comet import Comet
from lingraft.metrics.esa import Esa
from lingraft.metrics.faithfulness import Faithfulness
from lingraft.metrics.metricx import MetricX
from lingraft.reporting.citations import bibliography

FAKE = Path(__file__).parents[1] / "support" / "comet_fake.py"
GLOSSARY = FAKE.with_name("terms.csv")
SCORER = """
import json, sys
for row in map(json.loads, sys.stdin):
    print(float(row["hypothesis"] == row["reference"]))
"""
PAIRS = [
    Pair(
        str(n),
        f"Am {n}. Mai kam {{name}} an. Es steht auf https://example.org/{n} geschrieben.",
        f"On {n} May {{name}} arrived in the harbour. It is written on https://example.org/{n} for you.",
        "de",
        "en",
    )
    for n in range(2, 8)
]
PERFECT = [pair.target for pair in PAIRS]
POOR = ["Das ist ja ganz einfach und gar nicht schwer."] * len(PAIRS)
COPIED = [pair.source for pair in PAIRS]
ODD = ["", "   ", "\u0000", "👩‍👩‍👧 ไทย \u202e مرحبا", "line\nbreak\u2028 and\ttab", "\ud800" * 3]
ALL = (PERFECT, POOR, COPIED, ODD, [*PERFECT[:3], *POOR[3:]])

every_metric = pytest.mark.parametrize("name", METRICS)


@pytest.fixture
def metric(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Metric:
    """The metric, with what those take that do not work by their defaults."""
    if name == "comet":
        monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
        checkpoint = tmp_path / "checkpoints" / "model.ckpt"
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(b"weights")
        (tmp_path / "hparams.yaml").write_text("class_identifier: regression_metric\n", "utf-8")
        params = Comet.Params(path=str(checkpoint), device="cpu")
        return Comet(params, lambda: [sys.executable, str(FAKE), "works", str(tmp_path / "log")])
    if name == "faithfulness":  # the real worker is in test_faithfulness.py
        monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        fake = [sys.executable, str(FAKE.with_name("entailment_fake.py")), str(tmp_path / "log")]
        return Faithfulness(Faithfulness.Params(model=str(tmp_path)), lambda: fake)
    if name == "metricx":  # and in test_metricx.py
        monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
        for file in ("config.json", "model.safetensors", "spiece.model"):
            (tmp_path / file).write_text("{}")
        fake = [sys.executable, str(FAKE.with_name("metricx_fake.py"))]
        return MetricX(MetricX.Params(model=str(tmp_path), tokenizer=str(tmp_path)), lambda: fake)
    if name == "esa":
        esa = Esa(Esa.Params(judge={"kind": "scripted"}))
        for rows in (list(zip(PAIRS, texts, strict=True)) for texts in ALL):
            said: dict[str, Generation] = {}
            while asked := esa.questions(rows, said):
                said |= {one.id: Generation(one.id, _judged(one), (), "stop") for one in asked}
            esa.verdicts = {**esa.verdicts, **said}
        return esa
    program = tmp_path / "scorer.py"
    program.write_text(SCORER, "utf-8")
    given: dict[str, dict[str, Any]] = {
        "command": {"command": shlex.join([sys.executable, str(program)])},
        "computational_accuracy": {"run_code": True},  # which measures programs: see test_code.py
        "syntax_errors": {"run_code": True},
        "terms": {"path": str(GLOSSARY)},
    }
    return open_metric({"kind": name, **given.get(name, {})}).metric


def _judged(request: Request) -> str:
    """Say what a judge would: 90 to a translation that is the reference, 20 to another."""
    if request.id.endswith("/spans"):
        return "no errors"
    return "90" if any(f"\n{text}\n" in request.messages[0].content for text in PERFECT) else "20"


@pytest.fixture
def built(metric: Metric) -> Any:
    try:
        yield metric.build("de", "en", ("de", "en"))
    except UsageError as error:  # pieces of FLORES that are not on this machine
        pytest.skip(str(error))
    finally:
        metric.close()


def score(of: CorpusMetric, texts: Sequence[str], pairs: Sequence[Pair] = PAIRS) -> float:
    return float(of.aggregate(of.statistics(texts, pairs).sum(axis=0, keepdims=True))[0])


@every_metric
def test_it_says_how_it_is_shown(name: str, metric: Metric) -> None:
    facts, declared = metric.facts, type(metric).declared()
    assert facts == declared
    assert facts.label
    assert name == "command" or facts.label != name  # a program has no label but the one that it is given
    assert name == "command" or facts.decimals is not None
    assert facts.better in ("higher", "lower", None)
    assert set(facts.cite) <= set(bibliography())
    assert metric.name == name


@every_metric
def test_a_perfect_translation_is_better_than_a_poor_one(name: str, metric: Metric, built: CorpusMetric) -> None:
    assert built.segments(PAIRS) == PAIRS
    perfect, poor, copied = (score(built, texts) for texts in (PERFECT, POOR, COPIED))
    if metric.better is None:
        assert perfect == pytest.approx(1)
        return
    worse = copied if metric.role == "copied_source" else poor
    assert perfect > worse if metric.better == "higher" else perfect < worse
    if metric.unit == "%":
        assert all(0 <= value <= 100 for value in (perfect, poor, copied))
        assert perfect == (100 if metric.better == "higher" else 0)


@every_metric
def test_chunks_add_up_and_a_signature_defines_them(name: str, built: CorpusMetric) -> None:
    texts = [*PERFECT[:3], *POOR[3:]]
    whole = built.statistics(texts, PAIRS)
    parts = [built.statistics(texts[start : start + 2], PAIRS[start : start + 2]) for start in range(0, 6, 2)]
    np.testing.assert_allclose(np.concatenate(parts), whole)
    assert len(whole) == len(PAIRS)
    signature = built.signature(500, 7)
    assert "bs:500" in signature
    assert "seed:7" in signature
    assert signature == built.signature(500, 7)
    assert "\n" not in signature


@every_metric
def test_empty_and_odd_texts_have_a_score(name: str, built: CorpusMetric) -> None:
    found = built.statistics(ODD, PAIRS)
    assert found.shape[0] == len(ODD)
    assert np.isfinite(found).all()
    assert math.isfinite(score(built, ODD))
    assert math.isfinite(score(built, [""] * len(PAIRS)))


def test_one_with_a_name_is_called_by_it_and_keeps_its_direction() -> None:
    named = open_metric({"kind": "ter", "name": "edits"}).facts
    assert (named.title, named.better, named.decimals, named.cite) == ("edits", "lower", 1, ("snover-2006-study",))
    assert open_metric({"kind": "off_target", "name": "strays"}).facts.title == "strays %"
    assert open_metric("bleu").facts.label == "BLEU"


def test_a_program_is_shown_as_its_parameters_say() -> None:
    given = {"kind": "command", "name": "mx", "command": "score", "better": "lower"}
    plain = open_metric(given).facts
    assert (plain.title, plain.better, plain.decimals) == ("mx", "lower", None)
    shown = open_metric({**given, "label": " MetricX\n24 ", "better": "neither", "decimals": 2}).facts
    assert (shown.title, shown.better, shown.decimals) == ("MetricX 24", None, 2)


def test_comet_is_cited_by_its_model() -> None:
    models = ("Unbabel/wmt22-comet-da", "Unbabel/wmt22-cometkiwi-da", "Unbabel/XCOMET-XL")
    cited = [open_metric({"kind": "comet", "model": model}).facts.cite[0] for model in models]
    assert cited == ["rei-2022-comet", "rei-2022-cometkiwi", "guerreiro-2024-xcomet"]
    assert [Comet.declared(f"comet|model:{model}|sha256:ab").cite[0] for model in models] == cited
