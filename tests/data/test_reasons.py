"""Every reason against a row is explained in the docs, in the words of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lingraft.data import reasons
from lingraft.data.files import SUFFIXES
from lingraft.data.packed import SUFFIXES as PACKED
from lingraft.data.readers import PairSource

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_reasons_are_explained() -> None:
    named = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert named == set(reasons.REASONS)
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCS.read_text("utf-8"), re.MULTILINE))
    assert {reason: table.get(reason) for reason in reasons.REASONS} == reasons.REASONS


@pytest.mark.parametrize("name", [*SUFFIXES, *PACKED])
def test_formats_are_named(name: str) -> None:
    assert name in DOCS.read_text("utf-8")


def test_the_example_of_aligned_files_is_a_source() -> None:
    [line] = re.findall(r"train: \{(path: .*)\}", DOCS.read_text("utf-8"))
    values = dict(part.split(": ") for part in line.split(", "))
    assert PairSource.model_validate(values).target_path == "corpus.en"
