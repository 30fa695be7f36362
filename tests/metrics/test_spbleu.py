"""spBLEU on a small SentencePiece model, put where sacreBLEU keeps FLORES's, against BLEU of the pieces themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU

from builders import CORPUS

CODE = """
import json, sys
from lingraft.data.records import Pair
from lingraft.core.errors import UsageError
from lingraft.evaluation.translation import score_all
texts = json.loads(sys.argv[1])
pairs = [Pair(str(n), "x", text, "en", "th") for n, text in enumerate(texts)]
try:
    cut = {str(n): text[5:] for n, text in enumerate(texts)}
    row = score_all({"x": cut}, pairs, "t", ["spbleu"], n_bootstrap=20)[0]
    print(json.dumps([row.score, row.signature]))
except UsageError as error:
    print(json.dumps(str(error)))
"""


def test_spbleu_is_bleu_of_pieces(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "SACREBLEU": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def scored() -> object:
        arguments = [sys.executable, "-c", CODE, json.dumps(CORPUS)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    refused = scored()
    assert isinstance(refused, str)
    assert refused.startswith("sacreBLEU cannot fetch the SentencePiece model of flores200 (<urlopen error")
    assert "or use chrf++" in refused

    model = tmp_path / "models" / "flores200sacrebleuspm"
    model.parent.mkdir(exist_ok=True)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(text.replace("\n", " ") for text in CORPUS), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "spm"), vocab_size=220, character_coverage=1.0, minloglevel=2
    )
    (tmp_path / "spm.model").rename(model)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def split(text: str) -> str:
        return " ".join(pieces.encode(" ".join(text.split()), out_type=str))

    expected = BLEU(tokenize="none", force=True).corpus_score(
        [split(text[5:]) for text in CORPUS], [[split(text) for text in CORPUS]]
    )
    score, signature = scored()  # type: ignore[misc]
    assert score == pytest.approx(expected.score, abs=1e-6)
    assert 20 < score < 100
    assert "tok:flores200" in signature
