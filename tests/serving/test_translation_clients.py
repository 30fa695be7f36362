"""Published clients of two translation services, on a server of this machine; skipped where they are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from endpoints import answerer, served
from translation_endpoints import Rule, translations

GERMAN = "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter."


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask this machine without whatever stands between it and others."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def url() -> Iterator[str]:
    with served(answerer(chain=False), translations=translations(Rule()), key="secret") as (address, _):
        yield address


def test_the_client_of_deepl(url: str) -> None:
    deepl = pytest.importorskip("deepl")
    client = deepl.Translator("secret", server_url=url)
    assert client.translate_text("Guten Tag.", source_lang="DE", target_lang="EN-US").text == "GUTEN TAG."
    one, two = client.translate_text([GERMAN, "12"], target_lang="EN-GB", formality="prefer_less", context="A letter.")
    assert (one.text, one.detected_source_lang, one.billed_characters) == (GERMAN.upper(), "DE", len(GERMAN))
    assert two.text == "12"
    page = "<p>Der <b>Vertrag</b> von <x>Meier</x>.</p>"
    found = client.translate_text(page, source_lang="DE", target_lang="EN-US", tag_handling="xml", ignore_tags="x")
    assert found.text == "<p>DER <b>VERTRAG</b> VON <x>Meier</x>.</p>"
    assert [(one.code, one.name) for one in client.get_source_languages()] == [("DE", "German"), ("FR", "French")]
    assert [one.code for one in client.get_target_languages()] == ["EN-GB", "EN-US", "TH"]
    assert ("de", "en") in [(one.source_lang, one.target_lang) for one in client.get_glossary_languages()]
    usage = client.get_usage()
    assert usage.character.count == len("Guten Tag.") + len(GERMAN) + 2 + len(page)
    assert not usage.any_limit_reached


def test_glossaries_of_the_client_of_deepl(url: str) -> None:
    deepl = pytest.importorskip("deepl")
    client = deepl.Translator("secret", server_url=url)
    made = client.create_glossary("house", "DE", "EN", {"Vertrag": "contract", "Haus": "house"})
    csv = client.create_glossary_from_csv("csv", "DE", "EN-US", 'Vertrag,"contract, binding",de,en\n')
    assert (made.entry_count, made.source_lang, made.target_lang, made.ready) == (2, "DE", "EN", True)
    assert {one.glossary_id for one in client.list_glossaries()} == {made.glossary_id, csv.glossary_id}
    assert client.get_glossary(made.glossary_id).name == "house"
    assert client.get_glossary_entries(made) == {"Vertrag": "contract", "Haus": "house"}
    assert client.get_glossary_entries(csv) == {"Vertrag": "contract, binding"}
    client.delete_glossary(made)
    with pytest.raises(deepl.GlossaryNotFoundException):
        client.get_glossary(made.glossary_id)
    with pytest.raises(deepl.DeepLException, match="de-en"):
        client.translate_text("x", source_lang="FR", target_lang="EN-US", glossary=csv.glossary_id)


def test_errors_of_the_client_of_deepl(url: str) -> None:
    deepl = pytest.importorskip("deepl")
    client = deepl.Translator("secret", server_url=url)
    with pytest.raises(deepl.AuthorizationException):
        deepl.Translator("wrong", server_url=url).get_usage()
    with pytest.raises(deepl.DeepLException, match="it-en-US is not translated here"):
        client.translate_text("Ciao.", source_lang="IT", target_lang="EN-US")
    with pytest.raises(deepl.DeepLException, match="formality is not supported"):
        client.translate_text("Ja.", source_lang="DE", target_lang="EN-US", formality="more")


def test_documents_of_the_client_of_deepl(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deepl = pytest.importorskip("deepl")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it looks every five seconds
    client = deepl.Translator("secret", server_url=url)
    client.translate_document_from_filepath(_markdown(tmp_path), tmp_path / "out.md", target_lang="EN-US")
    assert (tmp_path / "out.md").read_text("utf-8") == "# DER *VERTRAG*\n\nER GILT, SIEHE `code`.\n"
    with pytest.raises(deepl.DeepLException, match="of no known format"):
        client.translate_document_upload(b"Ja.", target_lang="EN-US", filename="a.xyz")
    with pytest.raises(deepl.DeepLException, match="no such document"):
        client.translate_document_get_status(deepl.DocumentHandle("no", "no"))


def _markdown(folder: Path) -> Path:
    path = folder / "Übersicht.md"
    path.write_text("# Der *Vertrag*\n\nEr gilt, siehe `code`.\n", "utf-8")
    return path


def test_the_client_of_libretranslate(url: str) -> None:
    libre = pytest.importorskip("libretranslatepy")
    client = libre.LibreTranslateAPI(url, api_key="secret")
    assert client.translate("Zwölf Häuser\nund mehr", "de", "en") == "ZWÖLF HÄUSER\nUND MEHR"
    assert client.detect(GERMAN)[0]["language"] == "de"
    assert {one["code"] for one in client.languages()} == {"de", "fr", "en", "th"}
    with pytest.raises(HTTPError) as refused:
        client.translate("Ciao", "it", "en")
    assert refused.value.code == 400
    with pytest.raises(HTTPError) as unknown:
        libre.LibreTranslateAPI(url, api_key="wrong").translate("Ja", "de", "en")
    assert unknown.value.code == 403


def test_another_client_of_libretranslate(url: str) -> None:
    others = pytest.importorskip("deep_translator")
    client = others.LibreTranslator(source="de", target="en", api_key="secret", custom_url=f"{url}/")
    assert client.translate("Zwölf Häuser & mehr") == "ZWÖLF HÄUSER & MEHR"
    assert client.translate_batch(["Ja", "Nein"]) == ["JA", "NEIN"]
