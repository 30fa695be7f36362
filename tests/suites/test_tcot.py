"""Suite "tcot": values by hand, systems without chain, files of two languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sacrebleu.metrics import CHRF

from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.records import Generation, Message, Segment
from lingraft.suites.base import SUITES, Answers, AtHand, SuiteInputs
from lingraft.suites.tcot import ChainSuite, chrf, read_parallel
from lingraft.translation.markers import Markers

INPUTS = SuiteInputs(prompts=(), languages=("en", "th"), markers=Markers.for_languages(["th"]))
THAI = "วันนี้อากาศดี เราไปเดินเล่นที่สวนกัน"


def suite(folder: Path, **params: object) -> ChainSuite:
    rows = [
        {"Instruct_id": number, "instruction": f"What is number {number}?", "instruction_th": f"เลข {number} คืออะไร"}
        for number in range(4)
    ]
    pairs = [{"id": f"p{number}", "en": "Good weather", "th": "อากาศดี"} for number in range(3)]
    for name, values in (("prompts", rows), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in values), "utf-8")
    given = {"prompts": str(folder / "prompts.jsonl"), "english": False, **params}
    return ChainSuite(validated(ChainSuite.Params, given, "tcot"))


def answer(id_: str, text: str, *segments: Segment, reason: str = "stop") -> Generation:
    return Generation(id_, text, (1,), reason, segments=segments)


def chain(query: str, native: str, tokens: int = 3, forced: bool = False) -> tuple[Segment, ...]:
    return (
        Segment("english_query", query, tokens),
        Segment("english_reply", "Nice.", 5),
        Segment("native_reply", native, 7, forced),
    )


def test_it_is_registered() -> None:
    assert SUITES.get("tcot") is ChainSuite
    assert len(ChainSuite(ChainSuite.Params()).requests(INPUTS)) == 80


def test_each_step_is_measured(tmp_path: Path) -> None:
    one = suite(tmp_path)
    assert {request.messages for request in one.requests(INPUTS)} == {
        (Message("user", f"เลข {number} คืออะไร"),) for number in range(4)
    }
    generations = {
        "0": answer("0", THAI, *chain("What is number 0?", THAI)),
        "1": answer("1", THAI, *chain("Which number?", THAI, 5, forced=True), reason="length"),
        "2": answer("2", "The answer is in English, sadly.", *chain("", "", 1)),
        "3": answer("3", "", Segment("text", "", 2)),
    }
    found = {row.metric: row for row in one.score(INPUTS, Answers({}), Answers(generations))}
    values = {metric: [row.values[id_] for id_ in "0123"] for metric, row in found.items()}
    assert values["native_language"] == [1, 1, 0, 0]
    assert values["answered"] == [1, 1, 1, 0]
    assert values["format_failure"] == [0, 1, 1, 1]
    assert values["unfinished"] == [0, 1, 0, 0]
    assert values["forced_native"] == [0, 1, 0, 0]
    assert values["forced_english"] == values["forced_response"] == [0, 0, 0, 0]
    assert values["tokens_query"] == [3, 5, 1, 0]
    assert values["tokens_english"] == [5, 5, 5, 0]
    assert values["tokens_native"] == [7, 7, 7, 0]
    expected = CHRF().sentence_score("Which number?", ["What is number 1?"]).score
    assert values["query_chrf"] == [pytest.approx(100), pytest.approx(expected), 0, 0]
    assert not any(row.retains for row in found.values())
    assert {metric for metric, row in found.items() if row.better == "lower"} == {
        "english_cut",
        "format_failure",
        "unfinished",
        "forced_english",
        "forced_response",
        "forced_native",
    }


def test_an_english_answer_closed_by_the_limit_is_no_format_failure(tmp_path: Path) -> None:
    one = suite(tmp_path, max_new_tokens=4)
    cut = chain("What is number 0?", THAI, forced=True)  # its English answer has 4 tokens and the marker
    generations = {id_: answer(id_, THAI, *cut) for id_ in "0123"}
    generations["3"] = answer("3", THAI, cut[0], Segment("english_reply", "Nice.", 4), cut[2])
    found = {row.metric: row.values for row in one.score(INPUTS, Answers({}), Answers(generations))}
    assert [found["english_cut"][id_] for id_ in "0123"] == [1, 1, 1, 0]
    assert [found["format_failure"][id_] for id_ in "0123"] == [0, 0, 0, 1]


def test_a_marker_that_is_put_before_english_answers_is_counted(tmp_path: Path) -> None:
    one = suite(tmp_path, english=True)
    plain = {id_: answer(id_, "Nice.") for id_ in "0123"} | {
        f"english:{i}": answer(f"english:{i}", "x") for i in "0123"
    }
    put = {0: True, 1: False, 2: True, 3: True}
    through = {
        f"english:{i}": answer(f"english:{i}", "x", Segment("english_reply", "x", 2, forced))
        for i, forced in put.items()
    }
    found = {row.metric: row for row in one.score(INPUTS, Answers(plain), Answers(plain | through))}
    row = found["forced_response_english"]
    assert [row.values[id_] for id_ in "0123"] == [1, 0, 1, 1]
    assert (row.scale, row.better, row.retains) == (100.0, "lower", False)
    assert "forced_response_english" not in {row.metric for row in one.score(INPUTS, Answers(plain), Answers(plain))}


def test_a_system_without_chain_has_only_what_the_user_sees(tmp_path: Path) -> None:
    one = suite(tmp_path, pairs=str(tmp_path / "pairs.jsonl"))
    plain = Answers({id_: answer(id_, "ab " * 60) for id_ in "0123"})
    rows = one.score(INPUTS, plain, plain)
    assert [row.metric for row in rows] == ["native_language", "answered", "words"]
    assert set(rows[1].values.values()) == {0.0}
    with pytest.raises(DataError, match=r"^suite 'tcot' has no answer to request '"):
        one.score(INPUTS, plain, Answers({}))


def test_english_steps_are_held_against_the_answers_of_the_base(tmp_path: Path) -> None:
    one = suite(tmp_path, english=True)
    asked = [request for request in one.requests(INPUTS) if request.id.startswith("english:")]
    assert {request.messages[0].content for request in asked} == {f"What is number {number}?" for number in range(4)}
    base = Answers({f"english:{id_}": answer(id_, "Nice.") for id_ in "0123"} | {i: answer(i, "") for i in "0123"})
    own = {id_: answer(id_, THAI, *chain("What?", THAI)) for id_ in "012"} | {"3": answer("3", "")}
    own |= {f"english:{id_}": answer(id_, "Nice one.") for id_ in "0123"}
    found = {row.metric: row for row in one.score(INPUTS, base, Answers(own))}
    close = CHRF().sentence_score("Nice one.", ["Nice."]).score
    assert [found["english_chrf"].values[id_] for id_ in "0123"] == [pytest.approx(close)] * 4
    assert [found["step2_chrf"].values[id_] for id_ in "0123"] == [100, 100, 100, 0]
    of_base = {row.metric: row for row in one.score(INPUTS, base, base)}
    assert set(of_base["english_chrf"].values.values()) == {100.0}
    assert "step2_chrf" not in of_base


def test_the_last_step_alone(tmp_path: Path) -> None:
    one = suite(tmp_path, pairs=str(tmp_path / "pairs.jsonl"), max_pairs=2)
    asked = one.chain_requests(INPUTS)
    assert len(asked) == 2
    first = asked[0]
    assert [(span.role, span.text) for span in first.turn][::2] == [
        ("marker", "<EN>"),
        ("marker", "<RESPONSE>"),
        ("marker", "<TH>"),
    ]
    assert first.turn[3].text == "Good weather"
    number = first.turn[1].text.split()[-1].strip("?")
    assert first.messages[0].content == f"เลข {number} คืออะไร"  # query and prompt belong together
    generations = {id_: answer(id_, "") for id_ in "0123"}
    generations |= {asked[0].id: answer(asked[0].id, "อากาศดี"), asked[1].id: answer(asked[1].id, "ฝน")}
    (row,) = [row for row in one.score(INPUTS, Answers({}), Answers(generations)) if row.metric == "reply_chrf"]
    assert sorted(row.values.values()) == pytest.approx(sorted([100.0, chrf("ฝน", "อากาศดี")]))
    assert one.chain_requests(SuiteInputs((), ())) == []  # no markers in this run
    assert one.chain_requests(SuiteInputs((), (), markers=Markers.for_languages(["de"]))) == []
    assert suite(tmp_path).chain_requests(INPUTS) == []
    regional = suite(tmp_path, pairs=str(tmp_path / "pairs.jsonl"), max_pairs=2, language="th-TH")
    assert regional.chain_requests(INPUTS) == asked


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    for english in ("en", "en-GB", "eng_Latn"):
        with pytest.raises(UsageError, match="language"):
            suite(tmp_path, language=english)
    with pytest.raises(DataError, match="lacks the text in English or German"):
        suite(tmp_path, language="de").requests(INPUTS)
    path = tmp_path / "twice.jsonl"
    path.write_text('{"id": 1, "en": "a", "th": "ก"}\n' * 2, "utf-8")
    with pytest.raises(DataError, match="line 2 repeats"):
        read_parallel(str(path), "th")


@pytest.mark.parametrize(
    ("columns", "lang"),
    [
        (("en", "zho_Hans"), "zh"),
        (("instruction", "instruction_cmn_Hans"), "zh"),
        (("instruction", "instruction_iw"), "he"),
        (("prompt", "prompt_nb"), "no"),
    ],
)
def test_columns_are_found_under_any_code(tmp_path: Path, columns: tuple[str, str], lang: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(dict(zip(columns, ("Yes.", "是。"), strict=True))) + "\n", "utf-8")
    assert [(row.english, row.native) for row in read_parallel(str(path), lang).values()] == [("Yes.", "是。")]


def test_columns_of_another_script_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"en": "Yes.", "zh-TW": "是。"}\n', "utf-8")
    with pytest.raises(UsageError, match="the column 'zh-TW' is in the script Hant, 'zh' in Hans"):
        read_parallel(str(path), "zh")


def test_workload_counts_both_answers(tmp_path: Path) -> None:
    assert suite(tmp_path, max_new_tokens=10).workload(AtHand(0, 0)).answer_tokens == pytest.approx(0.7 * 10 * 8)
