"""Where terms stand in texts."""

from __future__ import annotations

import pytest

from lingraft.language.terms import find_term, shown


@pytest.mark.parametrize(
    ("term", "text", "code", "found"),
    [
        ("Vertrag", "Der Vertrag gilt.", "de", ["Vertrag"]),
        ("Vertrag", "Nach den VERTRÄGEN, vertragliche", "de", ["VERTRÄGEN"]),
        ("Vertrag", "Er vertritt sie.", "de", []),
        ("station", "It is static.", "en", []),
        ("Rad", "Das Radio, ein Fahrrad und ein Rad", "de", ["Rad"]),
        (
            "neuronales Netz",
            "neuronales\nNetz, neuronalen Netzen",
            "de",
            ["neuronales\nNetz", "neuronalen Netzen"],
        ),
        ("IT", "Give it to IT: the ITs.", "en", ["IT", "ITs"]),
        ("C++", "C, c++ and C++11", "en", ["c++", "C++"]),
        ("node.js", "Node.js, nodes, xnode.js", "en", ["Node.js"]),
        ("договор", "условия договора", "ru", ["договора"]),
        ("天气", "今天天气很好", "zh", ["天气"]),
        ("gpu", "这个GPU很快", "zh", ["GPU"]),
        ("서울", "서울은 크다", "ko", ["서울은"]),
        ("caf\u00e9", "Cafe\u0301s", "fr", ["Caf\u00e9s"]),
        ("Wort", "", "de", []),
    ],
)
def test_a_term_is_found_in_whole_words_and_inflected(term: str, text: str, code: str, found: list[str]) -> None:
    text = shown(text)
    assert [text[start:end] for start, end in find_term(term, text, code)] == found
