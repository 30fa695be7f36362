"""How a translation is asked for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import UsageError
from lingraft.data.records import Message, Pair
from lingraft.translation.wording import DEFAULT, VARIANTS, ask, ask_for, check_wording


def pair(id_: str, source: str = "Guten Tag.") -> Pair:
    return Pair(id_, source, "Hello.", "de", "pt-BR")


def test_the_default_names_both_languages_in_english() -> None:
    text = "Translate the following text from German into Portuguese (Brazil).\n\nGuten Tag."
    assert ask(DEFAULT, "Guten Tag.", "de", "pt-BR") == (Message("user", text),)
    assert VARIANTS[0] == DEFAULT


@pytest.mark.parametrize("wording", VARIANTS)
@given(source=st.text())
def test_the_source_is_put_in_as_it_is(wording: str, source: str) -> None:
    assert check_wording(wording) == wording
    (message,) = ask(wording, source, "de", "en")
    before, after = wording.replace("{source_name}", "German").replace("{target_name}", "English").split("{source}")
    assert message.content == before + source + after


@pytest.mark.parametrize(
    ("wording", "complaint"),
    [
        ("Translate.", "has no {source}"),
        ("Translate {{source}}", "has no {source}"),
        ("Translate {text}", "unknown field 'text'"),
        ("Translate {source} {}", "unknown field ''"),
        ("Translate {0}", "unknown field '0'"),
        ("Translate {source.__class__}", "unknown field 'source.__class__'"),
        ("Translate {source[0]}", "unknown field 'source[0]'"),
        ("Translate {source!r}", "unknown field 'source!r'"),
        ("Translate {source:.3}", "unknown field 'source:.3'"),
        ("Translate {source:>9999999999}", "unknown field 'source:>9999999999'"),
        ("Translate {source} {", "'{'"),
        ("Translate {source} }", "'}'"),
    ],
)
def test_a_wording_that_cannot_be_filled_in_is_refused(wording: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_wording(wording)
    assert complaint in str(caught.value)
    assert wording in str(caught.value)


@given(st.text(alphabet="{}source_nametarg!:.[]0 x", max_size=40))
def test_an_accepted_wording_can_always_be_filled_in(wording: str) -> None:
    try:
        check_wording(wording)
    except UsageError:
        return
    assert "\ue000" in ask(wording, "\ue000", "de", "en")[0].content


def test_varied_wordings_are_drawn_by_the_pairs_id_and_seed_alone() -> None:
    pairs = [pair(f"p{i}") for i in range(2000)]
    first = {each.id: ask_for(each, VARIANTS, seed=1) for each in pairs}
    assert {each.id: ask_for(each, VARIANTS, seed=1) for each in reversed(pairs)} == first
    counts = Counter(first.values())
    assert len(counts) == len(VARIANTS)
    expected = 2000 / len(VARIANTS)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 18.5  # p = 0.001 with 4 degrees of freedom
    assert {each.id: ask_for(each, VARIANTS, seed=2) for each in pairs} != first
    assert ask_for(pairs[0], [DEFAULT], seed=3) == ask(DEFAULT, "Guten Tag.", "de", "pt-BR")
