"""mtdata itself, without a network; `make test-mtdata` makes its environment."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.core.own_environments import MTDATA
from lingraft.core.progress import Reporter
from lingraft.data.corpora import fetch_corpus, worker_command
from lingraft.data.readers import PairSource, read_pairs

pytestmark = pytest.mark.mtdata

ADDRESS = "https://object.pouta.csc.fi/OPUS-TED2020/v1/moses/de-en.txt.zip"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """mtdata's own folder, and no way to the network."""
    assert MTDATA.installed(), "the environment of mtdata is not there: run `make test-mtdata`"
    command = worker_command("a test")
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTDATA", str(tmp_path / "mtdata"))
    monkeypatch.setattr("lingraft.data.corpora.worker_command", lambda name: command)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path


def test_what_mtdata_has_fetched_is_read_and_the_rest_is_asked_for(nowhere: Path) -> None:
    source = PairSource(path="opus:TED2020", source="en", target="de")
    with pytest.raises(DataError, match=f"cannot be fetched .*{ADDRESS}"):
        next(read_pairs(source))
    digest = hashlib.md5(ADDRESS.encode(), usedforsecurity=False).hexdigest()
    kept = nowhere / "mtdata" / "object.pouta.csc.fi" / digest[:4] / digest[4:] / "ted2020.zip"
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("README", "about it")
        archive.writestr("TED2020.de-en.en", "Hello world.\nThe table is green.\n")
        archive.writestr("TED2020.de-en.de", "Hallo Welt.\nDer\tTisch ist grün.\n")
    kept.with_name("ted2020.zip._valid").touch()
    rows = [row.record for row in read_pairs(source)]
    assert [(row.source, row.target) for row in rows] == [
        ("Hello world.", "Hallo Welt."),
        ("The table is green.", "Der\tTisch ist grün."),
    ]
    for name, message in {
        "opus:TED2021": r"did you mean opus:ted2020\?",
        "mtdata:Statmt-news_commentary-18.9-deu-eng": r"did you mean mtdata:Statmt-news_commentary-18",
        "mtdata:Statmt-news_crawl-2020-deu": "one language|is not known",
    }.items():
        with pytest.raises(UsageError, match=message):
            fetch_corpus(name, "de", "en", Reporter(quiet=True))
