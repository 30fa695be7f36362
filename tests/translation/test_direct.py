"""Direct translation: the request, and what is taken out of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.data.records import Generation, Message, Sampling
from lingraft.language.characters import is_blank
from lingraft.translation.direct import Source, Translation, extract, one_line, requests
from lingraft.translation.wording import TranslationSystem

SOURCE = Source("s1", "Das Wetter ist schön.", "de", "en")
LONG = Source("s2", "Eins.\n\nZwei.", "de", "en")


def extracted(text: str, finish: str = "stop", source: Source = SOURCE) -> tuple[str, str]:
    found = extract(source, Generation(source.id, text, (5, 6, 7), finish))
    assert (found.id, found.tokens) == (source.id, 3)
    return found.text, found.failure


def test_each_source_is_asked_for_greedily_as_in_training() -> None:
    one, two = requests([SOURCE, LONG], TranslationSystem(stop=("\nNote:",)), Sampling(77, seed=3))
    assert (one.id, two.id) == ("s1", "s2")
    text = "Translate the following text from German into English.\n\nDas Wetter ist schön."
    assert one.messages == (Message("user", text),)
    sampling = one.sampling
    assert (sampling.temperature, sampling.max_new_tokens, sampling.stop) == (0.0, 77, ("\nNote:",))
    assert (sampling.seed, one.prefill, one.top_logprobs) == (3, "", 0)
    assert one.direct  # whoever answers, without a chain of thought


@pytest.mark.parametrize("finish", ["stop", "stop_string"])
def test_a_translation_is_taken_without_the_white_space_around_it(finish: str) -> None:
    assert extracted(" The weather is nice.\n", finish) == ("The weather is nice.", "")
    assert extracted("One.\n\nTwo.", finish, LONG) == ("One.\n\nTwo.", "")
    assert extracted("One.\nTwo.", finish) == ("One.\nTwo.", "")  # a line break is no new paragraph


@pytest.mark.parametrize("text", ["", "  \n\n "])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_nothing_written_is_a_failure(text: str, finish: str) -> None:
    assert extracted(text, finish) == ("", "empty")


def test_an_unfinished_translation_is_kept_as_it_is() -> None:
    assert extracted("The weather is", "length") == ("The weather is", "unfinished")
    assert extracted("One.\n\nTw", "length", LONG) == ("One.\n\nTw", "unfinished")


def test_thoughts_are_none_of_the_translation() -> None:
    thought = "<think>\nOkay, the user wants English.\n\nWeather.\n</think>\n\n"
    found = extract(SOURCE, Generation("s1", f"{thought}The weather is nice.", (5, 6, 7), "stop"))
    assert found == Translation("s1", "The weather is nice.", 3, "", thought=True)
    assert extracted(f"{thought}Translation:\nThe weather is nice.")[1] == "preamble"
    assert extracted("<think>\n\n</think>\n\nThe weather is nice.") == ("The weather is nice.", "")
    assert not extract(SOURCE, Generation("s1", "<think></think>Fine.", (1,), "stop")).thought


def test_lines_that_show_nothing_are_no_lines() -> None:
    assert extracted("English:\n\u200b") == ("English:\n\u200b", "")
    assert extracted("The weather is nice.\n\n\u200b")[0] == "The weather is nice."


@pytest.mark.parametrize("text", ["<think>\nOkay, so", "[THINK]So[/THINK]", "Okay, so\n</think>\n", "<seed:think>So"])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_thoughts_alone_are_a_failure(text: str, finish: str) -> None:
    assert extracted(text, finish) == ("", "thinking")


def test_tags_that_are_translated_are_text() -> None:
    source = Source("s3", "<think>Nein</think>", "de", "en")
    assert extracted("<think>No</think>", source=source) == ("<think>No</think>", "")


@pytest.mark.parametrize(
    "text",
    [
        "Here is the English translation:\n\nThe weather is nice.",
        "Translation:\nThe weather is nice.",
        "Sure, in English:\n\nThe weather is nice.",
        "English (translated) :\nThe weather is nice.",
    ],
)
def test_an_announcement_is_a_failure_and_kept(text: str) -> None:
    assert extracted(text) == (text, "preamble")


def test_an_announcement_may_leave_out_the_script() -> None:
    source = Source("s1", "Das Wetter ist schön.", "de", "zh-Hans")
    assert extracted("Chinese:\n\n今天天气很好。", source=source) == ("Chinese:\n\n今天天气很好。", "preamble")


def test_a_colon_of_the_source_is_no_announcement() -> None:
    source = Source("s", "English breakfast:\nEggs", "en", "de")
    assert extracted("English breakfast:\nEier", source=source)[1] == ""
    assert extracted("The weather:\nnice")[1] == ""
    assert extracted("The English translation:")[1] == ""  # nothing follows: it may be the translation itself


def test_a_rationale_without_its_delimiter_is_cut_off_and_named() -> None:
    text = "The weather is nice.\n \nThe adjective comes last.\n\nMore"
    assert extracted(text) == ("The weather is nice.", "extra_text")
    assert extracted(text, "length") == ("The weather is nice.", "extra_text")
    assert extracted(text, source=LONG) == (text, "")


STOP = ("\nNote:",)
MANUAL = Source("m", "Gerät reinigen.\n\nAnmerkung: Vorher ausschalten.\n\nTrocknen lassen.", "de", "en")
TRANSLATED = "Clean the device.\n\nNote: Switch it off first.\n\nLet it dry."
LIST = Source("l", "Öffnen.\nAnmerkung: Vorsicht, heiß.\nSchließen.", "de", "en")
LISTED = "Open.\nNote: Careful, hot.\nClose."
RATIONALE = "\n\nNote: In German, the verb goes to the end.\n\nIt is an infinitive."


@pytest.mark.parametrize(
    ("source", "written", "expected"),
    [
        (MANUAL, TRANSLATED + RATIONALE, (TRANSLATED, "")),
        (MANUAL, TRANSLATED, (TRANSLATED, "")),  # without a rationale, its own note is not taken for one
        (LIST, LISTED + RATIONALE, (LISTED, "")),
        (LIST, LISTED.replace("\n", " ") + RATIONALE, (LISTED.replace("\n", " "), "")),  # lines put together
        (SOURCE, "The weather is nice." + RATIONALE, ("The weather is nice.", "")),
        (LONG, "One.\n\nTwo.\nNote: eins is one.", ("One.\n\nTwo.", "")),
        # Fewer paragraphs than the source: it may have been cut, or they were put together. That is said.
        (LONG, "One. Two." + RATIONALE, ("One. Two.", "delimiter_in_source")),
        (LONG, "One. Two.\n\nNote: eins is one.", ("One. Two.", "delimiter_in_source")),
        (MANUAL, "Clean it.\n\nNote: Switch it off.", ("Clean it.", "delimiter_in_source")),
    ],
)
def test_only_what_is_behind_the_translation_is_cut_off(
    source: Source, written: str, expected: tuple[str, str]
) -> None:
    (asked,) = requests([source], TranslationSystem(stop=tuple(STOP)), Sampling(77))
    assert asked.sampling.stop == (STOP if source is SOURCE else ())  # an engine would stop at the source's own note
    found = extract(source, Generation(source.id, written, (5,), "stop"), STOP)
    assert (found.text, found.failure) == expected


def test_a_delimiter_within_a_line_is_counted() -> None:
    source = Source("s", "a ### b", "de", "en")
    (asked,) = requests([source], TranslationSystem(stop=("###",)), Sampling(77))
    assert asked.sampling.stop == ()
    for written, expected in (
        ("x ### y ### why", ("x ### y", "")),
        ("x ### y", ("x ### y", "")),  # it has as many as the source
    ):
        found = extract(source, Generation("s", written, (5,), "stop"), ("###",))
        assert (found.text, found.failure) == expected
    (plain,) = requests([SOURCE], TranslationSystem(stop=("###",)), Sampling(77))
    assert plain.sampling.stop == ("###",)


def test_a_rationale_that_is_cut_leaves_the_translation_whole() -> None:
    found = extract(MANUAL, Generation("m", TRANSLATED + "\n\nNote: In Ger", (5,), "length"), STOP)
    assert (found.text, found.failure) == (TRANSLATED, "")
    found = extract(MANUAL, Generation("m", "Clean the device.\n\nNote: Switch it", (5,), "length"), STOP)
    assert found.failure == "delimiter_in_source"
    cut = extract(MANUAL, Generation("m", "Clean the device.", (5,), "stop_string"))
    assert cut.failure == "delimiter_in_source"  # an engine that stopped all the same


@given(st.text(), st.sampled_from(["stop", "stop_string", "length"]), st.sampled_from([SOURCE, LONG]))
def test_any_answer_is_read_and_what_is_taken_was_written(text: str, finish: str, source: Source) -> None:
    found = extract(source, Generation(source.id, text, (), finish))
    assert found.text in text
    assert found.text == found.text.strip()
    assert found.failure in ("", "empty", "preamble", "extra_text", "delimiter_in_source", "unfinished")
    assert (found.failure == "empty") == is_blank(text)
    assert Translation.from_json(found.to_json()) == found


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert "".join(line.split()) == "".join(text.split())
    assert "  " not in line
