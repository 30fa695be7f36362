"""Decoder `glossary`: what stands in a request, and what is said of the translation."""

from __future__ import annotations

from pathlib import Path

import pytest

from decoding import Asked, decoder_inputs, made
from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Sampling
from lingraft.decoders.base import Surroundings, decoded
from lingraft.engines.scripted import Rule
from lingraft.translation.direct import Source, requests
from lingraft.translation.wording import TranslationSystem

SOURCES = [
    Source("a", "Lingraft {mag} neuronale Netze.", "de", "en"),
    Source("b", "Guten Tag.", "de", "en"),
    Source("c", "Das Netz.", "de", "en"),
]
SYSTEM = TranslationSystem("Into {target_name}: {source}", stop=("\nNote:",))
RULES = [Rule(pattern="mag", answer="Lingraft likes neural networks."), Rule(answer="The net.\nNote: short")]


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "terms.csv"
    file.write_text("Netz,network\nneuronales Netz,{neural} network\nLingraft,\n", "utf-8")
    return str(file)


def test_terms_of_the_source_stand_before_its_request(path: str) -> None:
    asked = Asked(RULES)
    found = decoded(made("glossary", path=path), SOURCES, SYSTEM, decoder_inputs(asked, sampling=Sampling(9, seed=3)))
    ((_, of, listed),) = asked.steps
    assert of == "system"
    before = "Use these translations of terms, inflected as the sentence needs:\n"
    assert listed[0].messages[-1].content == (
        f"{before}Lingraft = Lingraft (keep as it is)\nneuronales Netz = {{neural}} network\n\n"
        f"Into English: Lingraft {{mag}} neuronale Netze."
    )
    assert listed[2].messages[-1].content == f"{before}Netz = network\n\nInto English: Das Netz."
    assert listed[1] == next(requests([SOURCES[1]], SYSTEM, Sampling(9, seed=3)))
    assert [one.text for one in found.values()] == ["Lingraft likes neural networks.", "The net.", "The net."]


def test_whether_the_translation_has_them_is_counted(path: str) -> None:
    rules = [Rule(pattern="mag", answer="Lingraft likes the {neural} network."), Rule(answer="The net.")]
    found = decoded(made("glossary", path=path), SOURCES, SYSTEM, decoder_inputs(Asked(rules)))
    assert [one.outcome for one in found.values()] == ["terms translated", "without terms", "terms missing"]
    assert {one.calls for one in found.values()} == {1}


def test_what_is_missing_or_wrong_is_said(path: str, tmp_path: Path) -> None:
    assert "its `path`" in made("glossary").lacks(Surroundings())
    assert made("glossary", path=path).lacks(Surroundings()) == ""
    with pytest.raises(DataError, match="no such file"):
        made("glossary", path=str(tmp_path / "none.csv")).check()
    (tmp_path / "odd.csv").write_text("Netz\n", "utf-8")
    with pytest.raises(DataError, match="line 1: 'Netz' has no translation"):
        made("glossary", path=str(tmp_path / "odd.csv")).check()
    with pytest.raises(UsageError, match=r"it needs \{terms\}"):
        made("glossary", path=path, instruction="Use these.")
