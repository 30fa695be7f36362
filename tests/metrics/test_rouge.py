"""ROUGE against the package `rouge-score`, and worked out by hand."""

from __future__ import annotations

import random
from importlib.metadata import version

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Pair
from lingraft.metrics.base import open_metric
from lingraft.metrics.rouge import rouge_l, rouge_lsum, rouge_n, sentence_tokens, tokenizer_of, tokens

VARIANTS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
WORDS = [
    *[
        "the",
        "ferry",
        "mayor",
        "bridge",
        "river",
        "stops",
        "in",
        "of",
        "a",
        "spring",
        "built",
        "town",
        "old",
        "steel",
        "1923",
        "don't",
        "x-ray",
        "café",
    ]
]


def score(name: str, texts: list[str], pairs: list[Pair], **params: str) -> tuple[list[float], float]:
    """Return the values of documents and their mean."""
    built = open_metric({"kind": name, **params}).metric.build("de", pairs[0].target_lang, ())
    rows = built.statistics(texts, pairs)
    return built.aggregate(rows).tolist(), float(built.aggregate(rows.sum(axis=0, keepdims=True))[0])


def summary(target: str, lang: str = "en", references: tuple[str, ...] = ()) -> Pair:
    return Pair("d", "Ein Text.", target, "de", lang, None, references)


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 9))).capitalize() + "."


@pytest.mark.parametrize("name", VARIANTS)
def test_english_is_what_rouge_score_gives(name: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([name], use_stemmer=False)
    rng = random.Random(7)
    texts = ["\n".join(sentence(rng) for _ in range(rng.randint(0, 4))) for _ in range(80)]
    pairs = [summary("\n".join(sentence(rng) for _ in range(rng.randint(1, 4)))) for _ in texts]
    found, mean = score(name, texts, pairs)
    expected = [100 * scorer.score(pair.target, text)[name].fmeasure for text, pair in zip(texts, pairs, strict=True)]
    assert found == pytest.approx(expected, abs=1e-9)
    assert mean == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def test_worked_out_by_hand() -> None:
    # Lin 2004, 3.1: S1, S2 and S3 against "police killed the gunman"; there the precision is that of the reference.
    texts = ("police killed the gunman", "the gunman kill police", "police kill the gunman")
    police, gunman, kill = (tokens(text, "words") for text in texts)
    assert (rouge_n(kill, police, 1), rouge_n(gunman, police, 1)) == (0.75, 0.75)
    assert rouge_n(kill, police, 2) == rouge_n(gunman, police, 2) == pytest.approx(1 / 3)
    assert (rouge_l(kill, police), rouge_l(gunman, police)) == (0.75, 0.5)
    # 3.2: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: the union is w1 w2 w3 w5, so 4 of 5 and 4 of 10.
    assert rouge_lsum(["12678", "13895"], ["12345"]) == pytest.approx(2 * 0.8 * 0.4 / 1.2)
    assert rouge_l([], police) == rouge_n(police, [], 1) == rouge_lsum([], [police]) == 0.0


@pytest.mark.parametrize(
    ("lang", "tokenizer", "text", "expected"),
    [
        ("en", "rouge-score", "Don't stop, Café 3.5!", ["don", "t", "stop", "caf", "3", "5"]),
        ("de", "words", "Straßen, 3,5 km – Ölpreis", ["strassen", "3", "5", "km", "ölpreis"]),
        ("th", "characters", "ที่นี่ 5 คน", ["ที่", "นี่", "5", "ค", "น"]),
        ("zh", "characters", "他写GPT。", ["他", "写", "g", "p", "t"]),
        ("ja", "characters", "東京に", ["東", "京", "に"]),
        ("ko", "words", "서울에 간다.", ["서울에", "간다"]),
        ("hi", "words", "नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
    ],
)
def test_tokens_fit_the_language(lang: str, tokenizer: str, text: str, expected: list[str]) -> None:
    assert tokenizer_of(lang) == tokenizer
    assert tokens(text, tokenizer_of(lang)) == expected
    built = open_metric("rougeL").metric.build("de", lang, ())
    assert f"|tok:{tokenizer}|" in built.signature(100, 1)


def test_the_best_reference_counts_and_languages_need_no_latin_letters() -> None:
    pair = summary("ร้านปิดแล้ว", "th", ("เรือข้ามฟากหยุดวิ่งแล้ว",))
    assert score("rouge2", ["เรือข้ามฟากหยุดวิ่งแล้ว"], [pair])[0] == [100.0]
    assert score("rouge2", ["เรือข้ามฟากหยุดวิ่งแล้ว"], [pair], tokenizer="rouge-score")[0] == [0.0]
    with pytest.raises(UsageError, match="tokenizer"):
        open_metric({"kind": "rouge1", "tokenizer": "moses"})


def test_lsum_takes_sentences_where_there_are_no_lines() -> None:
    pair = summary("The ferry stops. The bridge is new.")
    swapped, apart = "The bridge is new. The ferry stops.", "The bridge is new.\nThe ferry stops."
    assert score("rougeLsum", [swapped], [pair])[0] == score("rougeLsum", [apart], [pair])[0] == [100.0]
    assert score("rougeL", [swapped], [pair])[0][0] < 100


def test_lsum_cuts_by_the_language_of_the_summary_and_says_by_what() -> None:
    text = "Am 3. Mai kam er. Gut."
    assert [len(sentence_tokens(text, "words", lang)) for lang in ("de", "en")] == [2, 3]
    built = open_metric("rougeLsum").metric.build("en", "de", ())
    assert f"|sentences:sentencex-{version('sentencex')}" in built.signature(100, 1)
