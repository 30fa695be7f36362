"""Translate-test: who is asked what, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable

from lingraft.conversation.history import History
from lingraft.conversation.pivot import Round
from lingraft.data.records import Generation, Message, Request, Sampling, Segment, Span
from lingraft.translation.markers import Markers
from lingraft.translation.translators import AskedTranslator, MarkedTranslator, Translator
from lingraft.translation.wording import DEFAULT

ASKED = AskedTranslator(DEFAULT, 3, stop=("\n\n",))
MARKED = MarkedTranslator(Markers.for_languages(["th"]), 3)
QUESTION = "อากาศวันนี้เป็นอย่างไร"


def chat(id_: str, *texts: str, stop: tuple[str, ...] = ()) -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[number % 2], text) for number, text in enumerate(texts))
    return Request(id_, messages, Sampling(40, stop=stop, seed=5))


def say(requests: Iterable[Request], *texts: str, reason: str = "stop") -> dict[str, Generation]:
    asked = list(requests)
    assert len(asked) == len(texts)
    return {r.id: Generation(r.id, text, tuple(range(len(text))), reason) for r, text in zip(asked, texts, strict=True)}


def through(*requests: Request, translator: Translator = ASKED, history: History | None = None) -> Round:
    return Round(requests, translator, ["th"], history or History())


def test_a_native_question_is_answered_in_english_between_two_translations() -> None:
    steps = through(chat("a", QUESTION, stop=("!",)))
    (asked,) = inward = list(steps.inward())
    assert asked.messages[0].content == DEFAULT.format(source=QUESTION, source_name="Thai", target_name="English")
    assert asked.sampling.stop == ("\n\n",)
    (english,) = list(steps.english(say(inward, " How is the weather? ")))
    assert english.messages == (Message("user", "How is the weather?"),)
    assert english.sampling == Sampling(40, seed=5)
    (back,) = outward = list(steps.outward(say([english], "It rains.")))
    assert "from English into Thai" in back.messages[0].content
    assert back.messages[0].content.endswith("It rains.")
    (answer,) = steps.answers(say(outward, "ฝนตก! มาก"))
    assert (answer.id, answer.text, answer.finish_reason) == ("a", "ฝนตก", "stop_string")
    assert answer.segments == (
        Segment("english_query", "How is the weather?", 21),
        Segment("english_reply", "It rains.", 9),
        Segment("native_reply", "ฝนตก! มาก", 9),
    )
    assert len(answer.token_ids) == 21 + 9 + 9


def test_english_and_anything_but_a_conversation_go_to_the_base_as_they_are() -> None:
    message = (Message("user", QUESTION),)
    plain = [
        chat("en", "How is the weather today in Bangkok?"),
        Request("prefill", message, Sampling(), prefill="x"),
        Request("translation", message, Sampling(), direct=True),
        Request("ids", message, Sampling(), prompt_ids=(1, 2)),
        Request("turn", message, Sampling(), turn=(Span("x", "text"),)),
    ]
    steps = through(*plain)
    assert list(steps.inward()) == []
    asked = list(steps.english({}))
    assert asked == plain
    replies = say(asked, *"abcde")
    assert list(steps.outward(replies)) == []
    assert list(steps.answers({})) == list(replies.values())


def test_a_graft_translates_sentence_by_sentence_behind_markers() -> None:
    steps = through(chat("a", f"{QUESTION}\n{QUESTION}"), translator=MARKED)
    inward = list(steps.inward())
    assert [[span.text for span in request.turn] for request in inward] == [["<TH>", QUESTION, "<EN>"]] * 2
    (english,) = asked = list(steps.english(say(inward, "One?", "Two?")))
    assert english.messages[-1].content == "One?\nTwo?"
    outward = list(steps.outward(say(asked, "It rains. It snows.", reason="length")))
    assert [request.turn[1].text for request in outward] == ["It rains.", "It snows."]
    (answer,) = steps.answers(say(outward, "ฝน", "หิมะ"))
    assert (answer.text, answer.finish_reason) == ("ฝน หิมะ", "length")
    assert MARKED.knows("th-TH")
    assert not MARKED.knows("de")
    assert ASKED.knows("de")


def test_a_conversation_goes_on_in_english() -> None:
    history = History()
    steps = through(chat("1", QUESTION), history=history)
    asked = list(steps.english(say(steps.inward(), "How is the weather?")))
    (answer,) = steps.answers(say(steps.outward(say(asked, "It rains.")), "ฝนตก"))
    follow = through(chat("2", QUESTION, answer.text, "พรุ่งนี้ล่ะ"), history=history)
    (english,) = follow.english(say(follow.inward(), "And tomorrow?"))
    assert [message.content for message in english.messages] == ["How is the weather?", "It rains.", "And tomorrow?"]


def test_a_question_that_is_not_translated_is_asked_as_it_is() -> None:
    steps = through(chat("a", QUESTION))
    (english,) = asked = list(steps.english(say(steps.inward(), " ")))
    assert english.messages == (Message("user", QUESTION),)
    (answer,) = steps.answers(say(steps.outward(say(asked, "It rains.")), "ฝนตก"))
    assert answer.segments[0] == Segment("english_query", "", 1)


def test_an_answer_without_words_needs_no_translation() -> None:
    steps = through(chat("a", QUESTION))
    replies = say(steps.english(say(steps.inward(), "How many?")), "42")
    assert list(steps.outward(replies)) == []
    (answer,) = steps.answers({})
    assert answer.text == "42"


def test_thoughts_are_neither_translated_nor_shown() -> None:
    thought = "<think>Hm: Wetter.</think>\n"
    steps = through(chat("a", QUESTION))
    (english,) = asked = list(steps.english(say(steps.inward(), f"{thought}How is the weather?")))
    assert english.messages == (Message("user", "How is the weather?"),)
    (back,) = outward = list(steps.outward(say(asked, f"{thought}It rains.")))
    assert "Hm" not in back.messages[0].content
    (answer,) = steps.answers(say(outward, f"{thought}ฝนตก"))
    assert answer.text == "ฝนตก"
    assert [segment.text for segment in answer.segments] == ["How is the weather?", "It rains.", "ฝนตก"]
    cut = ASKED.written("a", "Wetter", "de", "en", {"a:0": Generation("a:0", "<think>Hm", (1,), "length")})
    assert (cut.text, cut.thinking) == ("", True)


def test_what_the_user_sees_has_no_more_tokens_than_of_other_systems() -> None:
    steps = through(chat("a", QUESTION))
    asked = list(steps.english(say(steps.inward(), "How is the weather?")))
    (short,) = steps.outward(say(asked, "It rains."))
    assert short.sampling.max_new_tokens == 40  # of the request, where the translation of so short a text may have 82
    assert asked[0].sampling.max_new_tokens == 40
