"""What BLEU says where a language's tokeniser is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules[sys.argv[1]] = None      # as where the package is not installed
from lingraft.core.errors import UsageError
from lingraft.metrics.base import METRICS
entry = METRICS.get("bleu")
entry(entry.Params()).build("de", "en", ["de", "en"])
try:
    entry(entry.Params()).build("en", sys.argv[2], ["en", sys.argv[2]])
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "target", "tokenizer", "extra"),
    [("MeCab", "ja", "ja-mecab", "japanese"), ("mecab_ko", "ko", "ko-mecab", "korean")],
)
def test_a_missing_tokenizer_is_named_with_its_extra(module: str, target: str, tokenizer: str, extra: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, module, target], capture_output=True, text=True)
    assert done.stdout == (
        f"BLEU needs sacreBLEU's tokenizer '{tokenizer}', which is not installed; "
        f"run `pip install 'lingraft[{extra}]'` or use chrf++\n"
    ), done.stderr
