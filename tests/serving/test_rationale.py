"""A chat shows of a translation what `lingraft translate` shows, and its rationale to those who ask for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints import ask, client, content, streamed, tiny
from lingraft.conversation.chain import Caps
from lingraft.data.records import Sampling
from lingraft.engines.transformers import TransformersEngine
from lingraft.serving.answerer import Answerer
from lingraft.serving.rationale import CutTranslation, Rationales, TranslationEnd
from lingraft.serving.request import ChatRequest
from lingraft.serving.stops import StopStrings
from lingraft.translation.by_sentence import stops_for, without_rationale
from lingraft.translation.direct import Source, requests
from lingraft.translation.wording import VARIANTS, TranslationSystem
from lingraft.translation.wording import ask as worded
from translation_endpoints import asking_info

WORDING = "{source_name} > {target_name}: {source}"
STOP = "K"
ASKED = worded(WORDING, "Guten Tag.", "de", "en")[0].content


def written(wording: str = WORDING, most: int = 40) -> str:
    """Return all that the graft writes."""
    asked = requests([Source("s", "Guten Tag.", "de", "en")], TranslationSystem(wording), Sampling(most))
    (answer,) = TransformersEngine(tiny()).generate(asked)
    return answer.text


def answering(*stops: str) -> Answerer:
    info = asking_info(("de", "en"), instruction=WORDING, stop=stops)
    return Answerer(tiny(), None, Caps(5, 6, 40), rationales=Rationales.of(info))


def test_a_rationale_is_shown_only_to_those_who_ask_for_it() -> None:
    whole = written()
    stop = next(text for text in (whole[place : place + 2] for place in range(3, len(whole))) if text.strip() == text)
    with client(answering(stop)) as http:
        found = ask(http, ASKED)
        parts = ask(http, ASKED, lingraft={"chain": True})
        chunks = streamed(http, ASKED)
        asked = ask(http, ASKED, lingraft={"rationale": True})
        later = ask(http, "Hello.", "Hi.", ASKED)
        cut = ask(http, ASKED, stop=[whole[1]])
    expected = whole[: whole.index(stop)]
    assert stop not in "Guten Tag."
    assert found["choices"][0]["message"]["content"] == content(chunks) == expected != whole
    assert found["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert found["usage"]["completion_tokens"] < asked["usage"]["completion_tokens"]  # it is not even written
    assert [one["text"] for one in parts["lingraft"]["chain"]["segments"]] == [expected.strip()]
    assert asked["choices"][0]["message"]["content"].strip() == whole.strip()
    assert stop not in later["choices"][0]["message"]["content"]
    assert cut["choices"][0]["message"]["content"] == expected[: expected.index(whole[1])]


def test_what_is_no_translation_is_shown_as_it_is() -> None:
    question = "Tell me about K and Z"
    with client(answering(STOP)) as http:
        found = ask(http, question)
    with client(Answerer(tiny(), None, Caps(5, 6, 40))) as http:
        assert ask(http, question)["choices"] == found["choices"]
        plain = ask(http, ASKED)
    with client(answering()) as http:  # a graft without delimiter
        assert ask(http, ASKED)["choices"] == plain["choices"]


def test_the_wordings_of_the_package_are_cut_as_well() -> None:
    rationales = Rationales.of(asking_info(("de", "en"), instruction=WORDING, stop=(STOP,)))
    assert rationales is not None
    for wording in (WORDING, *VARIANTS):
        question = ChatRequest(messages=worded(wording, "Guten Tag.", "de", "en"))
        assert isinstance(rationales.cut(question, StopStrings(())), CutTranslation)
    other = ChatRequest(messages=worded("{source}", "Guten Tag.", "de", "en"))
    assert isinstance(rationales.cut(other, StopStrings(())), StopStrings)
    assert Rationales.of(None) is None


def taken(end: Any, pieces: list[str]) -> str:
    parts = [end.take(piece) for piece in pieces if not end.hit]
    return "".join(parts) + ("" if end.hit else end.take("", last=True))


PIECES = st.lists(st.sampled_from(["\n", "\n\n", "Note:", "No", "te:", "a", "b c", " ", "\n\nNote: why"]), max_size=8)


@pytest.mark.parametrize(
    "source", ["One line.", "Two\nlines.", "Two\n\nparagraphs.", "Note: one\n\nNote: two", "Note:"]
)
@given(pieces=PIECES)
def test_pieces_are_cut_as_the_whole_is(source: str, pieces: list[str]) -> None:
    stops = ("\n\nNote:", "Note:")
    raw = "".join(pieces)
    sure = stops_for(source, stops)
    first = min((raw.find(stop) for stop in stops if stop in raw), default=len(raw))
    ended = any(raw.startswith(stop, first) for stop in sure)
    expected = raw[:first] if ended else without_rationale(source, raw, stops)[0]
    assert taken(TranslationEnd(source, stops), pieces) == expected


def test_what_the_base_writes_is_kept() -> None:
    cut = CutTranslation(TranslationEnd("One line.", ["Note:"]), StopStrings(["x"]))
    cut.keep_all()
    assert taken(cut, ["a Note:", " b", "x c"]) == "a Note: b"
    assert cut.given == "a Note: b"
