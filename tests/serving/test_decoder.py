"""Translations through a decoder behind an endpoint: which requests, with what they say, and where they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain_grafts import base, chained, make_graft  # noqa: F401  (fixtures)
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from decoder_endpoints import ASKED, SOURCE, Improved, answering, decoder_of
from endpoints import CAPS, THAI, ask, asking, client, content, streamed, tiny
from lingraft.conversation.opening import open_model
from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Message, Pair, Request, Sampling
from lingraft.decoders.base import DecoderInputs
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.embedding import TextEmbedder
from lingraft.models.files import find_model
from lingraft.models.graft import read_info
from lingraft.models.loading import load_model
from lingraft.routing.router import Router, decider_of
from lingraft.serving import decoding
from lingraft.serving.answerer import Answerer
from lingraft.serving.decoder import parts
from lingraft.serving.server import bound
from lingraft.translation.direct import Source, Translation, requests
from lingraft.translation.wording import DEFAULT, TranslationSystem
from lingraft.translation.wording import ask as worded

PATH = "/v1/chat/completions"
QUESTION = "What is the capital of France?"


class Failing(Improved):
    """Asks an engine that is not there."""

    def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        raise EngineError("http://10.0.0.1 refused")
        yield


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the moment."""
    figures = {key: value for key, value in answer["lingraft"].items() if not key.startswith("seconds")}
    return {"choices": answer["choices"], "usage": answer["usage"], "lingraft": figures}


@pytest.fixture(scope="module")
def graft(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


def test_a_translation_is_what_the_engine_translates_and_all_else_as_before() -> None:
    with client(answering("direct")) as http:
        found, other = ask(http, ASKED), ask(http, QUESTION)
        system = http.post(PATH, json={"messages": [{"role": "system", "content": "x"}, *asking(ASKED)["messages"]]})
        health, card = http.get("/health").json(), http.get("/v1/models/tiny").json()
    (expected,) = TransformersEngine(tiny()).generate(
        requests([SOURCE], TranslationSystem(DEFAULT), Sampling(CAPS.native))
    )
    text = found["choices"][0]["message"]["content"]
    assert text == expected.text.strip().split("\n\n")[0] != ""
    assert found["usage"]["completion_tokens"] == len(expected.token_ids)
    assert found["usage"]["prompt_tokens"] == len(
        tiny().renderer.prompt_ids(worded(DEFAULT, "Guten Tag.", "de", "en")).ids
    )
    assert found["lingraft"]["tokens"] == {"text": len(expected.token_ids)}
    assert found["lingraft"]["decoder"]["name"] == "direct"
    assert found["lingraft"]["decoder"]["calls"] == 1
    assert "seed" not in found["lingraft"]
    with client(Answerer(tiny(), None, CAPS)) as http:
        assert lasting(ask(http, QUESTION)) == lasting(other)
        assert "outcomes" not in http.get("/health").json()
    assert "decoder" not in other["lingraft"]
    assert "decoder" not in system.json()["lingraft"]
    assert health["answered"] == 3
    assert card["lingraft"] == {"chat": "direct", "decoder": "direct"}


def test_steps_are_counted_and_never_shown_whole_or_in_a_stream(base: Path, graft: Path) -> None:
    fields: dict[str, Any] = {"lingraft": {"chain": True}, "stream_options": {"include_usage": True}}
    with open_model(graft, None) as (loaded, _):
        answers = Answerer(loaded, None, CAPS, decoder=decoder_of(Improved(), loaded, graft))
        with client(answers) as http:
            whole = ask(http, ASKED, **fields)
            _, *middle, last, usage = streamed(http, ASKED, **fields)
            again = ask(http, ASKED, **fields)
            health = http.get("/health").json()
        model: Any = loaded.model
        assert not any(parameter.requires_grad for parameter in model.parameters())
    asked = Request("s", (Message("user", "improve: Guten Tag."),), Sampling(4))
    (improved,) = TransformersEngine(load_model(find_model(str(base)))).generate([asked])
    assert whole["choices"][0]["message"]["content"] == improved.text.strip() == content(middle)
    assert lasting(whole) == lasting(again)
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert usage["usage"] == whole["usage"]
    figures = whole["lingraft"]
    assert figures["tokens"] == {"drafts": 12, "text": 4}
    assert whole["usage"]["completion_tokens"] == 16
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 12}
    assert figures["decoder"]["outcome"] == "improved"
    assert [one["text"] for one in figures["chain"]["segments"]] == ["", improved.text.strip()]
    assert [chunk["choices"][0]["delta"] for chunk in middle if chunk["choices"][0]["delta"]] == [
        {"content": improved.text.strip()}
    ]
    assert health["outcomes"] == {"improved": 3}


def test_a_list_that_cannot_be_read_is_counted() -> None:
    with client(answering({"kind": "tear", "max_estimate_tokens": 16})) as http:
        found = ask(http, ASKED)
        health = http.get("/health").json()
    assert found["lingraft"]["decoder"] == {
        "name": "tear",
        "calls": 3,
        "outcome": "draft kept, its error list cannot be read",
        "failure": found["lingraft"]["decoder"]["failure"],
    }
    assert set(found["lingraft"]["tokens"]) == {"text", "estimate", "estimate-again"}
    assert found["usage"]["completion_tokens"] == sum(found["lingraft"]["tokens"].values())
    assert health["outcomes"] == {"draft kept, its error list cannot be read": 1}
    assert health["failures"] == ({found["lingraft"]["decoder"]["failure"]: 1} if health["failures"] else {})


def test_samples_follow_the_seed_which_is_told() -> None:
    with client(answering({"kind": "rerank", "samples": 3})) as http:
        first = ask(http, ASKED)
        again = ask(http, ASKED, seed=first["lingraft"]["seed"])
        seeds = [ask(http, ASKED, seed=seed)["usage"] for seed in range(2)]
    assert lasting(first) == lasting(again)
    assert first["lingraft"]["decoder"]["calls"] == 3
    prompt = tiny().renderer.prompt_ids(worded(DEFAULT, SOURCE.text, "de", "en")).ids
    assert {usage["prompt_tokens"] for usage in seeds} == {3 * len(prompt)}


@pytest.mark.parametrize(
    ("choice", "fields", "param"),
    [
        ("rerank", {"temperature": 0.2}, "temperature"),
        ("rerank", {"top_p": 0.5}, "top_p"),
        ("rerank", {"max_completion_tokens": 9}, "max_completion_tokens"),
        ("tear", {"max_completion_tokens": 9}, "max_completion_tokens"),
    ],
)
def test_what_would_not_keep_its_meaning_is_refused_for_translations_alone(
    choice: str, fields: dict[str, Any], param: str
) -> None:
    with client(answering(choice)) as http:
        refused = http.post(PATH, json=asking(ASKED, **fields))
        ask(http, QUESTION, **fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, "unsupported_parameter")
    assert repr(choice) in error["message"]


def test_limits_stop_strings_and_sampling_keep_their_meaning() -> None:
    with client(answering("direct")) as http:
        full = ask(http, ASKED)["choices"][0]
        few, total = ask(http, ASKED, max_tokens=3), ask(http, ASKED, max_completion_tokens=3)
        stop = full["message"]["content"][2:5]
        cut, chunks = ask(http, ASKED, stop=stop), streamed(http, ASKED, stop=[stop])
        drawn = {ask(http, ASKED, temperature=1.5, seed=seed)["choices"][0]["message"]["content"] for seed in range(4)}
        told = ask(http, ASKED, temperature=1.5)
        same = ask(http, ASKED, temperature=1.5, seed=told["lingraft"]["seed"])
        neutral = client(answering("rerank"))
        with neutral as other:
            ask(other, ASKED, temperature=0.7, top_p=0.95, max_tokens=2)
    assert lasting(few) == lasting(total)
    assert few["usage"]["completion_tokens"] == 3
    assert few["choices"][0]["finish_reason"] == "length"
    assert cut["choices"][0]["message"]["content"] == full["message"]["content"].split(stop)[0] == content(chunks)
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert len(drawn) > 1
    assert lasting(same) == lasting(told)


def test_a_translation_ends_at_the_context_and_a_step_that_does_not_fit_is_refused_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    own = decoding.ServedEngine.generate

    def generate(self: Any, requests: Any, graft: Path | None = None) -> Iterator[Generation]:
        asked.extend(one.sampling.max_new_tokens for one in requests)
        return own(self, requests, graft)

    monkeypatch.setattr(decoding.ServedEngine, "generate", generate)
    text = lambda digits: worded(DEFAULT, "1" * digits, "de", "en")[0].content  # noqa: E731
    count = lambda asked: len(tiny().renderer.prompt_ids([Message("user", asked)]).ids)  # noqa: E731
    fits = 2048 - count(text(0)) - 5
    with client(answering("direct")) as http:
        assert ask(http, text(fits))["usage"]["completion_tokens"] <= 5
        over = http.post(PATH, json=asking(text(fits + 5)))
    assert asked == [5]
    with client(answering("tear")) as http:
        late = http.post(PATH, json=asking(text(1500), max_tokens=7, stream=True))
    assert asked == [5, 7]  # the draft alone
    for response in (over, late):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert "'tear'" in late.json()["error"]["message"]
    assert "leave no room for 200 of 2,048" in late.json()["error"]["message"]


def test_what_fails_is_the_servers_fault_and_tells_no_address() -> None:
    with client(answering(Failing())) as http:
        response = http.post(PATH, json=asking(ASKED))
        ask(http, QUESTION)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "decoder_failed")
    assert "10.0.0.1" not in response.text


@pytest.mark.parametrize("score", [True, False])
def test_where_another_model_lies_is_not_told(score: bool, tmp_path: Path) -> None:
    class Helped(Improved):
        def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
            if score:
                inputs.score({"kind": "comet", "path": str(tmp_path / "gone")}, [Pair("s", "x", "", "de", "en")], ["y"])
            else:
                inputs.embed(["x"], str(tmp_path / "gone"))
            yield from ()

    with client(answering(Helped())) as http:
        response = http.post(PATH, json=asking(ASKED))
    assert (response.status_code, response.json()["error"]["code"]) == (500, "decoder_failed")
    assert str(tmp_path) not in response.text


def test_the_queue_counts_all_calls() -> None:
    plain, tear = Answerer(tiny(), None, CAPS), answering("tear")
    from lingraft.serving.request import read_question

    asked, other = (read_question(json.dumps(asking(text)).encode()) for text in (ASKED, QUESTION))
    read = plain.size(asked) - CAPS.native
    steps = [(1, 12), (1, 100), (0.2, 100), (0.75, 12), (0.75, 100), (0.15, 100)]
    assert tear.size(asked) == pytest.approx(sum(answers * (read + most) for answers, most in steps), abs=1)
    assert tear.size(other) == plain.size(other)


def test_with_a_route_the_decoder_has_what_goes_to_the_graft(graft: Path) -> None:
    with open_model(graft, None) as (loaded, _):
        router = Router(loaded, *decider_of(graft, read_info(graft), "form"))
        answers = Answerer(loaded, None, CAPS, router=router, decoder=decoder_of("rerank", loaded, graft))
        with client(answers) as http:
            found, other = ask(http, ASKED), ask(http, QUESTION)
            to_base = ask(http, ASKED, temperature=0.2, lingraft={"route": "base"})
            to_graft = ask(http, QUESTION, lingraft={"route": "graft"})
            refused = http.post(PATH, json=asking(ASKED, temperature=0.2))
    assert found["lingraft"]["route"] == to_graft["lingraft"]["route"] == "graft"
    assert other["lingraft"]["route"] == to_base["lingraft"]["route"] == "base"
    assert found["lingraft"]["decoder"]["name"] == "rerank"
    assert not any("decoder" in one["lingraft"] for one in (other, to_base, to_graft))
    assert refused.status_code == 400


def test_beside_a_chain_translations_alone_are_decoded() -> None:
    with client(answering("direct", chain=True)) as http:
        plain, native = ask(http, ASKED), ask(http, THAI)
        asked = ask(http, ASKED, lingraft={"language": "th"})
    assert plain["lingraft"]["decoder"]["name"] == "direct"
    assert plain["lingraft"]["language"] is None
    assert set(native["lingraft"]["tokens"]) == set(asked["lingraft"]["tokens"])
    assert "decoder" not in asked["lingraft"]


def test_a_direction_that_the_decoder_lacks_something_for_is_answered_as_before(tmp_path: Path) -> None:
    memory = tmp_path / "memory.tsv"
    memory.write_text("Guten Morgen.\tGood morning.\nGute Nacht.\tGood night.\n", "utf-8")
    choice = {"kind": "icl", "memory": str(memory), "languages": ["de", "en"], "k": 2}
    with client(answering(choice)) as http:
        found = ask(http, ASKED)["lingraft"]["decoder"]
        other = ask(http, worded(DEFAULT, "Bonjour.", "fr", "en")[0].content)
    assert (found["calls"], found["outcome"]) == (1, "pairs shown: 2")
    assert "decoder" not in other["lingraft"]


def test_pairs_are_compared_and_errors_listed_by_the_base_without_its_graft(
    base: Path, graft: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.tsv"
    memory.write_text("Good morning.\tสวัสดี\nGood night.\tราตรีสวัสดิ์\n", "utf-8")
    icl = {"kind": "icl", "memory": str(memory), "languages": ["en", "th"], "k": 1, "retriever": "embedding"}
    tear = {"kind": "tear", "max_estimate_tokens": 16}
    with open_model(graft, None) as (loaded, _):
        found = {}
        for name, choice in (
            ("icl", icl),
            ("base", {**tear, "estimator": "base"}),
            ("engine", {**tear, "estimator": {"kind": "transformers"}}),
            ("system", tear),
        ):
            decoder = decoder_of(choice, loaded, graft)
            (_, found[name]) = decoder.events(Source("s", "Good day.", "en", "th"), Sampling(12))
            answers = decoder._decoding.known
            found[name, "estimate"] = [one.text for (step, _), one in answers.items() if step == "estimate"]
        vectors = decoder_of(icl, loaded, graft)._decoding._embed(["Good day.", "x"], None)
        with_graft = TextEmbedder.of_base(loaded).vectors(["Good day.", "x"])
    of_base = TextEmbedder.of_base(load_model(find_model(str(base)))).vectors(["Good day.", "x"])
    assert np.allclose(vectors, of_base, atol=1e-5)
    assert not np.allclose(with_graft, of_base, atol=1e-3)
    assert found["icl"].outcome == "pairs shown: 1"  # type: ignore[attr-defined]
    assert found["base", "estimate"] == found["engine", "estimate"] != found["system", "estimate"]


def test_samples_side_by_side_are_those_of_the_engine_in_padded_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(3, temperature=0.9, seed=3)  # fewer tokens than the padding
    rows = [Source(f"s:{n}", "Guten Tag. " * (1 + 3 * n), "de", "en") for n in (0, 0, 1, 4)]
    asked = [replace(one, id=str(n)) for n, one in enumerate(requests(rows, TranslationSystem(), sampling))]
    widths: list[int] = []
    model: Any = tiny().model
    own = type(model.get_decoder()).forward

    def forward(self: Any, input_ids: Any = None, **more: Any) -> Any:
        widths.append(input_ids.shape[1])
        return own(self, input_ids=input_ids, **more)

    expected = sorted(TransformersEngine(tiny()).generate(asked), key=lambda one: one.id)
    monkeypatch.setattr(type(model.get_decoder()), "forward", forward)
    found = sorted(decoding.ServedEngine(tiny(), False).generate(asked), key=lambda one: one.id)
    assert found == expected
    assert {width for width in widths if width > 1 and width % 64} == set()
    assert len({len(tiny().renderer.prompt_ids(one.messages).ids) % 64 for one in asked}) > 1


def test_many_directions_take_no_more_memory() -> None:
    decoder = decoder_of("direct")
    for number in range(3):
        assert decoder._can("de", f"x{number}") is True
    assert decoder._can.cache_info().maxsize == 1024


def test_what_cannot_serve_is_one_sentence_before_the_port_is_taken(
    lingraft: Any, base: Path, graft: Path, chained: Path, tmp_path: Path
) -> None:
    with bound("127.0.0.1", 0) as taken:
        port = ("--port", taken.getsockname()[1])
        for model, options, words in (
            (("--graft", graft), ("--decoder", "tears"), "did you mean 'tear'"),
            (("--model", base), ("--decoder", "rerank", "--param", "sample=3"), "did you mean 'samples'"),
            (("--model", base), ("--param", "samples=3"), "name it with --decoder"),
            (("--graft", graft), ("--decoder", "icl"), "give a `memory`"),
            (("--graft", chained), ("--decoder", "tear", "--param", "estimator=base"), "asks the untouched base"),
        ):
            one_sentence(lingraft("serve", *model, *port, *options), 2, words)
        missing = lingraft("serve", "--model", base, *port, "--glossary", tmp_path / "no.csv")
        one_sentence(missing, 1, "no.csv")
        right = lingraft("serve", "--model", base, *port, "--decoder", "rerank")
        one_sentence(right, 2, f"port {taken.getsockname()[1]}")


def test_the_answer_with_the_translation_is_the_part_that_is_shown() -> None:
    renderer = tiny().renderer
    one = lambda text, tokens, reason="stop": Generation("s", text, (1,) * tokens, reason)  # noqa: E731
    kept = {("drafts", "s"): one(" Yes.\nNote: x", 5), ("estimate", "s"): one('{"major": ["Yes."]}', 9)}
    segments, cut = parts(Translation("s", "Yes.", 14), kept, renderer)
    assert [(part.role, part.tokens, part.text) for part in segments] == [("estimate", 9, ""), ("text", 5, "Yes.")]
    assert not cut
    thinking = {("drafts", "s"): one("<think>Well.</think>Yes.", 20)}
    segments, _ = parts(Translation("s", "Yes.", 20, thought=True), thinking, renderer)
    said = renderer.count("Yes.")
    assert [(part.role, part.tokens) for part in segments] == [("thought", 20 - said), ("text", said)]
    segments, cut = parts(Translation("s", "", 9, "empty"), {("drafts", "s"): one(" ", 9, "length")}, renderer)
    assert [(part.role, part.tokens) for part in segments] == [("drafts", 9), ("text", 0)]
    assert cut
