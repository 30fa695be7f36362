"""Every format: the same bytes untouched, the same structure translated, and refusals of one sentence."""

from __future__ import annotations

import random

import pytest

from document_samples import CASES, Case
from lingraft.core.errors import DataError
from lingraft.documents.base import DOCUMENTS, Document, Filled
from lingraft.documents.inline import breaks_fit, problems
from lingraft.documents.verification import spoiling

NAMES = [pytest.param(case, id=f"{case.format}-{case.name}") for case in CASES]


def read(case: Case, data: bytes | None = None) -> Document:
    kind = DOCUMENTS.create({"kind": case.format, **case.params})
    return kind.parse(case.data if data is None else data, "the file", "de", "en")


def test_every_format_has_cases() -> None:
    assert {case.format for case in CASES} == set(DOCUMENTS)


@pytest.mark.parametrize("case", NAMES)
def test_untouched_it_is_the_same_bytes(case: Case) -> None:
    document = read(case)
    assert document.written({}) == case.data
    assert [one.text for one in document.segments] == case.texts
    assert len({one.id for one in document.segments}) == len(document.segments)
    assert all(not problems(one, one.text) and breaks_fit(one, one.text) for one in document.segments)
    assert all(1 <= one.line <= case.data.count(b"\n") + 1 for one in document.segments)


@pytest.mark.parametrize("case", NAMES)
def test_translated_it_keeps_its_structure_and_says_what_was_put_in(case: Case) -> None:
    document = read(case)
    filled = {one.id: Filled(one.text.upper()) for one in document.segments}
    written = document.written(filled)
    again = read(case, written)
    assert list(again.shape()) == list(document.shape())
    expected = case.expected.encode() if isinstance(case.expected, str) else case.expected
    assert written == expected


@pytest.mark.parametrize("case", NAMES)
def test_some_translations_leave_all_else_as_it_was(case: Case) -> None:
    document, draw = read(case), random.Random(7)
    for _ in range(3):
        some = {one.id: Filled(one.text.upper()) for one in document.segments if draw.random() < 0.5}
        again = read(case, document.written(some))
        assert list(again.shape()) == list(document.shape())


@pytest.mark.parametrize("name", sorted({*DOCUMENTS} - {"docx"}))  # which is no text
def test_what_is_not_utf_8_names_its_line(name: str) -> None:
    case = next(one for one in CASES if one.format == name)
    kind = DOCUMENTS.create({"kind": name, **case.params})
    with pytest.raises(DataError, match=r"line \d+") as caught:
        kind.parse(b"Gut\n\n\xff\xfe\n", "the file", "de", "en")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", NAMES)
def test_hostile_translations_never_break_the_file(case: Case) -> None:
    """What a model may write: markup of every kind, in front of and behind the text."""
    document = read(case)
    kind = DOCUMENTS.create({"kind": case.format, **case.params})
    for poison in (
        "# ",
        "- ",
        "</p>",
        '"',
        "'",
        "\\",
        "]]>",
        "&",
        "<b>",
        "```",
        "| ",
        ": ",
        ",",
        "{{",
        "%s",
        "--> ",
        "\t",
    ):
        filled = {one.id: Filled(f"{poison}{one.text}{poison}") for one in document.segments}
        bad = set(spoiling(document, kind, filled, "de", "en"))
        good = {key: one for key, one in filled.items() if key not in bad}
        assert list(read(case, document.written(good)).shape()) == list(document.shape())
