"""The starter data must hold what its README promises: clean, distinct rows and no leak from train into test."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from lingraft.data.languages import identify
from lingraft.data.records import Pair, Prompt
from lingraft.evaluation.mt_bench import CATEGORIES, WITH_REFERENCE

STARTER = files("lingraft") / "recipes" / "starter"
ROWS = {"train.de-en.jsonl": 300, "test.de-en.jsonl": 80, "prompts.jsonl": 120, "harmful.jsonl": 40}
PAIRS = [name for name in ROWS if "de-en" in name]
PROMPTS = [name for name in ROWS if "de-en" not in name]


def lines(name: str) -> list[str]:
    return (STARTER / name).read_text(encoding="utf-8").splitlines()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(name)]


def pairs(name: str) -> list[Pair]:
    return [Pair.from_dict({**row, "source_lang": "de", "target_lang": "en"}) for row in rows(name)]


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
    assert ids == [f"{prefix}-{number:03d}" for number in range(1, len(ids) + 1)]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_have_two_sides_of_comparable_length(name: str) -> None:
    for row in rows(name):
        assert set(row) == {"id", "source", "target"}
    for pair in pairs(name):
        source_words, target_words = len(pair.source.split()), len(pair.target.split())
        assert source_words > 0, pair.id
        assert target_words > 0, pair.id
        assert 0.4 <= target_words / source_words <= 2.5, pair.id
        assert normalised(pair.source) != normalised(pair.target), pair.id


@pytest.mark.parametrize("side", ["source", "target"])
def test_no_text_repeats_within_or_across_train_and_test(side: str) -> None:
    assert repeated([getattr(pair, side) for name in PAIRS for pair in pairs(name)]) == []


@pytest.mark.parametrize("side", ["source", "target"])
def test_no_sentence_of_the_test_set_occurs_in_training(side: str) -> None:
    def sentences(name: str) -> set[str]:
        texts = (getattr(pair, side) for pair in pairs(name))
        return {normalised(part) for text in texts for part in re.split(r'(?<=[.!?])["“]?\s+', text)}

    assert sentences("train.de-en.jsonl") & sentences("test.de-en.jsonl") == set()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("side", "code"), [("source", "de"), ("target", "en")])
def test_languages_are_identified(name: str, side: str, code: str) -> None:
    texts = [getattr(pair, side) for pair in pairs(name)]
    wrong = [text for text in texts if identify(text, ["de", "en"])[0] != code]
    assert len(wrong) <= 0.03 * len(texts), wrong


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
