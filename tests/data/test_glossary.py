"""Glossaries: what a file says, which terms a text has, and what is wrong with a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import DataError
from lingraft.data.glossary import Term, read_glossary

GIVEN = [
    Term("Netz", "network", "de", "en"),
    Term("neuronales Netz", "neural network", "de", "en"),
    Term("Lingraft", "Lingraft"),
    Term("Netz", "réseau", "de", "fr"),
]


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "terms.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "Netz,network,de,en\nneuronales Netz,neural network,de,en\n\nLingraft,\nNetz,réseau,de,fr\n",
        "\ufeffsource;target;source_lang;target_lang\r\nNetz;network;de;en\r\n"
        " neuronales  Netz;neural network;de;en\r\nLingraft;Lingraft\r\nNetz;réseau;de;fr\r\nNetz;réseau;de;fr\r\n",
        "target_lang\ttarget\tsource\tsource_lang\nen\tnetwork\tNetz\tde\nen\tneural network\tneuronales Netz\tde\n"
        "\t\tLingraft\nfr\tréseau\tNetz\tde\n",
    ],
)
def test_terms_are_read_with_or_without_names_of_columns(text: str, tmp_path: Path) -> None:
    assert list(read_glossary(write(tmp_path, text)).terms) == GIVEN


def test_the_longest_term_is_taken_and_those_of_other_directions_are_not(tmp_path: Path) -> None:
    glossary = read_glossary(write(tmp_path, "Netz,net\nNetz,network,de,en\nneuronales Netz,neural network\nC++,\n"))
    find = lambda text, *way: [one.target for one in glossary.terms_in(text, *way)]  # noqa: E731
    assert find("Ein neuronales Netz in C++", "de", "en") == ["neural network", "C++"]
    assert find("Das Netz, ein neuronales Netz, das Netz", "de", "en") == ["network", "neural network"]
    assert find("Das Netz", "de-AT", "en-GB") == ["network"]
    assert find("Das Netz", "de", "fr") == ["net"]
    assert find("Nichts davon: Netto", "de", "en") == []


def test_a_term_is_in_a_translation_inflected_and_one_that_stays_as_it_is() -> None:
    assert Term("Netz", "network").is_in("Two Networks.", "en")
    assert not Term("Netz", "network").is_in("Two nets.", "en")
    assert Term("Acme Go", "Acme Go").is_in("With Acme Go!", "en")
    assert not Term("Acme Go", "Acme Go").is_in("With acme go!", "en")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\nNetz\n", "line 2: 'Netz' has no translation; write `term,translation`, or `term,` to keep"),
        ("a,b\n,net\n", "line 2: the term is missing, and only 'net' is there"),
        ("a,b,de,en,x\n", "line 1: it has 5 cells for 4 columns; quote a cell that has a comma"),
        ("a,b\na,c\n", "line 2: 'a' is 'c' here and 'b' in line 1; leave one of them out, or give them languages"),
        ("a,b,klingonisch!\n", "line 1: source_lang: "),
        ("source,target,note\na,b,c\n", "line 1: the column 'note' is unknown or stands there twice"),
        ('a,b\n"c,d\n', "line 2: .*close its quotation marks"),
        ("source,target\n", "the glossary has no terms; write one a line"),
        (b"a,b\nNetz,r\xe9seau\n", "line 2: it is not UTF-8; convert the file with `iconv"),
        ("a," + "b" * 201, "line 1: 'bbb.* has more than 200 characters; give terms, not texts"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(text: str | bytes, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what) as error:
        read_glossary(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        read_glossary(str(tmp_path / "none.csv"))
