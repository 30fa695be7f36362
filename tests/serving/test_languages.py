"""Summaries and programs from an endpoint: languages, what is asked as a whole, what is refused, and who must wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from decoder_endpoints import decoder_of, left_after_its_request
from endpoints import CAPS, ask, asking, client, serving, streamed, tiny, until
from lingraft.conversation.opening import open_model
from lingraft.core.sandbox import refusal
from lingraft.core.toolchains import missing_toolchain
from lingraft.data.records import Sampling
from lingraft.decoders.base import DECODERS, DecoderInputs, decoded
from lingraft.engines.base import EngineModel
from lingraft.engines.scripted import ScriptedEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.graft import read_info
from lingraft.routing.router import Router, decider_of
from lingraft.serving import decoding
from lingraft.serving.answerer import Answerer
from lingraft.serving.batching import Batching
from lingraft.serving.queue import RequestQueue
from lingraft.serving.server import bound
from lingraft.serving.systems import ServedSystem
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Source
from lingraft.translation.wording import DEFAULT, SUMMARY, SUMMARY_VARIANTS, TranslationSystem
from lingraft.translation.wording import ask as worded
from processes import HANGING

PATH = "/v1/chat/completions"
DOCUMENT = "Die alte Faehre haelt im Mai.\n\nSie ist aus dem Jahr 1931."
PROGRAM = "def twice(n):\n    return 2 * n\n"
JAVASCRIPT = "const twice = (n) => {\n  return 2 * n\n}"
ENDLESS = "import time\ndef twice(n):\n    return 2 * n\nwhile True:\n    time.sleep(1)\n"
QUESTION = "What is the capital of France?"
CODE = {"kind": "code", "run_code": True}
HERE = refusal() or missing_toolchain("javascript")
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)


def asked_for(program: str, target: str = "JavaScript") -> str:
    return f"Translate this Python program into {target}.\n\n```python\n{program}```\n"


@contextmanager
def both(choice: Any, **options: Any) -> Iterator[Any]:
    """A client of an endpoint with a decoder, for conversations and for texts."""
    loaded = tiny()
    decoder = decoder_of(choice, loaded)
    service = TranslationService(
        Translator(loaded, None, None, EngineModel.of(loaded), decoder=decoder._decoder, most=12)
    )
    with client(Answerer(loaded, None, CAPS, decoder=decoder), translations=service, **options) as http:
        yield http


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a model would write for programs, by what stands in the request; returns what it was asked."""
    asked: list[str] = []
    rules = [
        {"pattern": "Write . different calls", "answer": "[3]\n[0]"},
        {"pattern": "into JavaScript", "answer": f"```javascript\n{JAVASCRIPT}\n```"},
        {"answer": "I cannot."},
    ]
    engine = ScriptedEngine.create(EngineModel.of(tiny()), ScriptedEngine.Params.model_validate({"rules": rules}))

    def generate(self: Any, requests: Any, graft: Path | None = None) -> Any:
        for request in requests:
            asked.append(request.messages[-1].content)
            yield from engine.generate([request])

    monkeypatch.setattr(decoding.ServedEngine, "generate", generate)
    return asked


def test_a_summary_is_that_of_the_decoder_on_the_engine_in_both_forms() -> None:
    def answered(step: str, requests: Any, of: Any = "system") -> Any:
        return {one.id: one for one in TransformersEngine(tiny()).generate(list(requests))}

    source = Source("s", DOCUMENT, "de", "en")
    inputs = DecoderInputs(ask=answered, sampling=Sampling(12), task="summary")
    expected = decoded(DECODERS.create({"kind": "sitr"}), [source], TranslationSystem(), inputs)["s"]
    with both("sitr") as http:
        chat = ask(http, worded(SUMMARY, DOCUMENT, "de", "en")[0].content)
        body = {"q": DOCUMENT, "source": "de", "target": "en", "lingraft": {"partial": True}}
        text = http.post("/translate", json=body).json()
        deepl = {"text": [DOCUMENT], "source_lang": "DE", "target_lang": "EN", "lingraft": {"partial": True}}
        other = http.post("/v2/translate", json=deepl).json()["translations"][0]
        chunks = streamed(http, worded(SUMMARY_VARIANTS[1], DOCUMENT, "de", "en")[0].content)
    assert expected.text
    assert chat["choices"][0]["message"]["content"] == text["translatedText"] == other["text"] == expected.text
    assert chat["lingraft"]["decoder"]["name"] == "sitr"
    assert chat["lingraft"]["decoder"]["calls"] == expected.calls == 4
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == expected.text


@pytest.mark.parametrize("wording", SUMMARY_VARIANTS)
def test_each_wording_of_a_summary_is_known_and_a_translation_is_answered_as_before(wording: str) -> None:
    decoder = decoder_of("sitr")
    found = decoder._plan.recogniser.source(worded(wording, DOCUMENT, "de", "en"))
    assert found is not None
    assert (found.text, found.source_lang, found.target_lang) == (DOCUMENT, "de", "en")
    assert decoder._plan.recogniser.source(worded(DEFAULT, DOCUMENT, "de", "en")) is None


def test_what_cuts_the_shown_summary_is_told_and_what_cut_a_step_before_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def engine(cut: str) -> Any:
        rules = [
            {"pattern": "^Summarise", "answer": "Kurz.", "finish_reason": "length" if cut == "first" else "stop"},
            {
                "pattern": "and its translation",
                "answer": "Right.",
                "finish_reason": "length" if cut == "last" else "stop",
            },
            {"pattern": "Translate", "answer": "Short."},
            {"answer": "Besser."},
        ]
        return ScriptedEngine.create(EngineModel.of(tiny()), ScriptedEngine.Params.model_validate({"rules": rules}))

    found = {}
    for cut in ("first", "last"):
        made = engine(cut)
        monkeypatch.setattr(
            decoding.ServedEngine, "generate", lambda self, asked, graft=None, made=made: made.generate(asked)
        )
        with both("sitr") as http:
            chat = ask(http, worded(SUMMARY, DOCUMENT, "de", "en")[0].content)
            text = http.post("/translate", json={"q": DOCUMENT, "source": "auto", "target": "en"})
            found[cut] = chat["choices"][0]["finish_reason"], text.status_code, text.json()
    assert found["first"][:2] == ("stop", 200)
    assert found["first"][2]["translatedText"] == "Right."
    assert found["first"][2]["lingraft"] == {"failure": "summaries_unfinished"}
    assert found["last"][:2] == ("length", 422)
    assert "most tokens of a summary" in found["last"][2]["error"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"format": "html"}, "no use of tags"),
        ({"alternatives": 2}, "no use of alternatives"),
        ({"lingraft": {"rationale": True}}, "no use of a rationale"),
    ],
)
def test_what_summaries_do_not_have_is_refused(fields: dict[str, Any], what: str) -> None:
    with both("sitr") as http:
        refused = http.post("/translate", json={"q": DOCUMENT, "source": "de", "target": "en", **fields})
    assert refused.status_code == 400
    assert (
        f"this server answers with summaries in another language, for which there is {what}" in refused.json()["error"]
    )


@shut_in
def test_a_program_is_mended_and_given_in_all_forms(scripted: list[str]) -> None:
    with both(CODE) as http:
        chat = ask(http, asked_for(PROGRAM))
        text = http.post("/translate", json={"q": PROGRAM, "source": "Python", "target": "javascript"}).json()
        body = {"text": [PROGRAM], "source_lang": "PYTHON", "target_lang": "JAVASCRIPT"}
        other = http.post("/v2/translate", json=body).json()["translations"][0]
        languages = http.get("/languages").json()
        health = http.get("/health").json()
        plain = http.post(PATH, json=asking("Translate this Rust program into Java.\n\nx"))
    assert (
        chat["choices"][0]["message"]["content"]
        == text["translatedText"].strip()
        == other["text"].strip()
        == JAVASCRIPT
    )
    assert "lingraft" not in text
    assert other["detected_source_language"] == "PYTHON"
    assert chat["lingraft"]["decoder"] == {
        "name": "code",
        "calls": 2,
        "outcome": "calls as the source: all",
        "failure": None,
    }
    assert health["outcomes"] == {"calls as the source: all": 1}
    assert {"python", "javascript"} <= {one["code"] for one in languages}
    assert "decoder" not in plain.json().get("lingraft", {})


@shut_in
@pytest.mark.parametrize(
    ("fields", "status", "what"),
    [
        ({"source": "auto"}, 400, "not told by its text; name it as the source"),
        ({"source": "rust"}, 400, "unknown programming language 'rust'"),
        ({"source": "de"}, 400, "unknown programming language 'de'"),
        ({"target": "python"}, 400, "from Python into itself"),
        ({"target": "cpp"}, 422, "wrote no program with the function that it has"),
        ({"format": "html"}, 400, "no use of tags"),
    ],
)
def test_what_is_no_program_or_no_language_of_one_is_refused(
    fields: dict[str, Any], status: int, what: str, scripted: list[str]
) -> None:
    with both(CODE) as http:
        refused = http.post("/translate", json={"q": PROGRAM, "source": "python", "target": "javascript", **fields})
        told = http.post("/detect", json={"q": PROGRAM})
    assert (refused.status_code, told.status_code) == (status, 400)
    assert what in refused.json()["error"]


@shut_in
def test_a_client_that_leaves_ends_a_program_that_runs_and_others_are_answered_beside_it(
    scripted: list[str], base: Path, tmp_path: Path
) -> None:
    graft = make_graft(base, tmp_path / "graft", "direct")
    with open_model(graft, None) as (loaded, _):
        system = ServedSystem("tiny", loaded, None, read_info(graft))
        batching = Batching.of([system], 8, 4096, base_too=True)
        desk, on = RequestQueue(at_once=batching.at_once, step=batching.step), bound("127.0.0.1", 0)
        made = decoder_of(CODE, loaded, graft, batching.side(system, desk.rounds.wake))
        answers = Answerer(loaded, None, CAPS, decoder=made, writing=batching.writing("tiny"))
        try:
            with serving(answers, desk, on) as url, httpx2.Client(timeout=HANGING) as http:
                with left_after_its_request(url, asked_for(ENDLESS)):
                    until(lambda: len(scripted) == 2)  # its program is run now, and does not end for 90 s
                    assert http.post(url + PATH, json=asking(QUESTION)).status_code == 200
                until(lambda: desk.inside == 0)
                found = http.post(url + PATH, json=asking(asked_for(PROGRAM))).json()
                assert found["lingraft"]["decoder"]["outcome"] == "calls as the source: all"
        finally:
            batching.close()
            made.close()


def test_with_a_route_a_summary_is_the_decoders_whatever_the_decider_knows(base: Path, tmp_path: Path) -> None:
    graft = make_graft(base, tmp_path / "graft", "direct")
    with open_model(graft, None) as (loaded, _):
        router = Router(loaded, *decider_of(graft, read_info(graft), "form"))
        answers = Answerer(loaded, None, CAPS, router=router, decoder=decoder_of("sitr", loaded, graft))
        text = worded(SUMMARY, "Good day. " * 3, "en", "th")[0].content
        with client(answers) as http:
            found, other = ask(http, text), ask(http, QUESTION)
            to_base = ask(http, text, lingraft={"route": "base"})
    assert (found["lingraft"]["route"], found["lingraft"]["decoder"]["name"]) == ("graft", "sitr")
    assert (other["lingraft"]["route"], to_base["lingraft"]["route"]) == ("base", "base")
    assert "decoder" not in to_base["lingraft"]


def test_programs_are_served_with_consent_a_key_and_a_sandbox_alone(
    lingraft: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = ("serve", "--model", base, "--port", "0", "--decoder", "code")
    one_sentence(lingraft(*serve), 2, "allow that with --param run_code='true'")
    if not HERE:
        with_consent = (*serve, "--param", "run_code=true")
        one_sentence(
            lingraft(*with_consent, "--host", "0.0.0.0", "--without-key"), 2, "runs programs that clients send"
        )
        monkeypatch.setenv("PATH", "/nowhere")
        one_sentence(lingraft(*with_consent), 2, "and that is python alone")
        monkeypatch.setattr("lingraft.decoders.code.refusal", lambda: "it cannot be shut in; take Linux")
        one_sentence(lingraft(*with_consent), 2, "it cannot be shut in")
