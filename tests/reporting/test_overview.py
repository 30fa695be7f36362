"""What stands at the top of the report: time, tokens, numbers of items, gates."""

from __future__ import annotations

import dataclasses

from fuller import enriched
from lingraft.evaluation.gate import check_gates, parse_gate
from lingraft.reporting.contents import ReportContents, Work
from lingraft.reporting.overview import few_items_warnings, gate_box, measured_words, work_words
from lingraft.reporting.report import render_report
from lingraft.reporting.tables import Names


def test_time_and_tokens_of_the_run() -> None:
    assert work_words(Work(400.0, 7249, 4088)) == "7 min in all stages, 7,249 tokens trained on, 4,088 tokens written"
    assert work_words(Work(12.0)) == "12 s in all stages"
    assert work_words(None) == ""


def test_numbers_of_segments_and_items_and_where_they_are_few(contents: ReportContents) -> None:
    card = contents.scorecard
    assert measured_words(card) == "480 segments in 2 test sets and directions, 104 items of 2 suites"
    assert few_items_warnings(card) == [
        "Few items: refusal has 44 items. With fewer than 100 segments or 50 items intervals are wide: "
        "a difference that is not significant here may still be a large one."
    ]
    for n, suite, few in ((100, 50, False), (99, 50, True), (100, 49, True)):
        sized = card.model_copy(
            update={
                "translation": [row.model_copy(update={"n": n}) for row in card.translation],
                "general": [row.model_copy(update={"n": suite}) for row in card.general],
            }
        )
        assert bool(few_items_warnings(sized)) is few
    kinds = [
        row.model_copy(update={"suite": "routing", "retention": None, "signature": "", "n": n})
        for n, row in zip((322, 4), card.general, strict=False)
    ]
    assert few_items_warnings(card.model_copy(update={"translation": [], "general": kinds})) == []
    one = card.model_copy(
        update={"translation": [card.translation[0].model_copy(update={"n": 1})], "general": card.general[:1]}
    )
    assert measured_words(one) == "1 segment, 60 items of a suite"
    assert few_items_warnings(one)[0].startswith("Few items: test.de-en de-en has 1 segment. ")
    nothing = card.model_copy(update={"translation": [], "general": []})
    assert measured_words(nothing) == ""
    assert few_items_warnings(nothing) == []


def test_gates_say_the_end_of_the_interval_that_is_compared(contents: ReportContents) -> None:
    card, names = contents.scorecard, Names.of(contents.scorecard, "radis")
    rules = ("gain>=3.7", "gain>=4", "vanilla:off_target.score<=3", "extraction_failure_percent<=1")
    box = gate_box(check_gates(map(parse_gate, rules), card, ["radis"]), names)
    assert box is not None
    assert box.title == "Gates: 3 of 4 met"
    assert [(line.mark, line.rule, line.system.text, line.where, line.found) for line in box.lines] == [
        ("met", "gain>=3.7", "radis", "", "lower end 3.78 of 4.595 [3.78, 5.41], two-sided 95 %"),
        (
            "missed",
            "gain>=4",
            "radis",
            "",
            "lower end 3.78 of 4.595 [3.78, 5.41], two-sided 95 %",
        ),  # the value alone reaches it
        ("met", rules[2], "vanilla", "test.de-en de-en", "upper end 0.641 of 0.42 [0.199, 0.641], two-sided 95 %"),
        ("met", rules[2], "vanilla", "test.en-zh en-zh", "upper end 1.512 of 1.25 [0.9875, 1.512], two-sided 95 %"),
        ("met", rules[3], "radis", "", "0.42, no interval"),
    ]
    unmeasured = gate_box(check_gates([parse_gate("gain>=0")], card, ["base"]), names)
    assert unmeasured is not None
    assert [(line.mark, line.found) for line in unmeasured.lines] == [("missed", "not measured")]
    assert gate_box([], names) is None


def test_the_top_of_the_page_has_them(contents: ReportContents) -> None:
    full = enriched(contents)
    head = render_report(full).partition("<nav")[0]
    assert "1.0 h in all stages, 489,600 tokens trained on, 12,345 tokens written" in head
    assert 'data-mark="missed">missed</span> <code>chrf++.gain&gt;=4</code>' in head
    assert "lower end 3.78 of 4.595" in head
    bare = render_report(dataclasses.replace(full, gates=(), work=None)).partition("<nav")[0]
    assert "Gates" not in bare
    assert "<dt>Work</dt>" not in bare
