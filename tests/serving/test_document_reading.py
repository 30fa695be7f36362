"""Documents that take too long to read: they end by themselves, and stop nobody."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable

import pytest

from lingraft.documents.base import DOCUMENTS, Filled
from lingraft.serving import document_reading
from lingraft.serving.bridge import Left
from lingraft.serving.document_reading import ReadDocument, read_document
from lingraft.serving.request import ApiError
from translation_endpoints import Rule, translating, translations

UNCLOSED = b"<a " * 400_000
"""What Python's parser of HTML reads anew from each of its letters: some minutes."""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_reading, "SECONDS", 1.0)
    monkeypatch.setattr(document_reading, "SECONDS_PER_MIB", 0.0)


@pytest.mark.usefixtures("soon")
def test_a_file_that_takes_too_long_is_refused_and_the_next_one_translated() -> None:
    body = {"source": "de", "target": "en"}
    with translating(translations(Rule())) as http:
        found = http.post("/translate_file", files={"file": ("a.html", UNCLOSED)}, data=body)
        assert found.status_code == 413
        assert found.json()["error"] == (
            "reading the file took more than 1 seconds of processor time; send it in pieces"
        )
        found = http.post("/translate_file", files={"file": ("a.html", b"<p>Ja</p>")}, data=body)
        assert found.status_code == 200


@pytest.mark.usefixtures("soon")
def test_a_server_that_ends_waits_for_no_file() -> None:
    with pytest.raises(ApiError, match="is being shut down"):
        read_document("html", UNCLOSED, "de", "en", lambda: True)


@pytest.mark.usefixtures("soon")
def test_checking_a_translation_is_bounded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    page = read_document("markdown", b"Ja *sehr*.\n", "de", "en")
    (one,) = page.segments
    assert page.spoiling({one.id: Filled("Yes <1>very</1>.")}) == []
    assert page.written({one.id: Filled("Yes <1>very</1>.")}) == b"Yes *very*.\n"
    slow = ReadDocument([], ("html", UNCLOSED, "de", "en"))
    monkeypatch.setattr(document_reading, "CHECKS", 1)
    with pytest.raises(ApiError, match="putting the translations into the file took more than 1 seconds"):
        slow.spoiling({})
    slow.left = lambda: True
    with pytest.raises(Left):
        slow.written({})


def _word(runs: int) -> bytes:
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    text = "<w:r><w:t>a</w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>b</w:t></w:r>" * runs
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        made = f'<w:document xmlns:w="{name}"><w:body><w:p>{text}</w:p></w:body></w:document>'
        package.writestr("word/document.xml", made)
    return out.getvalue()


LARGE: dict[str, Callable[[int], bytes]] = {
    "docx": _word,
    "html": lambda n: b"<p>Hallo <b>Welt</b> &amp; du " * n,
    "markdown": lambda n: b"|" + b"a|" * n + b"\n|" + b"-|" * n + b"\n|" + b"bc|" * n + b"\n",
    "po": lambda n: "".join(f'msgid "Wort {i}"\nmsgstr ""\n\n' for i in range(n)).encode(),
}


@pytest.mark.parametrize("format_", LARGE)
def test_twelve_times_the_file_takes_no_fifty_times_the_time(format_: str) -> None:
    kind, made = DOCUMENTS.create({"kind": format_}), LARGE[format_]

    def seconds(size: int) -> float:
        data, taken = made(size), list[float]()
        for _ in range(3):
            began = time.process_time()
            kind.parse(data, "the file", "de", "en")
            taken.append(time.process_time() - began)
        return min(taken)

    seconds(10)  # what is imported
    assert seconds(12_000) < 50 * seconds(1_000)
