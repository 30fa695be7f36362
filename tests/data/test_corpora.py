"""Corpora by name: which is chosen, how it is fetched, and what is said where it cannot be."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import mtdata_package
from lingraft.core.environment import cache_folder
from lingraft.core.errors import DataError, UsageError
from lingraft.core.progress import Reporter
from lingraft.data import corpora
from lingraft.data.corpora import fetch_corpus, kept_corpus, needs_network
from lingraft.data.readers import MeasuredSource, PairSource, PromptSource, read_pairs, read_prompts
from lingraft.data.workers import mtdata_worker
from lingraft.data.workers.mtdata_worker import CHUNK, download

TEXT = "Hallo Welt.\tHello world.\nDer Tisch ist grün.\tThe table is green.\n".encode()
LONG = bytes(range(256)) * 1024
"""Four times what a lost connection may cost."""


class Handler(BaseHTTPRequestHandler):
    """Serves two files, from where it is asked to; `ends_after`: bytes after which it closes the connection."""

    ends_after: ClassVar[list[int]] = []
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        text = {"/there": TEXT, "/long": LONG}.get(self.path, b"")
        if not text:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(text):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(text) - start))
        self.end_headers()
        self.wfile.write(text[start : start + self.ends_after.pop(0)] if self.ends_after else text[start:])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "ends_after", [])
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(mtdata_worker, "PAUSE_SECONDS", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Sequence[str]:
    """The worker's command; what is fetched is kept in a folder of the test."""
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    there = (
        *("OPUS-ted2020-v1-deu-eng", "OPUS-ted2020-v2018-deu-eng", "OPUS-ted2020-v2018-eng-fra"),
        *("OPUS-ted2020-v1-eng-zho_TW", "OPUS-ted2020-v1-eng-zho", "Statmt-news-1-deu", "Statmt-wmt-20-deu-eng"),
    )
    known = {**dict.fromkeys(there, f"{server}/there"), "Statmt-gone-1-deu-eng": f"{server}/gone"}
    known["Google-smol-1-deu-eng"] = "https://huggingface.co/datasets/org/set"
    command = mtdata_package.place(tmp_path / "worker", json.dumps(known))
    monkeypatch.setattr(corpora, "worker_command", lambda name: command)
    return command


def fetched(name: str, source: str, target: str, command: Sequence[str]) -> Path:
    return fetch_corpus(name, source, target, Reporter(quiet=True), lambda _: command)


def languages(path: Path) -> set[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return {key for line in lines for key in json.loads(line)}


@pytest.mark.parametrize("source", ["de", "en"])
def test_a_corpus_is_read_in_either_direction(command: Sequence[str], source: str) -> None:
    target = {"de": "en", "en": "de"}[source]
    fetched("opus:TED2020", "de", "en", command)
    rows = list(read_pairs(PairSource(path="opus:TED2020", source=source, target=target)))
    texts = {"de": ["Hallo Welt.", "Der Tisch ist grün."], "en": ["Hello world.", "The table is green."]}
    assert [row.record.source for row in rows] == texts[source]
    assert [row.record.target for row in rows] == texts[target]
    assert [row.record.id for row in rows] == ["TED2020:1", "TED2020:2"]


def test_each_name_has_a_file_of_its_own() -> None:
    names = ("opus:a/b", "opus:a_b", "opus:a:b", "mtdata:a/b", "opus:a/../b")
    places = {kept_corpus(name, "de", "en") for name in names}
    assert len(places) == len(names)
    assert {place.parent for place in places} == {cache_folder() / "corpora"}


def test_reading_fetches_it_once(command: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    source = MeasuredSource(path="mtdata:Statmt-wmt-20-deu-eng", source="de", target="en")
    assert needs_network(source.path, "de", "en")
    for _ in range(2):
        assert len(list(read_pairs(source))) == 2
    assert not needs_network(source.path, "en", "de")
    assert Handler.asked == [None]
    said = capfd.readouterr().err
    assert said.count("fetching Statmt-wmt-20-deu-eng from http://127.0.0.1:") == 1
    assert "2 pairs" in said


def test_what_a_killed_call_left_is_removed_and_another_goes_on_beside(command: Sequence[str]) -> None:
    kept = kept_corpus("opus:TED2020", "de", "en")
    kept.parent.mkdir(parents=True)
    dead, alive = (kept.with_name(f".{kept.name}.{pid}.tmp") for pid in (2**30, os.getppid()))
    dead.touch()
    alive.touch()
    fetched("opus:TED2020", "de", "en", command)
    assert sorted(kept.parent.iterdir()) == sorted([kept, alive])


def test_a_damaged_corpus_is_told(command: Sequence[str]) -> None:
    path = fetched("opus:TED2020", "de", "en", command)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=f"opus:TED2020: .*; remove {path}, and it is fetched again"):
        list(read_pairs(PairSource(path="opus:TED2020", source="de", target="en")))


@pytest.mark.parametrize(
    ("name", "target", "columns", "chosen"),
    [
        ("opus:TED2020", "de", {"de", "en"}, "OPUS-ted2020-v2018-deu-eng"),
        ("opus:TED2020/v1", "de", {"de", "en"}, "OPUS-ted2020-v1-deu-eng"),
        ("opus:ted2020", "zh", {"en", "zh"}, "OPUS-ted2020-v1-eng-zho"),
        ("opus:TED2020", "zh-TW", {"en", "zh-TW"}, "OPUS-ted2020-v1-eng-zho_TW"),
    ],
)
def test_the_newest_of_the_languages_is_taken(
    command: Sequence[str], capfd: pytest.CaptureFixture[str], name: str, target: str, columns: set[str], chosen: str
) -> None:
    path = fetched(name, "en", target, command)
    assert path == kept_corpus(name, target, "en")
    assert languages(path) == columns
    assert f"fetching {chosen} from" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("opus:TED2O20", "en", r"opus:TED2O20: is not known to mtdata .*; did you mean opus:ted2020\?"),
        ("opus:TED2020/v3", "en", r"has no version 'v3' of it; it has v1, v2018"),
        ("opus:TED2020", "fr", r"opus:TED2020: has no de-fr; it has de-en, fr-en"),
        ("opus:", "en", r"'opus:' names no corpus; write opus:TED2020"),
        ("opus:a/b/c", "en", r"names no corpus"),
        ("mtdata:", "en", r"names no corpus"),
        ("mtdata:Statmt-wmt-21-deu-eng", "en", r"is not known .*; did you mean mtdata:Statmt-wmt-20-deu-eng\?"),
        ("mtdata:anything", "en", r"mtdata:anything: is not known to mtdata"),
        ("mtdata:Statmt-news-1-deu", "en", r"holds texts of one language, not pairs"),
        ("mtdata:Google-smol-1-deu-eng", "en", r"lies on the Hugging Face hub; give hub:org/set with `subset: de-en`$"),
        ("mtdata:Statmt-wmt-20-deu-eng", "fr", r"has no de-fr; it has de-en"),
    ],
)
def test_names_that_name_nothing(command: Sequence[str], name: str, target: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fetched(name, "de", target, command)
    assert not list((cache_folder() / "corpora").glob("*")) if (cache_folder() / "corpora").exists() else True


def test_what_a_server_has_not_is_said_and_nothing_is_left(command: Sequence[str]) -> None:
    with pytest.raises(DataError, match=r"mtdata:Statmt-gone-1-deu-eng: cannot be fetched \(mtdata: http.*answers 404"):
        fetched("mtdata:Statmt-gone-1-deu-eng", "de", "en", command)
    assert not list((cache_folder() / "corpora").iterdir())


def test_without_its_environment_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"opus:TED2020 needs an environment .*`lingraft install mtdata`"):
        next(read_pairs(PairSource(path="opus:TED2020", source="de", target="en")))


def test_prompts_are_no_pairs() -> None:
    with pytest.raises(UsageError, match="opus:TED2020: a parallel corpus holds pairs, not prompts"):
        next(read_prompts(PromptSource(path="opus:TED2020")))


@pytest.mark.parametrize("ends_after", [[], [CHUNK + 10], [CHUNK, 10, CHUNK + 1]])
def test_a_lost_connection_is_gone_on_with(tmp_path: Path, server: str, ends_after: list[int]) -> None:
    Handler.ends_after.extend(ends_after)
    download(f"{server}/long", tmp_path / "it", state := SimpleNamespace(bytes=0, of=0))
    assert (tmp_path / "it").read_bytes() == LONG
    assert (state.bytes, state.of) == (len(LONG), len(LONG))
    kept = [sum(sent // CHUNK * CHUNK for sent in ends_after[:count]) for count in range(len(ends_after) + 1)]
    assert Handler.asked == [f"bytes={start}-" if start else None for start in kept]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_killed_download_goes_on_and_a_strange_beginning_is_thrown_away(tmp_path: Path, server: str) -> None:
    (tmp_path / "text.part").write_bytes(TEXT[:20])
    download(f"{server}/there", tmp_path / "text", SimpleNamespace(bytes=0, of=0))
    (tmp_path / "other.part").write_bytes(b"x" * 1000)
    download(f"{server}/there", tmp_path / "other", SimpleNamespace(bytes=0, of=0))
    assert Handler.asked == ["bytes=20-", "bytes=1000-", None]
    assert (tmp_path / "text").read_bytes() == (tmp_path / "other").read_bytes() == TEXT


@pytest.mark.parametrize("path", ["there", "gone"])
def test_a_server_that_does_not_send_it_all_is_given_up(tmp_path: Path, server: str, path: str) -> None:
    Handler.ends_after.extend([1] * 9)
    with pytest.raises(OSError, match=r"gone answers 404|there cannot be fetched: IncompleteRead"):
        download(f"{server}/{path}", tmp_path / "text", SimpleNamespace(bytes=0, of=0))
    assert len(Handler.asked) == {"there": 5, "gone": 0}[path]
    assert not (tmp_path / "text").exists()
