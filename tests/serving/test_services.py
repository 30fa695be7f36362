"""Several grafts behind the forms of translation services: the one trained for a direction, or the one named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

import lingraft as lg
from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from endpoints import answerer, client, tiny
from lingraft.engines.base import EngineModel
from lingraft.models.graft import Direction, read_info, write_info
from lingraft.serving.document import DocumentService
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from processes import HANGING
from translation_endpoints import Rule, asking_info

GERMAN = "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter."
FRENCH = "Ceci est une phrase tout à fait ordinaire sur le temps qu'il fait."


def service(rule: Rule, *pairs: tuple[str, str]) -> tuple[TranslationService, DocumentService]:
    loaded = tiny()
    texts = TranslationService(Translator(loaded, asking_info(*pairs), None, EngineModel.of(loaded), decoder=rule))
    return texts, DocumentService(texts.translator, texts)


@pytest.fixture
def http() -> Iterator[TestClient]:
    """A graft from German, one from French and German, and their base."""
    texts, documents = service(Rule(lambda text: f"1 {text}"), ("de", "en"))
    beside = {"second": service(Rule(lambda text: f"2 {text}"), ("fr", "en"), ("de", "en"))}
    loaded = tiny()
    of_base = TranslationService(
        Translator(loaded, None, None, EngineModel.of(loaded), decoder=Rule(lambda text: f"0 {text}"))
    )
    beside["base"] = of_base, DocumentService(of_base.translator, of_base)
    with client(answerer(chain=False), translations=texts, documents=documents, translations_beside=beside) as found:
        yield found


def translated(http: TestClient, text: str, **fields: Any) -> Any:
    found = http.post("/v2/translate", json={"text": [text], "target_lang": "EN", **fields})
    return found.json()["translations"][0]["text"] if found.status_code == 200 else found.json()["message"]


def test_the_first_that_was_trained_for_a_direction_translates(http: TestClient) -> None:
    assert translated(http, "Ja.", source_lang="DE") == "1 Ja."
    assert translated(http, "Oui.", source_lang="FR") == "2 Oui."
    assert translated(http, GERMAN) == f"1 {GERMAN}"
    assert translated(http, FRENCH) == f"2 {FRENCH}"
    body = {"q": FRENCH, "source": "auto", "target": "en"}
    assert http.post("/translate", json=body).json()["translatedText"] == f"2 {FRENCH}"
    refused = translated(http, "Ciao.", source_lang="IT")
    assert "it-en is not translated here; what this server has was trained on de-en, fr-en" in refused
    assert [one["code"] for one in http.get("/languages").json()] == ["de", "fr", "en"]


def test_texts_for_different_grafts_are_not_given_to_one(http: TestClient) -> None:
    def sent(*texts: str, **fields: Any) -> Any:
        return http.post("/v2/translate", json={"text": texts, "target_lang": "EN", **fields}).json()

    assert sent(GERMAN, FRENCH)["message"] == (
        "the texts are in de and fr, for which this server has different grafts; send texts of one language at a time, "
        "or name a graft as `lingraft.model`"
    )
    found = sent("Ja.", FRENCH, "12")["translations"]  # the short ones tell nothing
    assert [one["text"] for one in found] == ["2 Ja.", f"2 {FRENCH}", "12"]
    both = sent(GERMAN, FRENCH, lingraft={"model": "second"})["translations"]
    assert [one["detected_source_language"] for one in both] == ["DE", "FR"]


def test_a_client_names_who_is_to_translate(http: TestClient) -> None:
    assert translated(http, "Ja.", source_lang="DE", lingraft={"model": "second"}) == "2 Ja."
    assert translated(http, "Ja.", source_lang="DE", lingraft={"model": "tiny"}) == "1 Ja."
    assert translated(http, "Ciao.", source_lang="IT", lingraft={"model": "base"}) == "0 Ciao."
    body = {"q": "Ja.", "source": "de", "target": "en", "lingraft.model": "second"}
    assert http.post("/translate", data=body).json()["translatedText"] == "2 Ja."
    assert http.post("/translate", json=body).json()["translatedText"] == "2 Ja."
    assert "trained on de-en" in translated(http, "Oui.", source_lang="FR", lingraft={"model": "tiny"})
    assert "has 'tiny', 'second', 'base'" in translated(http, "Ja.", source_lang="DE", lingraft={"model": "third"})


@pytest.mark.parametrize(
    ("path", "fields", "unknown"),
    [
        ("/v2/translate", {"text": ["Ja."], "target_lang": "EN", "lingraft": {"modell": "second"}}, "modell"),
        ("/v2/translate", {"text": ["Ja."], "target_lang": "EN", "lingraft.terms": "Ja = yes"}, "terms"),
        ("/translate", {"q": "Ja.", "source": "de", "target": "en", "lingraft.modell": "second"}, "modell"),
    ],
)
def test_what_is_no_field_of_lingrafts_is_refused(
    http: TestClient, path: str, fields: dict[str, Any], unknown: str
) -> None:
    found = http.post(path, json=fields)
    assert found.status_code == 400
    assert f"lingraft.{unknown}: there is no such field; known: model, partial, rationale" in found.text


def test_what_is_no_field_of_a_documents_request_is_refused(http: TestClient) -> None:
    for path, form in {
        "/v2/document": {"target_lang": "EN"},
        "/translate_file": {"source": "de", "target": "en"},
    }.items():
        files = {"file": ("a.txt", b"Satz.")}
        found = http.post(path, files=files, data={**form, "lingraft.rationale": "true"})
        assert found.status_code == 400, path
        assert "lingraft.rationale: there is no such field; known: model" in found.text


def test_documents_go_the_same_way(http: TestClient) -> None:
    for source, fields, expected in (
        ("FR", {}, "2"),
        ("DE", {}, "1"),
        ("DE", {"lingraft.model": "second"}, "2"),
        ("IT", {"lingraft.model": "base"}, "0"),
    ):
        form = {"source_lang": source, "target_lang": "EN", **fields}
        made = http.post("/v2/document", files={"file": ("a.txt", b"Satz.")}, data=form).json()
        key, end = {"document_key": made["document_key"]}, time.monotonic() + HANGING
        while http.post(f"/v2/document/{made['document_id']}", data=key).json()["status"] != "done":
            assert time.monotonic() < end
            time.sleep(0.01)
        assert http.post(f"/v2/document/{made['document_id']}/result", data=key).text == f"{expected} Satz."


def test_grafts_of_one_base_in_memory_translate_as_each_does_alone(base: Path, tmp_path: Path) -> None:
    """Two random grafts of two directions, served side by side: texts go to each, and a document beside them."""
    grafts = [make_graft(base, tmp_path / name, "direct", seed) for seed, name in enumerate(("one", "two"), start=1)]
    for graft, source in zip(grafts, ("en", "fr"), strict=True):
        info = read_info(graft)
        write_info(graft, info.model_copy(update={"directions": [Direction(source=source, target="th")]}))
    texts = ["How are you?", "Good day."]
    alone = []
    for graft in (*grafts, None):
        model, languages = (None, {}) if graft else (str(base), {"source": "en", "target": "th"})
        with lg.open_graft(graft, model=model, engine="transformers", quiet=True) as opened:
            alone.append([one.text for one in opened.translate(texts, max_new_tokens=8, **languages)])
    assert alone[0] != alone[1] != alone[2] != alone[0]
    until, port = threading.Event(), free_port()
    options = lg.ServeOptions(port=port, beside={"two": grafts[1]}, caps=lg.Caps(8, 8, 8))
    thread = threading.Thread(target=lambda: lg.serve(grafts[0], options=options, until=until, quiet=True))
    thread.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANGING, trust_env=False) as http:
            wait_for(http)
            for source, expected in (("en", alone[0]), ("fr", alone[1]), ("en", alone[0])):
                body = {"q": texts, "source": source, "target": "th", "lingraft": {"partial": True}}
                assert http.post("/translate", json=body).json()["translatedText"] == expected
            body = {**body, "source": "en", "lingraft": {"partial": True, "model": "base"}}
            assert http.post("/translate", json=body).json()["translatedText"] == alone[2]
            form = {"source": "fr", "target": "th"}
            files = {"file": ("a.txt", "\n\n".join(texts).encode())}
            made = http.post("/translate_file", data=form, files=files).json()
            assert made["lingraft"]["segments"] == 2
            assert http.get(made["translatedFileUrl"]).status_code == 200
    finally:
        until.set()
        thread.join(HANGING)
    assert not thread.is_alive()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(http: httpx2.Client) -> None:
    end = time.monotonic() + HANGING
    while True:
        try:
            if http.get("/health").status_code == 200:
                return
        except httpx2.TransportError:
            assert time.monotonic() < end
            time.sleep(0.05)
