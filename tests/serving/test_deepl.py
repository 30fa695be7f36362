"""Translations in DeepL's form: fields and their refusals, tags, glossaries, languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from endpoints import tiny
from lingraft.core.errors import DataError
from lingraft.data.records import Sampling
from lingraft.decoders.glossary import LISTED
from lingraft.engines.transformers import TransformersEngine
from lingraft.serving import glossaries
from lingraft.serving.glossaries import Glossaries
from lingraft.translation.direct import Source, extract, requests
from lingraft.translation.wording import DEFAULT, TranslationSystem
from translation_endpoints import PAIRS, Rule, asking_info, translating, translations

HOUSE = {"name": "House", "source_lang": "DE", "target_lang": "EN", "entries": "Vertrag\tcontract\nHaus\thouse"}


def translated(http: TestClient, text: Any, **fields: Any) -> list[str]:
    body = {"text": text if isinstance(text, list) else [text], "source_lang": "DE", "target_lang": "EN-US", **fields}
    found = http.post("/v2/translate", json=body)
    assert found.status_code == 200, found.text
    return [one["text"] for one in found.json()["translations"]]


def test_texts_come_back_with_their_language_and_characters() -> None:
    with translating() as http:
        found = http.post("/v2/translate", json={"text": ["Guten Tag.", "Ja."], "target_lang": "EN-GB"})
        form = http.post(
            "/v2/translate", data={"text": ["Guten Tag.", "Ja."], "target_lang": "en", "source_lang": "de"}
        )
        usage = http.get("/v2/usage").json()
    assert found.json()["translations"] == [
        {"detected_source_language": "DE", "text": "GUTEN TAG.", "billed_characters": 10},
        {"detected_source_language": "DE", "text": "JA.", "billed_characters": 3},
    ]
    assert form.json() == found.json()
    assert usage["character_count"] == 26
    assert usage["character_limit"] > 10**9


def test_lines_are_asked_for_as_split_sentences_says() -> None:
    text = "Eins zwei.\nDrei.\n\nVier."
    for split, expected in (
        (None, ["Eins zwei.", "Drei.", "Vier."]),
        ("1", ["Eins zwei.", "Drei.", "Vier."]),
        ("0", [text]),
        (0, [text]),
        ("nonewlines", ["Eins zwei.\nDrei.", "Vier."]),
    ):
        rule = Rule()
        with translating(translations(rule)) as http:
            fields = {} if split is None else {"split_sentences": split}
            assert translated(http, text, **fields) == [text.upper()]
        assert [one.text for one in rule.asked] == expected


def test_a_line_stays_a_line() -> None:
    with translating(translations(Rule(lambda text: f"{text}\n\nand\nmore"))) as http:
        assert translated(http, "Eins.\nZwei.") == ["Eins. and more\nZwei. and more"]


def test_tags_are_handled_as_xml_or_html() -> None:
    with translating() as http:
        xml = "<doc><t>Der Titel</t><p>Ein <x id='1'/>Wort &amp; <k>Name</k>.</p></doc>"
        assert translated(http, xml, tag_handling="xml", ignore_tags=["k"]) == [
            "<doc><t>DER TITEL</t><p>EIN <x id='1'/>WORT &amp; <k>Name</k>.</p></doc>"
        ]
        assert translated(http, "<p>Ein <b>Wort</b>", tag_handling="html") == ["<p>EIN <b>WORT</b>"]
        assert translated(http, "a <b> c") == ["A <B> C"]
        form = {
            "text": "a <k>b</k>",
            "target_lang": "EN",
            "source_lang": "DE",
            "tag_handling": "xml",
            "ignore_tags": "k,l",
        }
        assert http.post("/v2/translate", data=form).json()["translations"][0]["text"] == "A <k>b</k>"
        broken = http.post("/v2/translate", json={"text": ["<a>", "x"], "target_lang": "EN", "tag_handling": "xml"})
    assert broken.status_code == 400
    assert "text 1" in broken.json()["message"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"text": None}, "'text'"),
        ({"target_lang": None}, "'target_lang'"),
        ({"target_lang": "EN"} | {"source_lang": "IT"}, "it-en"),
        ({"formality": "more"}, "formality"),
        ({"tag_handling": "sgml"}, "tag_handling"),
        ({"split_sentences": "2"}, "split_sentences"),
        ({"style_id": "x"}, "style_id"),
        ({"custom_instructions": ["be nice"]}, "custom_instructions"),
        ({"translation_memory_id": "x"}, "translation_memory_id"),
        ({"glossary_id": "x"}, "glossary"),
        ({"glossary_id": "x", "source_lang": None}, "source_lang"),
        ({"text": [1]}, "text"),
    ],
)
def test_what_is_not_understood_or_supported_is_refused_in_the_form_of_the_service(
    fields: dict[str, Any], word: str
) -> None:
    body = {"text": ["Ja."], "source_lang": "DE", "target_lang": "EN", **fields}
    with translating() as http:
        found = http.post("/v2/translate", json={key: value for key, value in body.items() if value is not None})
    assert found.status_code == (404 if fields == {"glossary_id": "x"} else 400)
    assert word in found.json()["message"]


def test_what_changes_nothing_is_taken() -> None:
    with translating() as http:
        fields = {"formality": "prefer_more", "context": "A letter.", "model_type": "quality_optimized"}
        assert translated(http, "Ja.", preserve_formatting=True, show_billed_characters=True, **fields) == ["JA."]


def test_the_key_is_deepls() -> None:
    with translating(key="secret") as http:
        body = {"text": ["Ja."], "source_lang": "DE", "target_lang": "EN"}
        assert http.post("/v2/translate", json=body).status_code == 403
        assert http.get("/v2/languages").status_code == 403
        for headers in ({"Authorization": "DeepL-Auth-Key secret"}, {"Authorization": "Bearer secret"}):
            assert http.post("/v2/translate", json=body, headers=headers).status_code == 200
        assert http.post("/v2/translate", data={**body, "auth_key": "secret"}).status_code == 200


def test_languages_are_told_as_clients_want_them() -> None:
    with translating() as http:
        sources = http.get("/v2/languages").json()
        targets = http.request("GET", "/v2/languages", data={"type": "target"}).json()
        pairs = http.get("/v2/glossary-language-pairs").json()
    assert sources == [{"language": "DE", "name": "German"}, {"language": "FR", "name": "French"}]
    assert [one["language"] for one in targets] == ["EN-GB", "EN-US", "TH"]
    assert {"source_lang": "de", "target_lang": "th"} in pairs["supported_languages"]


def test_a_glossary_is_kept_told_used_and_deleted(tmp_path: Path) -> None:
    known = Glossaries(tmp_path / "kept")
    with translating(glossaries=known) as http:
        made = http.post("/v2/glossaries", json={**HOUSE, "entries_format": "tsv"})
        id_ = made.json()["glossary_id"]
        listed = http.get("/v2/glossaries").json()["glossaries"]
        told = http.get(f"/v2/glossaries/{id_}").json()
        entries = http.get(f"/v2/glossaries/{id_}/entries")
        again = [one.to_dict() for one in Glossaries(tmp_path / "kept")]
        other = http.post(
            "/v2/translate", json={"text": ["x"], "source_lang": "FR", "target_lang": "EN", "glossary_id": id_}
        )
        gone = http.delete(f"/v2/glossaries/{id_}")
        missing = http.get(f"/v2/glossaries/{id_}")
    assert made.status_code == 201
    assert listed == [told] == [made.json()]
    assert (told["source_lang"], told["target_lang"], told["entry_count"], told["ready"]) == ("de", "en", 2, True)
    assert entries.text == HOUSE["entries"]
    assert entries.headers["content-type"].startswith("text/tab-separated-values")
    assert [one["id"] for one in again] == [id_]
    assert other.status_code == 400
    assert "de-en" in other.json()["message"]
    assert (gone.status_code, missing.status_code) == (204, 404)
    assert list((tmp_path / "kept").iterdir()) == []


def test_terms_of_a_glossary_stand_in_the_request() -> None:
    with translating(translations(info=asking_info(*PAIRS), most=12)) as http:
        id_ = http.post("/v2/glossaries", json=HOUSE).json()["glossary_id"]
        wish = {"lingraft": {"partial": True}}
        with_terms = translated(http, "Das ist der Vertrag.", glossary_id=id_, **wish)
        several = translated(http, "Das ist der Vertrag.", glossary_ids=[id_], **wish)
    wording = LISTED.format(terms="Vertrag = contract") + "\n\n" + DEFAULT
    source = Source("s", "Das ist der Vertrag.", "de", "en")
    (answer,) = TransformersEngine(tiny()).generate(requests([source], TranslationSystem(wording), Sampling(12)))
    assert with_terms == several == [" ".join(extract(source, answer).text.split("\n"))]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": ""}, "name"),
        ({"entries": ""}, "entries"),
        ({"entries": "a"}, "line 1"),
        ({"entries": "a\tb\nA\tc"}, "line 2"),
        ({"entries": "a\tb\tc"}, "line 1"),
        ({"entries": "a\t" + "b" * 500}, "line 1"),
        ({"entries": 'a,"b', "entries_format": "csv"}, "CSV"),
        ({"entries_format": "xlsx"}, "tsv or csv"),
        ({"target_lang": "DE-AT"}, "same"),
        ({"source_lang": "klingonisch"}, "klingonisch"),
        ({"source_lang": ""}, "source_lang"),
    ],
)
def test_what_is_no_glossary_is_refused(fields: dict[str, str], word: str) -> None:
    with translating() as http:
        found = http.post("/v2/glossaries", json={**HOUSE, **fields})
        assert http.get("/v2/glossaries").json() == {"glossaries": []}
    assert found.status_code == 400
    assert word in found.json()["message"]


def test_glossaries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glossaries, "MOST", 2)
    with translating() as http:
        assert [http.post("/v2/glossaries", json=HOUSE).status_code for _ in range(3)] == [201, 201, 413]
        csv = {**HOUSE, "entries": '"a, b",c,de,en\n', "entries_format": "csv"}
        assert http.post("/v2/glossaries", json=csv).status_code == 413


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"schema": glossaries.SCHEMA, "id": "x"})])
def test_a_damaged_glossary_is_named_before_the_server_begins(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"x\.json is no glossary"):
        Glossaries(tmp_path)


def test_a_rationale_is_told_apart_where_it_is_asked_for() -> None:
    info = asking_info(*PAIRS, stop=("K",))
    with translating(translations(info=info, most=40)) as http:
        wish: dict[str, Any] = {"text": ["Guten Tag."], "source_lang": "DE", "target_lang": "EN"}
        shown = http.post("/v2/translate", json={**wish, "lingraft": {"partial": True}}).json()["translations"][0]
        wish["lingraft"] = {"partial": True, "rationale": True}
        asked = http.post("/v2/translate", json=wish).json()["translations"][0]
    source = Source("s", "Guten Tag.", "de", "en")
    (answer,) = TransformersEngine(tiny()).generate(requests([source], TranslationSystem(DEFAULT), Sampling(40)))
    assert "K" in answer.text
    assert "K" not in shown["text"]
    assert "rationale" not in shown.get("lingraft", {})
    assert asked["text"] == shown["text"]
    assert asked["lingraft"]["rationale"] == answer.text[answer.text.index("K") :].strip()
