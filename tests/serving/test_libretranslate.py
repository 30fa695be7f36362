"""Translations in LibreTranslate's form: what is asked for, in which bodies, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from endpoints import tiny
from lingraft.data.records import Sampling
from lingraft.engines.transformers import TransformersEngine
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Source, Translation, extract, requests
from translation_endpoints import PAIRS, Rule, asking_info, translating, translations

GERMAN = "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter."
FRENCH = "Ceci est une phrase française tout à fait ordinaire sur le temps."


def test_a_text_and_a_list_of_texts_come_back_as_they_were_sent() -> None:
    with translating() as http:
        one = http.post("/translate", json={"q": "Guten Tag.", "source": "de", "target": "en"})
        many = http.post("/translate", json={"q": ["Guten Tag.", "Ja.", "Ja."], "source": "de", "target": "en"})
        alone = http.post("/translate", json={"q": ["Ja."], "source": "de", "target": "en"})
    assert one.status_code == 200
    assert one.json() == {"translatedText": "GUTEN TAG."}
    assert many.json() == {"translatedText": ["GUTEN TAG.", "JA.", "JA."]}
    assert alone.json() == {"translatedText": ["JA."]}


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"q": "Zwölf", "source": "de", "target": "en"}},
        {"params": {"q": "Zwölf", "source": "de", "target": "en"}},
        {"files": {"q": (None, "Zwölf"), "source": (None, "de"), "target": (None, "en")}},
    ],
    ids=["form", "address", "parts"],
)
def test_forms_are_read_as_json_is(sent: dict[str, Any]) -> None:
    with translating() as http:
        assert http.post("/translate", **sent).json() == {"translatedText": "ZWÖLF"}
        several = http.post("/translate", data={"q": ["a", "b"], "source": "de", "target": "en"})
    assert several.json() == {"translatedText": ["A", "B"]}


def test_paragraphs_are_asked_for_one_by_one_and_numbers_white_space_and_line_ends_stay() -> None:
    rule = Rule()
    text = "  Guten Tag,\r\nliebe Leute.\r\n\r\n12:30\r\n\r\nTschüss.\r\n"
    with translating(translations(rule)) as http:
        found = http.post("/translate", json={"q": text, "source": "de", "target": "en"}).json()
    assert found == {"translatedText": "  GUTEN TAG,\r\nLIEBE LEUTE.\r\n\r\n12:30\r\n\r\nTSCHÜSS.\r\n"}
    assert [one.text for one in rule.asked] == ["Guten Tag,\nliebe Leute.", "Tschüss."]


@pytest.mark.parametrize("text", ["", " ", " \r\n\r\n", "12", " 12:30 \n", "…"])
@pytest.mark.parametrize("kind", ["text", "html"])
def test_a_text_without_a_letter_comes_back_as_it_is_and_asks_nothing(text: str, kind: str) -> None:
    rule = Rule()
    with translating(translations(rule)) as http:
        body = {"q": [text], "source": "auto", "target": "en", "format": kind}
        assert http.post("/translate", json=body).json()["translatedText"] == [text]
    assert rule.asked == []


def test_the_language_is_told_text_by_text() -> None:
    rule = Rule()
    with translating(translations(rule)) as http:
        found = http.post("/translate", json={"q": [FRENCH, GERMAN], "source": "auto", "target": "en"}).json()
        single = http.post("/translate", json={"q": GERMAN, "source": "auto", "target": "en"}).json()
        detected = http.post("/detect", data={"q": FRENCH}).json()
        nothing = http.post("/detect", json={"q": "12"}).json()
    assert [one["language"] for one in found["detectedLanguage"]] == ["fr", "de"]
    assert single["detectedLanguage"]["language"] == "de"
    assert 50 < single["detectedLanguage"]["confidence"] <= 100
    assert [one.source_lang for one in rule.asked[:2]] == ["fr", "de"]
    assert detected[0]["language"] == "fr"
    assert nothing == []


def test_tags_stay_where_the_model_put_them_and_where_it_lost_them() -> None:
    page = '<p>Ein <b>fettes</b> Wort &amp; <a href="x?a=1&amp;b=2">mehr</a>.</p><pre>x = 1</pre>'
    for of, told in ((str.upper, "kept"), (lambda text: text.upper().replace("<1>", ""), "apart")):
        with translating(translations(Rule(of))) as http:
            found = http.post("/translate", json={"q": page, "source": "de", "target": "en", "format": "html"}).json()
        made = '<p>EIN <b>FETTES</b> WORT &amp; <a href="x?a=1&amp;b=2">MEHR</a>.</p><pre>x = 1</pre>'
        assert found == {"translatedText": made, "lingraft": {"tags": told}}


def test_where_a_text_with_tags_runs_away_the_texts_between_them_are_asked_for() -> None:
    def of(text: str) -> str | Translation:
        return Translation("", "<1>x</1> y" * 9, 9, "unfinished") if "<1>" in text else text.upper()

    body = {"q": "<p>Ein <b>Wort</b></p>", "source": "de", "target": "en", "format": "html"}
    with translating(translations(Rule(of))) as http:
        found = http.post("/translate", json=body).json()
    assert found == {"translatedText": "<p>EIN <b>WORT</b></p>", "lingraft": {"tags": "apart"}}


def test_languages_are_those_of_the_graft_and_others_are_refused() -> None:
    with translating() as http:
        languages = {one["code"]: one for one in http.get("/languages").json()}
        other = http.post("/translate", json={"q": "Hello.", "source": "en", "target": "de"})
        unknown = http.post("/translate", json={"q": "Hello.", "source": "auto", "target": "xx-klingon"})
        region = http.post("/translate", json={"q": "Ja.", "source": "de-AT", "target": "en-US"})
        settings = http.get("/frontend/settings").json()
    assert languages["de"] == {"code": "de", "name": "German", "targets": ["en", "th"]}
    assert languages["en"] == {"code": "en", "name": "English", "targets": []}
    assert {*languages} == {"de", "fr", "en", "th"}
    assert other.status_code == unknown.status_code == 400
    assert {*other.json()} == {"error"}
    assert "de-en, fr-en, de-th" in other.json()["error"]
    assert "xx-klingon" in unknown.json()["error"]
    assert region.json() == {"translatedText": "JA."}
    assert settings["language"]["target"]["code"] == "en"
    assert settings["keyRequired"] is False


def test_a_base_translates_between_any_two_languages() -> None:
    rule = Rule()
    service = TranslationService(Translator(tiny(), None, None, translations().translator._base, decoder=rule))
    with translating(service) as http:
        found = http.post("/translate", json={"q": FRENCH, "source": "auto", "target": "pt-BR"})
        same = http.post("/translate", json={"q": "a", "source": "de", "target": "de"})
        offered = http.get("/languages").json()
    assert found.json()["translatedText"] == FRENCH.upper()
    assert (rule.asked[0].source_lang, rule.asked[0].target_lang) == ("fr", "pt-BR")
    assert same.status_code == 400
    assert len(offered) > 20


def test_what_a_graft_translates_is_what_the_engine_translates_in_its_wording() -> None:
    info = asking_info(*PAIRS, instruction="{source_name} > {target_name}: {source}", stop=("\n\nNote:",))
    with translating(translations(info=info, most=12)) as http:
        body = {"q": "Guten Tag.", "source": "de", "target": "en", "lingraft": {"partial": True}}
        found = http.post("/translate", json=body)
    source = Source("s", "Guten Tag.", "de", "en")
    (answer,) = TransformersEngine(tiny()).generate(requests([source], info.translating, Sampling(12)))
    expected = extract(source, answer, info.translating.stop)
    assert found.json()["translatedText"] == " ".join(expected.text.split("\n")) != ""


def test_alternatives_are_others_than_the_translation() -> None:
    with translating(translations(most=12)) as http:
        body = {"q": ["Guten Tag."], "source": "de", "target": "en", "alternatives": 3, "lingraft": {"partial": True}}
        found = http.post("/translate", json=body).json()
        again = http.post("/translate", json=body).json()
        many = http.post("/translate", json={**body, "alternatives": 100})
    assert found == again
    (others,) = found["alternatives"]
    assert found["translatedText"][0] not in others
    assert len(set(others)) == len(others)
    assert many.status_code == 400


@pytest.mark.parametrize("failure", ["empty", "thinking", "unfinished"])
def test_what_is_no_translation_is_refused_unless_it_is_wanted(failure: str) -> None:
    class Failing(Rule):
        def run(self, sources: Any, system: Any, inputs: Any) -> Any:
            for one in sources:
                yield Translation(one.id, "good", 3, "" if one.text == "gut" else failure)

    body: dict[str, Any] = {"q": ["gut", "schlecht"], "source": "de", "target": "en"}
    with translating(translations(Failing())) as http:
        refused = http.post("/translate", json=body)
        wanted = http.post("/translate", json={**body, "lingraft": {"partial": True}})
        health = http.get("/health").json()
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("text 2 ")
    assert wanted.json() == {"translatedText": ["good", "good"], "lingraft": [{}, {"failure": failure}]}
    assert health["failures"] == {failure: 1}


def test_what_is_amiss_but_a_translation_is_told() -> None:
    class Noted(Rule):
        def run(self, sources: Any, system: Any, inputs: Any) -> Any:
            yield from (Translation(one.id, "good", 3, "extra_text") for one in sources)

    with translating(translations(Noted())) as http:
        found = http.post("/translate", json={"q": "a", "source": "de", "target": "en"}).json()
    assert found == {"translatedText": "good", "lingraft": {"failure": "extra_text"}}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "q"),
        ({"q": "a", "target": "en"}, "source"),
        ({"q": "a", "source": "de"}, "target"),
        ({"q": "a", "source": "de", "target": "en", "format": "docx"}, "docx"),
        ({"q": 5, "source": "de", "target": "en"}, "q"),
        ({"q": ["a", 5], "source": "de", "target": "en"}, "q"),
        ({"q": "a", "source": 5, "target": "en"}, "source"),
        ({"q": "<b", "source": "de", "target": "en", "format": "html"}, "tags"),
        ({"q": "a", "source": "de", "target": "en", "lingraft": {"partial": "maybe"}}, "partial"),
        ({"q": "a\ud800", "source": "de", "target": "en"}, "JSON"),
    ],
)
def test_mistakes_are_one_sentence_in_the_form_of_the_service(body: dict[str, Any], word: str) -> None:
    with translating() as http:
        import json

        found = http.post("/translate", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert found.status_code == 400
    assert {*found.json()} == {"error"}
    assert word in found.json()["error"]


def test_another_method_is_refused_in_the_form_of_the_service() -> None:
    with translating() as http:
        libre, deepl = http.get("/translate"), http.put("/v2/translate")
        assert libre.json() == {"error": "GET /translate: send POST"}
        assert deepl.json() == {"message": "PUT /v2/translate: send POST"}
        assert (libre.status_code, libre.headers["allow"]) == (405, "POST") == (deepl.status_code, "POST")
        assert http.head("/languages").status_code == 200


def test_more_than_the_queue_takes_is_refused_before_the_model_is_asked() -> None:
    rule = Rule()
    with translating(translations(most_tokens=50)) as http:
        long = http.post("/translate", json={"q": "Wort und Satz. " * 30, "source": "de", "target": "en"})
    with translating(translations(rule)) as http:
        many = http.post("/translate", json={"q": ["a"] * 2000, "source": "de", "target": "en"})
    assert long.status_code == many.status_code == 413
    assert "tokens" in long.json()["error"]
    assert rule.asked == []


def test_a_key_is_taken_from_the_body_or_the_header() -> None:
    body = {"q": "Ja.", "source": "de", "target": "en"}
    with translating(key="schlüssel") as http:
        assert http.post("/translate", json=body).status_code == 403
        assert http.post("/translate", json={**body, "api_key": "falsch"}).status_code == 403
        assert http.post("/translate", json={**body, "api_key": "schlüssel"}).json() == {"translatedText": "JA."}
        assert http.post("/detect", data={"q": GERMAN, "api_key": "schlüssel"}).status_code == 200
        bearer = {"Authorization": "Bearer schlüssel".encode()}
        assert http.post("/translate", json=body, headers=bearer).status_code == 200
        assert http.get("/languages").status_code == 200
        assert http.get("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "moz-extension://0a1b"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_origins_cannot_send_forms(headers: dict[str, str], status: int) -> None:
    with translating() as http:
        sent = {"q": "Ja.", "source": "de", "target": "en"}
        assert http.post("/translate", data=sent, headers=headers).status_code == status
        plain = http.post("/translate", content=b"q=Ja.", headers={"Content-Type": "text/plain", **headers})
    assert plain.status_code in (403, 415)


def test_names_of_other_machines_lead_nowhere() -> None:
    with translating(local_only=True) as http:
        body = {"q": "Ja.", "source": "de", "target": "en"}
        assert http.post("/translate", json=body, headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/languages", headers={"Host": "evil.example"}).status_code == 403
