"""Marked-up texts in runs: which parts are shown to the model, and that no tag is ever lost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import DataError
from lingraft.translation.markup import TagRules, runs

XML = TagRules(kind="xml")
HTML = TagRules()


def shown(text: str, rules: TagRules) -> list[str]:
    """Return what the model is asked for."""
    return [run.asked for run in runs(text, rules) if run.asked]


@pytest.mark.parametrize(
    ("text", "rules", "expected"),
    [
        ("<p>One <b>two</b></p><p>three</p>", HTML, ["One <1>two</1>", "three"]),
        ("<b>Whole</b>", HTML, ["Whole"]),
        ("<p> <b>Bold</b> and<br>more<br></p>", HTML, ["<1>Bold</1> and<2/>more"]),
        ("one\n   two &amp; &lt;three&gt;", HTML, ["one two & <three>"]),
        ("a <span translate=no>Name <i>x</i></span> b", HTML, ["a <1/> b"]),
        ('a <em class="x notranslate">Name</em> b', HTML, ["a <1/> b"]),
        ("a <code>if x</code> b", HTML, ["a <1/> b"]),
        ("<script>if (a<b) c</script><style>p>q {}</style>x", HTML, ["x"]),
        ("<!-- no --><p>yes</p>", HTML, ["yes"]),
        ("one </i>two <b>three", HTML, ["one <1/>two <2/>three"]),
        ("<P>One <B>two</b></P>", HTML, ["One <1>two</1>"]),
        ('<a title="a > b">x</a> y', HTML, ["<1>x</1> y"]),
        ("<doc><title>One</title><par>Two. Three.</par></doc>", XML, ["One", "Two. Three."]),
        ("Two <x/>and <g><h>three</h></g>", XML, ["Two <1/>and <2><3>three</3></2>"]),
        ("<a>one</a><b>two</b>", TagRules(kind="xml", outline=False), ["<1>one</1><2>two</2>"]),
        ("one <par>two</par>", TagRules(kind="xml", splitting=["par"]), ["one", "two"]),
        ("<a>one</a><b>two</b>", TagRules(kind="xml", within=["a", "b"]), ["<1>one</1><2>two</2>"]),
        ("one <x>two</x> three", TagRules(kind="xml", kept=["x"]), ["one <1/> three"]),
        ("<?xml version='1.0'?><d><![CDATA[x]]>12</d>", XML, []),
    ],
)
def test_what_the_model_is_shown(text: str, rules: TagRules, expected: list[str]) -> None:
    assert shown(text, rules) == expected


def test_tags_are_put_where_the_model_has_put_them() -> None:
    (run,) = runs('A <b>big</b> <a href="x">house</a><br/>', HTML)
    assert run.asked == "A <1>big</1> <2>house</2>"
    assert run.filled("<2>Haus</2> & <1>groß</1>") == '<a href="x">Haus</a> &amp; <b>groß</b><br/>'
    assert run.filled("< 1 >Groß</1>, <2>Haus</2>") == '<b>Groß</b>, <a href="x">Haus</a><br/>'


@pytest.mark.parametrize(
    "written",
    [
        "Haus",
        "<1>groß</1>",
        "<1>a</1><2>b</2><2>c</2>",
        "<1>a<2>b</1></2>",
        "</1>a<1><2>b</2>",
        "<1/>a<2>b</2>",
        "<1>a</1><2>b</2><3/>",
    ],
)
def test_tags_that_are_not_all_there_once_are_not_kept(written: str) -> None:
    (run,) = runs('A <b>big</b> <a href="x">house</a>', HTML)
    assert run.filled(written) is None
    assert run.texts == ["A ", "big", "house"]
    assert run.filled_apart(["Ein", "großes", "Haus"]) == 'Ein <b>großes</b> <a href="x">Haus</a>'


def test_a_text_that_looks_like_a_numbered_tag_is_translated_apart() -> None:
    (run,) = runs("see &lt;1&gt; <b>here</b>", HTML)
    assert run.filled("siehe <1> <1>hier</1>") is None
    assert run.filled_apart(["siehe <1>", "hier"]) == "siehe &lt;1&gt; <b>hier</b>"


@pytest.mark.parametrize(
    "text", ["<p", "<!-- x", "<a></b>", "<a>", "a < b", "</a>", "<![CDATA[x", "<a 'x>y</a>", "<?x"]
)
def test_tags_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="tags cannot be read"):
        runs(text, XML)


def test_a_script_without_an_end_is_refused() -> None:
    with pytest.raises(DataError, match="not closed"):
        runs("<script>x", HTML)


PIECES = st.sampled_from(
    [
        "<b>",
        "</b>",
        "<p>",
        "</p>",
        "<br>",
        "<i class='x'>",
        "</i>",
        " ",
        "word",
        "a b",
        "&amp;",
        "<!-- x -->",
        "<code>",
        "</code>",
        "\n",
    ]
)


@given(st.lists(PIECES, max_size=14))
def test_an_unchanged_translation_leaves_the_text_as_it_is(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = runs(text, HTML)
    plain = text
    for fill in (lambda run: run.filled(run.asked), lambda run: run.filled_apart(run.texts)):
        made = "".join(fill(run) for run in found)
        assert "".join(made.split()) == "".join(plain.split())


@pytest.mark.parametrize("piece", ["<b>", "</b>", "<b></i>", "x<!-- -->", "< ", "<code>x</code>"])
def test_the_work_grows_with_the_length(piece: str) -> None:
    def seconds(count: int) -> float:
        begun = time.process_time()
        runs(piece * count, HTML)
        return time.process_time() - begun

    part = min(seconds(1000) for _ in range(3))
    assert seconds(8000) < 40 * part + 0.05


def test_empty_texts_have_no_parts() -> None:
    nothing: list[Any] = []
    assert runs("", HTML) == nothing
