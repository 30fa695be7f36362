"""Test sets that sacreBLEU knows by name, against its own command line, from files put where it looks for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.readers import PairSource, PromptSource, read_pairs, read_prompts

XML = """<?xml version="1.0" encoding="utf-8"?>
<dataset id="newstest2022">
  <collection id="general">
    <doc id="doc-1" origlang="de" domain="news">
      <src lang="de"><p><seg id="1">Erster  Satz.</seg><seg id="2">Zweiter Satz &amp; mehr.</seg></p></src>
      <ref lang="en" translator="A"><p><seg id="1">First sentence.</seg><seg id="2">Second &amp; more.</seg></p></ref>
      <ref lang="en" translator="B"><p><seg id="1">Sentence one.</seg><seg id="2">Number two.</seg></p></ref>
    </doc>
    <doc id="doc-2" origlang="de" domain="news">
      <src lang="de"><p><seg id="1">Dritter Satz.</seg></p></src>
      <ref lang="en" translator="A"><p><seg id="1">Third sentence.</seg></p></ref>
      <ref lang="en" translator="B"><p><seg id="1">Sentence three.</seg></p></ref>
    </doc>
  </collection>
</dataset>
"""

READ = """
import json, sys
from lingraft.data.readers import PairSource, read_pairs
from lingraft.core.errors import LingraftError
try:
    rows = [row.record for row in read_pairs(PairSource(path=sys.argv[1], source=sys.argv[2], target=sys.argv[3]))]
    print(json.dumps([[row.id, row.source, row.target, list(row.references), row.document] for row in rows]))
except LingraftError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """sacreBLEU's folder with wmt22 de-en in it, and no way to the network."""
    raw = tmp_path / "wmt22" / "raw"
    (raw / "wmt22-news-systems-1.1" / "xml").mkdir(parents=True)
    (raw / "wmt22.v1.1.tar.gz").write_bytes(b"was unpacked")
    (raw / "wmt22-news-systems-1.1" / "xml" / "wmttest2022.de-en.all.xml").write_text(XML, "utf-8")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {**os.environ, **nowhere, "SACREBLEU": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}


def _python(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_rows_are_sacrebleus_own_and_what_is_absent_is_one_sentence(environment: dict[str, str]) -> None:
    found = json.loads(_python(environment, "-c", READ, "sacrebleu:wmt22", "de", "en-GB"))
    shown = _python(environment, "-m", "sacrebleu", "-t", "wmt22", "-l", "de-en", "--echo", "src", "ref", "docid")
    expected = [line.split("\t") for line in shown.splitlines()]
    assert len(expected) == 3
    assert [[source, target, document] for _, source, target, _, document in found] == expected
    assert [row[0] for row in found] == ["wmt22:1", "wmt22:2", "wmt22:3"]

    refused = json.loads(_python(environment, "-c", READ, "sacrebleu:wmt21", "de", "en"))
    assert refused.startswith("sacrebleu:wmt21: sacreBLEU cannot fetch or read it (<urlopen error")
    assert "copy ~/.sacrebleu/wmt21 from another machine" in refused


def test_unknown_sets_directions_and_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match="sacrebleu:wmt2: sacreBLEU knows no such test set; did you mean 'wmt2"):
        read_pairs(PairSource(path="sacrebleu:wmt2", source="de", target="en"))
    with pytest.raises(UsageError, match="has no th-en in it; it has cs-en, cs-uk, de-en"):
        read_pairs(PairSource(path="sacrebleu:wmt22", source="th", target="en"))
    with pytest.raises(UsageError, match="a test set of sacreBLEU holds pairs, not prompts"):
        read_prompts(PromptSource(path="sacrebleu:wmt22"))
    assert PairSource(path="sacrebleu:wmt22", source="de", target="en").name == "wmt22"
