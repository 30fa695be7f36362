"""The starter data must hold what its README promises: clean, distinct rows and no leak from train into test."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
import unicodedata
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lingraft.data.records import Pair, Prompt
from lingraft.language.identification import identify
from lingraft.suites.mt_bench import CATEGORIES, WITH_REFERENCE

STARTER = files("lingraft.shipped") / "starter"
ROWS = {
    "train.de-en.jsonl": 300,
    "test.de-en.jsonl": 80,
    "prompts.jsonl": 120,
    "harmful.jsonl": 40,
    "train.th-en.jsonl": 240,
    "test.th-en.jsonl": 60,
    "texts.th.jsonl": 60,
    "texts.en.jsonl": 40,
    "prompts.en-th.jsonl": 30,
    "chats.en-th.jsonl": 150,
    "retrieval.en-th.jsonl": 24,
}
PAIRS = ["train.de-en.jsonl", "test.de-en.jsonl", "train.th-en.jsonl", "test.th-en.jsonl"]
PROMPTS = ["prompts.jsonl", "harmful.jsonl"]
TEXTS = ["texts.th.jsonl", "texts.en.jsonl"]
SOURCES = ["de", "th"]


def lines(name: str) -> list[str]:
    return (STARTER / name).read_text(encoding="utf-8").splitlines()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(name)]


def pairs(name: str) -> list[Pair]:
    return [Pair.from_dict({**row, "source_lang": source_of(name), "target_lang": "en"}) for row in rows(name)]


def source_of(name: str) -> str:
    """Return the source language in a file name of pairs ("train.th-en.jsonl" -> "th")."""
    return name.split(".")[1].removesuffix("-en")


def sentences(text: str) -> set[str]:
    """Return the parts that a reader would call sentences: by full stops, in Thai by spaces (clauses, so stricter).

    Thai parts of a few letters are left out: they are the pieces between a number and the next space, as "baht".
    """
    thai = re.search(r"[\u0e00-\u0e7f]", text) is not None
    parts = {normalised(part) for part in re.split(r"\s+" if thai else r'(?<=[.!?])["“]?\s+', text)}
    return {part for part in parts if len(part) > (5 if thai else 0)}


def prompts(name: str) -> list[Prompt]:
    return [Prompt.from_dict(row) for row in rows(name)]


def normalised(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def repeated(texts: list[str]) -> list[str]:
    return [text for text, count in Counter(map(normalised, texts)).items() if count > 1]


@pytest.mark.parametrize(("name", "minimum"), ROWS.items())
def test_row_counts_reach_the_minimum_and_match_the_readme(name: str, minimum: int) -> None:
    count = len(rows(name))
    assert count >= minimum
    readme = (STARTER / "README.md").read_text(encoding="utf-8")
    stated = re.search(rf"^\| `{re.escape(name)}` \| (\d+) \|", readme, flags=re.MULTILINE)
    assert stated is not None
    assert int(stated[1]) == count


@pytest.mark.parametrize("name", ROWS)
def test_lines_are_clean_json_with_unique_ids(name: str) -> None:
    for line in lines(name):
        assert line == line.strip()
        assert "  " not in line
    ids = [row["id"] for row in rows(name)]
    prefix = name.split(".")[0].removesuffix("s")
    if "th" in re.split(r"[.-]", name) or name in TEXTS:  # German was first and has the plain prefix
        prefix += "-en" if name == "texts.en.jsonl" else "-th"
    assert ids == [f"{prefix}-{number:03d}" for number in range(1, len(ids) + 1)]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_have_two_sides_of_comparable_length(name: str) -> None:
    for row in rows(name):
        assert set(row) == {"id", "source", "target"}
    for pair in pairs(name):
        assert pair.source.strip(), pair.id
        assert pair.target.strip(), pair.id
        thai = pair.source_lang == "th"  # no spaces between words: letters, with vowel and tone marks, instead
        source, target = (len(text if thai else text.split()) for text in (pair.source, pair.target))
        assert (0.6 if thai else 0.4) <= target / source <= (2.8 if thai else 2.5), pair.id
        assert normalised(pair.source) != normalised(pair.target), pair.id


@pytest.mark.parametrize("name", ["train.th-en.jsonl", "test.th-en.jsonl"])
def test_thai_pairs_are_of_3_to_30_words_and_a_quarter_has_two_sentences(name: str) -> None:
    found = [pair.target for pair in pairs(name)]
    assert all(3 <= len(text.split()) <= 30 for text in found)
    assert sum(len(sentences(text)) > 1 for text in found) >= len(found) / 4


@pytest.mark.parametrize("language", SOURCES)
@pytest.mark.parametrize("side", ["source", "target"])
def test_no_text_repeats_within_or_across_train_and_test(side: str, language: str) -> None:
    names = [name for name in PAIRS if source_of(name) == language]
    assert repeated([getattr(pair, side) for name in names for pair in pairs(name)]) == []


@pytest.mark.parametrize("language", SOURCES)
@pytest.mark.parametrize("side", ["source", "target"])
def test_no_sentence_of_the_test_set_occurs_in_training(side: str, language: str) -> None:
    def parts(name: str) -> set[str]:
        return set().union(*(sentences(getattr(pair, side)) for pair in pairs(name)))

    assert parts(f"train.{language}-en.jsonl") & parts(f"test.{language}-en.jsonl") == set()


def test_no_sentence_of_the_thai_test_set_occurs_in_the_texts() -> None:
    known = set().union(*(sentences(row["text"]) for name in TEXTS for row in rows(name)))
    tested = set().union(*(sentences(side) for row in rows("test.th-en.jsonl") for side in row.values()))
    assert known & tested == set()


@pytest.mark.parametrize(
    ("name", "field", "code"),
    [(name, "source", source_of(name)) for name in PAIRS]
    + [(name, "target", "en") for name in PAIRS]
    + [("texts.th.jsonl", "text", "th"), ("texts.en.jsonl", "text", "en")]
    + [
        (name, field + end, code)
        for name, fields in (("prompts.en-th.jsonl", ["instruction"]), ("chats.en-th.jsonl", ["instruction", "output"]))
        for field in fields
        for end, code in (("", "en"), ("_th", "th"))
    ],
)
def test_languages_are_identified(name: str, field: str, code: str) -> None:
    texts = [row[field] for row in rows(name)]
    expected = [source_of(name) if name in PAIRS else "th", "en"]
    wrong = [text for text in texts if identify(text, expected)[0] != code]
    assert len(wrong) <= 0.03 * len(texts), wrong


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_distinct_documents_of_three_or_more_sentences(name: str) -> None:
    found = rows(name)
    assert all(set(row) == {"id", "text"} for row in found)
    assert repeated([row["text"] for row in found]) == []
    for row in found:
        assert 300 <= len(row["text"]) <= 700, row["id"]
        assert len(row["text"].split(" ") if name == "texts.th.jsonl" else sentences(row["text"])) >= 3, row["id"]


def test_no_sentence_repeats_between_two_texts() -> None:
    for name in TEXTS:
        parts = Counter(part for row in rows(name) for part in sentences(row["text"]) if len(part) > 20)
        assert [part for part, count in parts.items() if count > 1] == []


def test_bilingual_prompts_are_new_and_not_about_translation() -> None:
    found = rows("prompts.en-th.jsonl")
    assert all(set(row) == {"id", "instruction", "instruction_th"} for row in found)
    assert repeated([row[field] for row in found for field in ("instruction", "instruction_th")]) == []
    turns = [message.content for name in PROMPTS for prompt in prompts(name) for message in prompt.messages]
    turns += [row["instruction"] for row in rows("alpaca_eval.jsonl")]
    turns += [turn for row in rows("mt_bench.jsonl") for turn in row["turns"]]
    assert {normalised(row["instruction"]) for row in found} & set(map(normalised, turns)) == set()
    assert [row for row in found if "translat" in row["instruction"].casefold() or "แปล" in row["instruction_th"]] == []


def test_every_starter_file_is_package_data() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["lingraft"]
    shipped = {path.name for path in STARTER.iterdir()}
    assert set(ROWS) <= shipped
    assert [name for name in shipped if not any(fnmatch.fnmatch(f"shipped/starter/{name}", p) for p in patterns)] == []


@pytest.mark.parametrize("name", PAIRS)
def test_numbers_of_three_or_more_digits_survive_translation(name: str) -> None:
    """Only long numbers: times and small counts are legitimately worded differently."""

    def long_numbers(text: str) -> list[str]:
        joined = re.sub(r"(?<=\d)[.,](?=\d{3})", "", text)
        return sorted(re.findall(r"\d{3,}", joined))

    for pair in pairs(name):
        assert long_numbers(pair.source) == long_numbers(pair.target), pair.id


@pytest.mark.parametrize("name", PROMPTS)
def test_conversations_alternate_and_end_with_the_user(name: str) -> None:
    for prompt in prompts(name):
        expected = ["user", "assistant"] * (len(prompt.messages) // 2) + ["user"]
        assert [message.role for message in prompt.messages] == expected, prompt.id
        assert all(message.content.strip() == message.content != "" for message in prompt.messages), prompt.id


def test_prompts_are_distinct_and_not_about_translation() -> None:
    last = [prompt.messages[-1].content for name in PROMPTS for prompt in prompts(name)]
    assert repeated(last) == []
    assert [text for text in last if "translat" in text.casefold()] == []


def test_some_prompts_have_earlier_turns() -> None:
    assert sum(len(prompt.messages) == 3 for prompt in prompts("prompts.jsonl")) >= 5


def test_questions_for_a_judge_match_the_readme_and_nothing_else_in_the_data() -> None:
    readme = (STARTER / "README.md").read_text(encoding="utf-8")
    known = {normalised(prompt.messages[-1].content) for name in PROMPTS for prompt in prompts(name)}
    for name in ("mt_bench.jsonl", "alpaca_eval.jsonl"):
        stated = re.search(rf"^\| `{re.escape(name)}` \| (\d+) \|", readme, flags=re.MULTILINE)
        assert stated is not None
        found = rows(name)
        assert len(found) == int(stated[1])
        texts = [text for row in found for text in row.get("turns", [row.get("instruction")])]
        assert not repeated(texts)
        assert not known & set(map(normalised, texts))
    questions = rows("mt_bench.jsonl")
    assert [row["category"] for row in questions] == list(CATEGORIES)
    assert {row["category"] for row in questions if "reference" in row} == set(WITH_REFERENCE)
