"""Copies, preserved items and completeness against counting by hand."""

from __future__ import annotations

import pytest

from lingraft.data.records import Pair
from lingraft.evaluation.translation import score_all
from lingraft.metrics.base import METRICS, open_metric
from lingraft.metrics.preserved import placeholders, urls
from lingraft.metrics.surface import sentences


def _score(metric: str, rows: list[tuple[str, str, str]]) -> tuple[float | None, int]:
    """Return the score of (source, reference, hypothesis) rows, and on how many it was measured."""
    pairs = [Pair(str(n), source, reference, "de", "en") for n, (source, reference, _) in enumerate(rows)]
    texts = {str(n): hypothesis for n, (_, _, hypothesis) in enumerate(rows)}
    found = score_all({"x": texts}, pairs, "demo", [metric], n_bootstrap=20)
    return (found[0].score, found[0].n) if found else (None, 0)


def test_copied_source_leaves_out_what_a_reference_copies() -> None:
    rows = [
        ("Das Wetter ist heute schön.", "The weather is fine today.", "Das Wetter ist heute schön!"),
        ("Wir gehen morgen ins Kino.", "We go to the cinema tomorrow.", "Tomorrow we go to the cinema."),
        ("Wir gehen morgen ins Theater.", "We go to the theatre tomorrow.", "Wir gehen tomorrow to the theatre."),
        ("Hotel Adlon Kempinski Berlin", "Hotel Adlon Kempinski Berlin", "Hotel Adlon Kempinski Berlin"),
    ]
    assert _score("copied_source", rows) == (pytest.approx(100 / 3), 3)


def test_numbers_are_compared_by_their_value() -> None:
    rows = [
        ("Es kostet 1.200,50 Euro und 3 Tage.", "It costs 1,200.50 euros and 3 days.", "It costs €1,200.50."),  # 1 of 2
        ("Er hat 2 Kinder und 2 Hunde.", "He has two children and 2 dogs.", "He has 2 children, 2 dogs."),  # 1 of 1
        ("Kein Wort davon.", "Not a word of it.", "Not 1 word."),  # none is asked for
    ]
    assert _score("numbers", rows) == (pytest.approx(100 * 2 / 3), 2)
    rows = [
        ("Es waren 1.200.000 Leute.", "It was 1,200,000 people.", "It was 1.2 million people."),  # 1 of 1
        ("Um 22:05 im 20. Jahrhundert.", "At 10:05 p.m. in the 20th century.", "At 22:15 in century XX."),  # 1 of 2
        ("Es kostet 2,5 Mio. und 2,5 Mio.", "It costs 2.5 m and 2,500,000.", "It costs 2.5 million."),  # 1 of 2
        ("Sie hat 7 Hunde.", "She has 7 dogs.", "She has 17 dogs."),  # 0 of 1
    ]
    assert _score("numbers", rows) == (pytest.approx(100 * 3 / 6), 4)


def test_several_references_ask_for_what_any_of_them_keeps() -> None:
    pair = Pair("0", "Um 8 und um 9", "At eight and nine", "de", "en", references=("At 8 and at nine",))
    row = score_all({"x": {"0": "At 9"}}, [pair], "demo", ["numbers"], n_bootstrap=20)[0]
    assert row.score == 0  # only 8 is asked for


def test_urls_and_placeholders_are_found() -> None:
    text = "See https://example.org/a?b=1&c=(2), www.example.com. Write to a.b+c@mail.example.org!"
    assert urls(text) == ["https://example.org/a?b=1&c=", "www.example.com", "a.b+c@mail.example.org"]
    strings = 'Hello {name}, %s of %1$d, {{count}}, ${x}, <b>bold</b> <a href="u v">x</a><br/> %(n)s'
    expected = [
        "{name}", "%s", "%1$d", "{{count}}", "${x}", "<b>", "</b>", '<a href="u v">', "</a>", "<br/>", "%(n)s",
    ]  # fmt: skip
    assert placeholders(strings) == expected
    assert placeholders("50 % der Fälle, 5%ige Lösung, 100% sicher, 3 < 4 > 2, { x }") == []


def test_placeholders_and_urls_score() -> None:
    rows = [
        ("Hallo {name}, <b>%s</b>", "Hello {name}, <b>%s</b>", "Hello {Name}, <b>%s"),  # <b> and %s of four
        ("Siehe www.a.org.", "See www.a.org.", "See www.a.org"),
    ]
    assert _score("placeholders", rows) == (pytest.approx(50), 1)
    assert _score("urls", rows) == (100, 1)


def test_a_set_without_anything_to_preserve_has_no_row() -> None:
    assert _score("placeholders", [("Guten Tag", "Good day", "Good day")]) == (None, 0)
    assert _score("completeness", [("Ein Satz.", "A sentence.", "A sentence.")]) == (None, 0)


def test_sentences() -> None:
    text = "One. Two! \"Three?\" he said… 'Four.' End"
    assert sentences(text) == ["One.", "Two!", '"Three?', "he said…", "'Four.", "End"]
    assert sentences("第一句。第二句！“第三句？”最后") == ["第一句。", "第二句！", "“第三句？", "最后"]
    assert sentences("Title\n\n- item 1.5\n...\n") == ["Title", "- item 1.5"]
    assert sentences("पहला वाक्य। दूसरा वाक्य।") == ["पहला वाक्य।", "दूसरा वाक्य।"]


def test_completeness_counts_sentences_and_lines_once() -> None:
    source = "Eins kommt. Zwei kommt. Drei kommt. Vier kommt."
    reference = "One comes. Two comes. Three comes. Four comes."
    rows = [
        (source, reference, "One comes. Two comes."),  # half
        (source, reference, "One comes. One comes. One comes. One comes."),  # a loop: a quarter
        (source, reference, reference + " And more."),  # all
        ("Titel\nZeile\nEnde", "Title\nLine\nEnd", "Title\nLine"),  # lines are told by their breaks: 2 of 3
        ("Eins. Zwei. Drei.", "One and two. Three.", "One and two and three."),  # the reference joins: 1 of 2
    ]
    assert _score("completeness", rows) == (pytest.approx(100 * (2 + 1 + 4 + 2 + 1) / (4 + 4 + 4 + 3 + 2)), 5)


def test_every_metric_says_what_it_is_and_has_defaults() -> None:
    for name in METRICS:
        entry = METRICS.get(name)
        assert entry.name == name
        assert 10 < len(entry.summary) < 100
        assert all(field.description for field in entry.Params.model_fields.values())
        runs = "run_code" in entry.Params.model_fields  # what a system writes: to be allowed in so many words
        entry.Params(**({"run_code": True} if runs else {}))
    assert open_metric({"kind": "bleu", "name": "bleu-char", "tokenize": "char"}).name == "bleu-char"
