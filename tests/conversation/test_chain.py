"""The chain as a state machine: strict order, names for what goes wrong, markers that are put, histories in English."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import tiny_tokenizer, with_markers
from chains import MARKERS, ids_of, marked_renderer
from lingraft.conversation.answer_language import answer_language, text_language
from lingraft.conversation.chain import Caps, ChainIds, ChainReader, english_history, markers_in
from lingraft.core.errors import ModelError, UsageError
from lingraft.data.records import Message, Segment
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import Markers

READER = ChainReader(marked_renderer(), MARKERS)
ENDS = {"END"}
CAPS = Caps(3, 4, 5)


def roles(chain) -> list[str]:
    return [segment.role for segment in chain.segments]


def test_the_whole_chain_is_taken_apart() -> None:
    ids = ids_of(READER, "<EN>", " The weather ", "<RESPONSE>", " It is nice. ", "<TH>", " วันนี้อากาศดี", "END")
    chain = READER.parse([*ids, 5, 6], "th")
    assert [(s.role, s.text, s.forced) for s in chain.segments] == [
        ("english_query", "The weather", False),
        ("english_reply", "It is nice.", False),
        ("native_reply", "วันนี้อากาศดี", False),
    ]
    assert (chain.state, chain.failure, chain.shown(), chain.missing) == ("complete", "", "วันนี้อากาศดี", None)
    assert list(chain.ids) == ids[:-1]


def test_english_requests_have_one_part() -> None:
    chain = READER.parse(ids_of(READER, "<RESPONSE>", "It is nice.", "END"), "en")
    assert (roles(chain), chain.state, chain.shown()) == (["english_reply"], "complete", "It is nice.")
    assert READER.parse(ids_of(READER, "<EN>", "It is nice.", "END"), "en").state == "no_chain"


@pytest.mark.parametrize(
    ("parts", "state", "missing", "shown"),
    [
        (["no", "END"], "no_chain", "<EN>", "no"),
        (["<RESPONSE>", "nice", "END"], "no_chain", "<EN>", "nice"),
        ([], "unfinished", "<EN>", ""),
        (["END"], "no_chain", "<EN>", ""),
        (["<EN>", "nice", "END"], "missing_response", "<RESPONSE>", ""),
        (["<EN>", "nice", "<TH>", "ดี", "END"], "missing_response", "<RESPONSE>", "ดี"),
        (["<EN>", "nice", "<EN>", "day", "END"], "wrong_order", "<RESPONSE>", "day"),
        (["<EN>", "nice", "<RESPONSE>", "day", "END"], "missing_native", "<TH>", "day"),
        (["<EN>", "nice", "<RESPONSE>", "day", "<DE>", "Tag", "END"], "wrong_language", "<TH>", "day"),
        (["<EN>", "nice", "<RESPONSE>", "day", "<RESPONSE>", "END"], "wrong_order", "<TH>", "day"),
        (["<EN>", "nice", "<RESPONSE>", "day", "<TH>", "ดี", "<TH>", "x"], "wrong_order", None, "ดี"),
        (["<EN>", "nice", "<RESPONSE>", "day", "<TH>", "ดี"], "unfinished", None, "ดี"),
        (["<EN>", "nice", "<RESPONSE>", "day", "<TH>", " ", "END"], "empty_segment", None, "day"),
        (["<EN>", "<RESPONSE>", "day", "<TH>", "ดี", "END"], "empty_segment", None, "ดี"),
        (["<EN>", "nice"], "unfinished", "<RESPONSE>", ""),
    ],
)
def test_anything_else_is_a_failure_with_a_name(parts: list[str], state: str, missing: str | None, shown: str) -> None:
    chain = READER.parse(ids_of(READER, *parts), "th")
    assert (chain.state, chain.failure) == (state, state)
    assert not chain.complete
    assert chain.missing == (None if missing is None else READER.renderer.tokenizer.convert_tokens_to_ids(missing))
    assert chain.shown() == shown


def test_what_is_shown_without_a_native_answer_is_a_choice() -> None:
    chain = READER.parse(ids_of(READER, "<EN>", "nice", "<RESPONSE>", "day", "<EN>", "x", "END"), "th")
    assert [chain.shown(fallback) for fallback in ("english", "text", "empty")] == ["day", "x", ""]


def test_blanks_before_the_first_marker_are_no_failure() -> None:
    ids = ids_of(READER, " ", "<RESPONSE>", "nice", "END")
    chain = READER.parse(ids, "en")
    assert chain.state == "complete"
    assert chain.segments[0].tokens == len(ids) - 1


def test_a_part_over_its_cap_ends_there() -> None:
    walk = READER.walk("th", Caps(query=2, english=3, native=1))
    english, word = READER.ids.english, READER.renderer.plain_ids("day")[0]
    assert walk.room == 2 + 3 + 1 + 3 + 1
    assert [walk.feed(id_) for id_ in (english, word, word, word)] == [True, True, True, False]
    assert walk.state == "missing_response"
    assert walk.force() == READER.ids.response
    assert walk.room == 3 + 1 + 1 + 1
    assert [walk.feed(word) for _ in range(4)] == [True, True, True, False]
    walk.force()
    assert [walk.feed(word) for _ in range(2)] == [True, False]
    chain = walk.chain()
    assert (walk.missing, chain.state, chain.failure) == (None, "unfinished", "missing_response")
    assert [segment.forced for segment in chain.segments] == [False, True, True]
    with pytest.raises(ValueError, match="no marker"):
        walk.force()


def test_an_english_answer_over_its_cap_is_not_called_a_missing_marker() -> None:
    walk = READER.walk("th", Caps(english=2))
    for token in ids_of(READER, "<EN>", "1", "<RESPONSE>", "2", "3", "4"):
        taken = walk.feed(token)
    assert (taken, walk.state, walk.missing) == (False, "english_cut", READER.ids.path("th")[2][1])
    walk.force()
    for token in ids_of(READER, "5", "END"):
        walk.feed(token)
    assert (walk.chain().state, walk.chain().failure) == ("complete", "english_cut")


def test_a_part_of_exactly_its_cap_is_fine() -> None:
    chain = READER.parse(ids_of(READER, "<RESPONSE>", "1", "2", "END"), "en", Caps(1, 2, 1))
    assert chain.state == "complete"


def test_markers_that_were_put_are_told_to_the_parser() -> None:
    ids = ids_of(READER, "<EN>", "1", "<RESPONSE>", "2", "<TH>", "3", "END")
    chain = READER.parse(ids, "th", put={2})
    assert [segment.forced for segment in chain.segments] == [False, True, False]
    assert (chain.state, chain.failure) == ("complete", "missing_response")


SOME = [*READER.ids.markers, *READER.ids.ends, *READER.renderer.plain_ids(" nice day ดี\n"), 0, 700]
ANY = st.lists(st.sampled_from(SOME), max_size=24)


@given(
    ids=ANY,
    lang=st.sampled_from(["th", "de", "en"]),
    caps=st.sampled_from([None, CAPS]),
    put=st.sets(st.integers(0, 9)),
)
def test_any_ids_give_a_chain_whose_tokens_add_up(ids: list[int], lang: str, caps: Caps | None, put: set[int]) -> None:
    end = next((i for i, id_ in enumerate(ids) if id_ in READER.ids.ends), len(ids))
    chain = READER.parse(ids, lang, caps, put)
    assert list(chain.ids) == ids[:end][: len(chain.ids)]
    assert sum(segment.tokens for segment in chain.segments) == len(chain.ids)
    assert len(chain.ids) == end or chain.missing is None or chain.state == "open" or caps
    wanted = [role for role, _ in READER.ids.path(lang)]
    found = [role for role in roles(chain) if role != "text"]
    assert found == wanted[: len(found)]
    assert chain.complete == (chain.state == "complete")
    assert chain.complete or chain.failure
    if chain.complete:
        assert found == wanted
        assert end < len(ids)
        assert all(segment.text for segment in chain.segments)
    if caps:
        assert all(s.tokens <= caps.of(s.role) + 1 for s in chain.segments[1:] if s.role != "text")


@given(ids=ANY, lang=st.sampled_from(["th", "en"]))
def test_repair_ends_after_one_marker_of_each_kind(ids: list[int], lang: str) -> None:
    walk = READER.walk(lang, CAPS)
    put = []
    while True:
        for id_ in ids:
            if not walk.feed(id_):
                break
        walk.run_out()
        if walk.missing is None:
            break
        put.append(walk.force())
    chain = walk.chain()
    assert len(put) == len(set(put)) <= 3
    assert sum(segment.forced for segment in chain.segments) == len(put)
    assert [s.role for s in chain.segments] == [role for role, _ in READER.ids.path(lang)]
    assert bool(put) <= bool(chain.failure)


def test_markers_must_be_control_tokens() -> None:
    with pytest.raises(ModelError, match="'<EN>'"):
        ChainIds.of(Renderer(tiny_tokenizer()), MARKERS)
    with pytest.raises(ModelError, match="'<FR>'"):
        ChainReader(marked_renderer(), Markers.for_languages(["fr"]))
    with pytest.raises(UsageError, match="'fr' has no marker"):
        READER.walk("fr")
    with pytest.raises(UsageError, match="at least 1"):
        Caps(query=0)


def test_markers_are_found_in_the_tokenizer() -> None:
    assert markers_in(marked_renderer()) == MARKERS
    assert markers_in(Renderer(tiny_tokenizer())) is None


def test_control_tokens_of_the_tokenizer_are_no_languages() -> None:
    """As in Cohere's tokenizers, and as EOS and SEP are codes of ISO 639-3, too."""
    own = ["<PAD>", "<UNK>", "<CLS>", "<SEP>", "<EOS>"]
    tokenizer = with_markers(tiny_tokenizer(), *own, *MARKERS.tokens)
    assert markers_in(Renderer(tokenizer)) == MARKERS
    assert markers_in(Renderer(with_markers(tiny_tokenizer(), *own))) is None
    assert markers_in(Renderer(with_markers(tiny_tokenizer(), "<EN>", "<RESPONSE>", "<pad>", "<TH>"))) is None


def test_history_is_in_english_where_it_is_known() -> None:
    talk = [Message(role, text) for role, text in (("system", "s"), ("user", "ถาม"), ("assistant", "ตอบ"))]
    later = [Message("user", "hello"), Message("assistant", "hi"), Message("user", "ต่อ")]
    known = [
        [Segment("english_query", "ask", 2), Segment("english_reply", "answer", 2)],
        [Segment("english_reply", "hi!", 2)],
    ]
    assert [m.content for m in english_history(talk + later, known)] == ["s", "ask", "answer", "hello", "hi!", "ต่อ"]
    assert english_history(talk + later, []) == tuple(talk + later)
    unread = [
        [Segment("english_query", "", 1), Segment("english_reply", "answer", 2), Segment("native_reply", "ตอบ", 2)]
    ]
    assert english_history(talk + later, unread) == tuple(talk + later)


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("สวัสดี", "th"),
        ("How is the weather in Bangkok today?", "en"),
        ("Wie ist das Wetter heute in Berlin?", "de"),
        ("What does สวัสดี mean in English, please?", "en"),
        ("ช่วยแก้โค้ดนี้\nfor i in range(10):\n    print(i, 'hello world')", "th"),
        ("2 + 2", ""),
        ("", ""),
    ],
)
def test_language_of_a_text(text: str, lang: str) -> None:
    assert text_language(text, MARKERS) == lang


def test_language_of_an_answer() -> None:
    thai = Markers.for_languages(["th"])
    talk = [Message("user", "สวัสดี"), Message("assistant", "สวัสดี"), Message("user", ":-)")]
    assert answer_language(talk, thai) == "th"
    assert answer_language(talk[-1:], thai) == "en"
    assert answer_language(talk, thai, "en") == "en"
    with pytest.raises(UsageError, match="'fr'"):
        answer_language(talk, thai, "fr")
