"""Documents of clients: every format, both services' forms, what is kept and for how long, what is refused."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient

from document_samples import CASES, Case
from endpoints import tiny
from lingraft.core.errors import EngineError
from lingraft.documents.base import DOCUMENTS, Filled
from lingraft.engines.base import EngineModel
from lingraft.serving import documents as kept
from lingraft.serving.batching import Batching
from lingraft.serving.document import DocumentJob, DocumentOutcome, DocumentService, suffixes
from lingraft.serving.documents import Documents
from lingraft.serving.request import ApiError
from lingraft.serving.rounds import End, Rounds
from lingraft.serving.services import Services
from lingraft.serving.systems import ServedSystem
from lingraft.serving.translation import Outcome, TranslationJob, TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Translation
from processes import HANGING
from translation_endpoints import PAIRS, Rule, asking_info, translating, translations

PAGE = "# Der *Vertrag*\n\nEr gilt, siehe `code`.\n"


def sent(http: TestClient, name: str, data: bytes | str, **fields: Any) -> dict[str, Any]:
    """Send a document in DeepL's form; return its id and key."""
    body = {"source_lang": "DE", "target_lang": "EN", **fields}
    found = http.post("/v2/document", files={"file": (name, data)}, data=body)
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def status(http: TestClient, document: dict[str, Any]) -> dict[str, Any]:
    found = http.post(f"/v2/document/{document['document_id']}", data={"document_key": document["document_key"]})
    assert found.status_code == 200, found.text
    told: dict[str, Any] = found.json()
    return told


def ended(http: TestClient, document: dict[str, Any]) -> dict[str, Any]:
    """Ask for a document's state until it has one that lasts."""
    end = time.monotonic() + HANGING
    while (told := status(http, document))["status"] in ("queued", "translating"):
        assert time.monotonic() < end
        time.sleep(0.01)
    return told


def result(http: TestClient, document: dict[str, Any]) -> Any:
    key = {"document_key": document["document_key"]}
    return http.post(f"/v2/document/{document['document_id']}/result", json=key)


def capitals(text: str) -> str:
    """A translation that keeps inline codes, placeholders and addresses."""
    parts = re.split(r"(</?\d+/?>|\{\w*\}|%\w|%\(\w+\)\w|https?://\S+|\S+@\S+|&\w+;)", text)
    return "".join(part if number % 2 else part.upper() for number, part in enumerate(parts))


@pytest.mark.parametrize("case", [one for one in CASES if not one.params], ids=lambda one: f"{one.format}-{one.name}")
def test_each_format_comes_back_with_its_structure(case: Case) -> None:
    kind = DOCUMENTS.create({"kind": case.format})
    read = kind.parse(case.data, "the file", "de", "en")
    with translating(translations(Rule(capitals))) as http:
        document = sent(http, f"file{kind.suffixes[0]}", case.data)
        told = ended(http, document)
        assert told["status"] == "done", told
        data = result(http, document).content
    assert told["lingraft"] == {"segments": len(case.texts), "lost": 0}
    assert told["billed_characters"] == sum(map(len, case.texts))
    assert data == read.written({one.id: Filled(capitals(one.text)) for one in read.segments})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("Eins\nzwei.\n\n12\nDrei.\n", "EINS\nZWEI.\n\n12\nDREI.\n"),
        ("Eins.\r\n\r\nZwei.", "EINS.\r\n\r\nZWEI."),
        (b"\xff\xfe" + "Grüße.".encode("utf-16-le"), b"\xff\xfe" + "GRÜSSE.".encode("utf-16-le")),
    ],
)
def test_plain_text_keeps_its_lines_and_its_encoding(data: Any, expected: Any) -> None:
    with translating(translations(Rule())) as http:
        document = sent(http, "brief.txt", data)
        assert ended(http, document)["status"] == "done"
        assert result(http, document).content == (expected if isinstance(expected, bytes) else expected.encode())


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="file"; filename="brief.md"', "brief.en.md"),
        ("form-data; name=file; filename=brief.md", "brief.en.md"),
        ("form-data;filename=brief.md;name=file", "brief.en.md"),
        ("form-data; name=\"file\"; filename*=UTF-8''%C3%9Cbersicht.md", "Übersicht.en.md"),
        ('form-data; name="file"; filename="x.txt"; filename*=iso-8859-1\'de\'%DCbersicht.md', "Übersicht.en.md"),
        ('form-data; name="file"; filename="C:\\Texte\\der \\"neue\\".md"', 'der "neue".en.md'),
        ('form-data; name="file"; filename="a; name=b.md"', "a; name=b.en.md"),
        ('form-data; name="file"; filename="brief.md', "brief.en.md"),
    ],
)
def test_names_of_files_are_read_however_clients_write_them(disposition: str, name: str) -> None:
    fields = "".join(
        f"--x\r\ncontent-disposition: form-data; name={key}\r\n\r\n{value}\r\n"
        for key, value in {"source": "de", "target": "en"}.items()
    )
    head = f"--x\r\nContent-Type: text/plain\r\nContent-Disposition: {disposition}"
    body = f"{fields}{head}\r\n\r\nJa.\r\n--x--\r\n".encode()
    with translating(translations(Rule())) as http:
        sent_ = http.post("/translate_file", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert sent_.status_code == 200, sent_.text
        file = http.get(sent_.json()["translatedFileUrl"])
    assert unquote(file.headers["content-disposition"]) == f"attachment; filename*=UTF-8''{name}"


def test_libretranslate_gives_an_address_from_which_no_browser_runs_anything() -> None:
    page = b"<p>Der <b>Vertrag</b></p><script>alert(1)</script>"
    with translating(translations(Rule()), key="secret") as http:
        fields = {"source": "auto", "target": "en", "api_key": "secret"}
        sent_ = http.post("/translate_file", files={"file": ("Übersicht.html", page)}, data=fields)
        found = sent_.json()
        assert found["lingraft"] == {"segments": 1, "lost": 0}
        assert found["detectedLanguage"]["language"] == "de"
        address = found["translatedFileUrl"]
        assert address.startswith("http://127.0.0.1/download_file/")
        file = http.get(address)
        assert http.get(f"{address[:-1]}x").status_code == 404
        assert http.post("/translate_file", files={"file": ("a.md", b"Ja")}, data={"source": "de"}).status_code == 403
        settings = http.get("/frontend/settings").json()
    assert file.content == b"<p>DER <b>VERTRAG</b></p><script>alert(1)</script>"
    assert file.headers["content-type"] == "application/octet-stream"
    assert unquote(file.headers["content-disposition"]) == "attachment; filename*=UTF-8''Übersicht.en.html"
    assert "sandbox" in file.headers["content-security-policy"]
    assert file.headers["x-content-type-options"] == "nosniff"
    assert set(settings["supportedFilesFormat"]) == set(suffixes()) >= {".txt", ".md", ".docx", ".srt", ".po", ".xliff"}


def test_terms_of_a_glossary_reach_a_document() -> None:
    house = {"name": "House", "source_lang": "DE", "target_lang": "EN", "entries": "Vertrag\tcontract"}
    service = translations()
    asked: list[Any] = []
    decoders = service.translator.with_terms

    def with_terms(glossary: Any) -> Any:
        asked.append(glossary)
        return decoders(None) if glossary is None else Rule()

    service.translator.with_terms = with_terms  # type: ignore[method-assign]
    with translating(service) as http:
        made = http.post("/v2/glossaries", json=house).json()["glossary_id"]
        document = sent(http, "a.md", PAGE, glossary_id=made)
        assert ended(http, document)["status"] == "done"
    assert {term.target for glossary in asked for term in glossary.terms} == {"contract"}


def test_what_no_translation_keeps_is_left_and_counted() -> None:
    rule = Rule(lambda text: "nothing" if "<1>" in text else text.upper())
    with translating(translations(rule)) as http:
        document = sent(http, "a.md", "Ein *Wort*\n\nZwei\n\nDrei [Link](http://x.de) vier\n")
        told = ended(http, document)
        text = result(http, document).text
    assert told["lingraft"]["segments"] == 3
    assert "ZWEI" in text
    assert "http://x.de" in text


def test_an_answer_that_fails_ends_the_document_with_its_reason() -> None:
    def fails(text: str) -> Translation:
        raise EngineError("the step failed")

    with translating(translations(Rule(fails))) as http:
        document = sent(http, "a.md", PAGE)
        told = ended(http, document)
        got = result(http, document)
    assert told["status"] == "error"
    assert "was not answered" in told["error_message"]
    assert (got.status_code, got.json()["detail"]) == (500, "decoder_failed")


@pytest.fixture
def held() -> Iterator[tuple[Rule, threading.Event]]:
    """A rule that waits for a word."""
    go = threading.Event()

    def waits(text: str) -> str:
        assert go.wait(HANGING)
        return text.upper()

    yield Rule(waits), go
    go.set()


def test_it_is_fetched_when_it_is_done_and_with_its_key_alone(held: tuple[Rule, threading.Event]) -> None:
    rule, go = held
    with translating(translations(rule)) as http:
        document = sent(http, "a.md", PAGE)
        other = {**document, "document_key": "0" * 64}
        assert status(http, document)["status"] in ("queued", "translating")
        assert result(http, document).status_code == 503
        assert result(http, other).status_code == 404
        go.set()
        assert ended(http, document)["status"] == "done"
        assert result(http, other).status_code == 404
        for _ in range(2):  # a download that broke off can be made again
            assert result(http, document).text == "# DER *VERTRAG*\n\nER GILT, SIEHE `code`.\n"


def test_texts_do_not_wait_for_a_document(held: tuple[Rule, threading.Event]) -> None:
    """Each with an engine of its own, as `lingraft serve` has them, and one model in memory."""
    rule, go = held
    loaded = tiny()
    system = ServedSystem("tiny", loaded, None, asking_info(*PAIRS))
    batching = Batching.of([system], 8, 4096, base_too=False)
    rounds = Rounds(batching.step)
    parts = (loaded, system.info, None, EngineModel.of(loaded))
    one, other = (batching.answering(system, rounds.wake)() for _ in range(2))
    texts = TranslationService(Translator(*parts, decoder=Rule(), engine=one))
    documents = DocumentService(Translator(*parts, decoder=rule, engine=other), texts)
    found: list[Any] = []
    try:
        document = documents.prepare(DocumentJob(name="a.md", data=PAGE.encode(), source="de", target="en"))
        rounds.begin(documents.work(document), found.append, threading.Event())
        until(lambda: document.begun)
        job = texts.prepare(TranslationJob(texts=("Ja.",), source="de", target="en"))
        rounds.begin(texts.work(job), found.append, threading.Event())
        until(lambda: any(isinstance(item, Outcome) for item in found))
        assert not any(isinstance(item, DocumentOutcome) for item in found)
        go.set()
        until(lambda: sum(isinstance(item, End) for item in found) == 2)
    finally:
        go.set()
        rounds.close()
        batching.close()
    (made,) = (item for item in found if isinstance(item, DocumentOutcome))
    assert made.data.decode() == "# DER *VERTRAG*\n\nER GILT, SIEHE `code`.\n"


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGING
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


REFUSED: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "no format": ("a.xyz", b"Ja", {}, 400, "of no known format; its name ends with one of"),
    "needs a column": ("a.csv", b"id,text\n1,Ja\n", {}, 400, "of no known format"),
    "no suffix": ("README", b"Ja", {}, 400, "of no known format"),
    "not of its format": ("a.json", b"{", {}, 400, "the file"),
    "no zip": ("a.docx", b"PK nothing", {}, 400, "the file"),
    "no text": ("a.txt", b"a\0b", {}, 400, "is no text"),
    "nothing to translate": ("a.md", b"12\n", {}, 400, "holds no text to translate"),
    "empty": ("a.md", b" \n", {}, 400, "the file is empty"),
    "direction": ("a.md", b"Ciao", {"source_lang": "IT"}, 400, "is not translated here"),
    "another format": ("a.md", b"Ja", {"output_format": "docx"}, 400, "keeps its format"),
    "no target": ("a.md", b"Ja", {"target_lang": ""}, 400, "Parameter 'target_lang' not specified"),
    "formality": ("a.md", b"Ja", {"formality": "more"}, 400, "formality is not supported"),
    "too long": ("a.txt", b"wort " * 200_000, {}, 413, "more than"),
    "too large for text": ("a.txt", b"." * 2_097_153, {}, 413, "a plain text may have 2,097,152 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_translated_is_refused_at_once(case: str) -> None:
    name, data, fields, code, words = REFUSED[case]
    with translating(translations(Rule())) as http:
        body = {"source_lang": "DE", "target_lang": "EN", **fields}
        found = http.post("/v2/document", files={"file": (name, data)}, data=body)
    assert found.status_code == code, found.text
    assert words in found.json()["message"]


def test_forms_without_a_file_or_with_several_are_refused() -> None:
    with translating(translations(Rule())) as http:
        body = {"source_lang": "DE", "target_lang": "EN"}
        assert "send the file in a form" in http.post("/v2/document", data=body).json()["message"]
        two = [("file", ("a.md", b"Ja")), ("file", ("b.md", b"Ja"))]
        assert "2 files" in http.post("/v2/document", files=two, data=body).json()["message"]
        elsewhere = {"origin": "https://evil.example"}
        found = http.post("/v2/document", files=two[:1], data=body, headers=elsewhere)
        assert found.status_code == 403
        large = http.post("/v2/document", files={"file": ("a.md", b"x" * (17 << 20))}, data=body)
        assert large.status_code == 413


def test_what_is_kept_is_bounded_in_number_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    texts = translations(Rule())
    service = DocumentService(texts.translator, texts)
    held = Documents(Services({"tiny": service}), clock=lambda: now)
    monkeypatch.setattr(kept, "MOST", 3)

    def made(data: bytes) -> Any:
        prepared = service.prepare(DocumentJob(name="a.md", data=data, source="de", target="en"))
        return held.keep(prepared, DocumentOutcome(data=data, segments=(), source="de", read=0))

    ids = [made(b"Satz %d" % number).id for number in range(4)]
    with pytest.raises(ApiError, match="no such document"):
        held.get(ids[0])
    assert [held.get(one).id for one in ids[1:]] == ids[1:]
    monkeypatch.setattr(kept, "MOST_KEPT", 600)
    last = made(b"Wort " * 50)
    assert held.get(last.id) is last
    assert sum(one.size for one in held._held.values()) <= 600
    assert last.prepared is None  # what it was made of is let go
    now = kept.KEPT - 1
    assert held.get(last.id) is last
    now = kept.KEPT
    with pytest.raises(ApiError, match="is kept no longer"):
        held.get(last.id)


def test_what_is_being_translated_gives_way_to_nothing(
    held: tuple[Rule, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, go = held
    monkeypatch.setattr(kept, "MOST", 2)
    with translating(translations(rule)) as http:
        two = [sent(http, "a.md", PAGE) for _ in range(2)]
        body = {"source_lang": "DE", "target_lang": "EN"}
        third = http.post("/v2/document", files={"file": ("c.md", PAGE)}, data=body)
        assert (third.status_code, third.json()["detail"]) == (503, "busy")
        assert int(third.headers["retry-after"]) > 0
        go.set()
        assert [ended(http, one)["status"] for one in two] == ["done", "done"]
        three = sent(http, "c.md", PAGE)
        assert ended(http, three)["status"] == "done"
        assert result(http, two[0]).status_code == 404
        assert result(http, two[1]).status_code == 200
