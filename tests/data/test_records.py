"""Records survive JSON, and refuse what they do not know."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.record import Record
from lingraft.data.records import Example, Generation, Message, Pair, Prompt, Rejected, Request, Sampling, Span, Teacher

KINDS = [Message, Pair, Prompt, Sampling, Request, Generation, Teacher, Span, Example, Rejected]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_json_round_trip(kind: type[Record], data: st.DataObject) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    logprobs = st.tuples(st.tuples(st.tuples(st.integers(), numbers), st.tuples(st.integers(), numbers)))
    with_numbers = st.from_type(kind) if kind not in (Generation, Teacher, Span, Sampling) else st.builds(kind)
    if kind is Generation:
        with_numbers = st.builds(kind, logprobs=st.none() | logprobs)
    if kind is Teacher:
        with_numbers = st.builds(kind, logprobs=logprobs)
    if kind is Span:
        with_numbers = st.builds(kind, teacher=st.none() | st.builds(Teacher, logprobs=logprobs), weight=numbers)
    if kind is Sampling:
        with_numbers = st.builds(kind, temperature=numbers, top_p=numbers)
    if kind is Request:
        with_numbers = st.builds(kind, sampling=st.builds(Sampling, temperature=numbers, top_p=numbers))
    if kind is Example:
        with_numbers = st.builds(kind, spans=st.tuples(st.builds(Span, teacher=st.none(), weight=numbers)))
    record = data.draw(with_numbers)
    line = record.to_json()
    assert "\n" not in line
    again = kind.from_json(line)
    assert again == record
    assert type(again) is kind
    assert hash(again) == hash(record)  # lists would not hash: tuples and records came back as such


def test_defaults_are_left_out() -> None:
    assert Pair("1", "a", "b", "de", "en").to_dict() == {
        "id": "1",
        "source": "a",
        "target": "b",
        "source_lang": "de",
        "target_lang": "en",
    }
    assert json.loads(Example("1", (), (Span("x", "reply", weight=0.0),), False).to_json()) == {
        "id": "1",
        "messages": [],
        "spans": [{"text": "x", "role": "reply", "weight": 0.0}],
        "end_turn": False,
    }


def test_text_is_written_as_it_is() -> None:
    assert "Grüße 语" in Message("user", "Grüße 语").to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_and_missing_fields_are_refused(kind: type[Record]) -> None:
    with pytest.raises(TypeError, match="surprise"):
        kind.from_dict({"surprise": 1})
    if any(field.default is dataclasses.MISSING for field in dataclasses.fields(kind)):
        with pytest.raises(TypeError, match="missing"):
            kind.from_dict({})


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_immutable(kind: type[Record]) -> None:
    name = dataclasses.fields(kind)[0].name
    record = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, "x")


def test_the_reverse_of_a_pair() -> None:
    pair = Pair("1", "a", "b", "de", "en", "doc", ("c",))
    assert pair.reversed() == Pair("1:rev", "b", "a", "en", "de", "doc")
    again = pair.reversed().reversed()
    assert (again.source, again.target, again.source_lang) == ("a", "b", "de")
