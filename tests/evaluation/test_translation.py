"""Corpus metrics against sacreBLEU itself; off-target and length ratio against counting by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Pair
from lingraft.evaluation.translation import score_all, segment_scores
from lingraft.metrics.base import open_metric
from lingraft.metrics.sacrebleu import reference_streams
from lingraft.statistics.bootstrap import score

ENGLISH = [
    "The bakery on the corner opens at six every morning.",
    "We could not find the key, so we waited for the caretaker.",
    "The mayor promised that the swimming pool would be repaired by May.",
    "Please send the signed form back to us within two weeks.",
    "My grandmother grew tomatoes and beans behind the house.",
    "The match was called off because the pitch was under water.",
]
SECOND = [
    "The corner bakery opens every morning at six.",
    "As we could not find the key, we waited for the caretaker.",
    "The mayor promised to have the pool repaired by May.",
    "Please return the signed form to us within two weeks.",
    "Behind the house my grandmother grew tomatoes and beans.",
    "The match was cancelled since the pitch was flooded.",
]
GERMAN = [
    "Die Bäckerei an der Ecke öffnet jeden Morgen um sechs.",
    "Wir konnten den Schlüssel nicht finden, also warteten wir auf den Hausmeister.",
    "Der Bürgermeister versprach, dass das Schwimmbad bis Mai repariert wird.",
    "Bitte senden Sie uns das unterschriebene Formular innerhalb von zwei Wochen zurück.",
    "Meine Großmutter zog hinter dem Haus Tomaten und Bohnen.",
    "Das Spiel wurde abgesagt, weil der Platz unter Wasser stand.",
]
CHINESE = ["街角的面包店每天早上六点开门。", "我们找不到钥匙，所以等着管理员。", "请在两周内将签好的表格寄回给我们。"]
JAPANESE = [
    "角のパン屋は毎朝六時に開きます。",
    "鍵が見つからなかったので、管理人を待ちました。",
    "試合は中止になりました。",
]
KOREAN = [
    "모퉁이 빵집은 매일 아침 여섯 시에 문을 엽니다.",
    "열쇠를 찾지 못해서 관리인을 기다렸습니다.",
    "경기는 취소되었습니다.",
]
THAI = ["ร้านเบเกอรี่ที่หัวมุมเปิดทุกเช้าหกโมง", "เราหากุญแจไม่เจอจึงรอผู้ดูแล", "กรุณาส่งแบบฟอร์มที่ลงนามแล้วคืนภายในสองสัปดาห์"]


def _pairs(second: bool = False) -> list[Pair]:
    return [
        Pair(f"t{index}", german, english, "de", "en", references=(other,) if second else ())
        for index, (german, english, other) in enumerate(zip(GERMAN, ENGLISH, SECOND, strict=True))
    ]


def _damaged(lines: list[str], rate: float, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(word for word in line.split() if generator.random() > rate) for line in lines]


def _by_id(lines: list[str]) -> dict[str, str]:
    return {f"t{index}": line for index, line in enumerate(lines)}


@pytest.mark.parametrize("second", [False, True], ids=["one reference", "two references"])
@pytest.mark.parametrize(
    ("name", "metric"),
    [("bleu", BLEU()), ("chrf", CHRF()), ("chrf++", CHRF(word_order=2)), ("ter", TER())],
    ids=["bleu", "chrf", "chrf++", "ter"],
)
def test_score_and_signature_are_sacrebleus(name: str, metric: BLEU | CHRF | TER, second: bool) -> None:
    pairs = _pairs(second)
    lines = _damaged(ENGLISH, 0.2, 1)
    lines[2] = ""  # empty translations count as they are
    row = score_all({"x": _by_id(lines)}, pairs, "demo", [name], seed=11, n_bootstrap=50)[0]
    expected = metric.corpus_score(lines, [ENGLISH, SECOND] if second else [ENGLISH])
    assert row.score == pytest.approx(expected.score, abs=1e-9)
    plain = metric.get_signature().format()
    assert row.signature.replace("|bs:50|seed:11", "") == plain
    assert (row.n, row.direction, row.delta, row.versus) == (6, "de-en", None, {})


@pytest.mark.parametrize(
    ("language", "lines", "tokenizer"),
    [
        ("zh", CHINESE, "zh"),
        ("ja", JAPANESE, "ja-mecab"),
        ("kor_Hang", KOREAN, "ko-mecab"),
        ("th", THAI, "char"),
        ("de", GERMAN, "13a"),
    ],
    ids=["zh", "ja", "ko", "th", "de"],
)
def test_bleu_takes_the_tokenizer_of_the_target(language: str, lines: list[str], tokenizer: str) -> None:
    pairs = [Pair(f"t{index}", "x", line, "en", language) for index, line in enumerate(lines)]
    hypotheses = [line[:-4] + line[-2:] for line in lines]
    row = score_all({"x": _by_id(hypotheses)}, pairs, "demo", ["bleu"], n_bootstrap=20)[0]
    assert f"tok:{tokenizer}" in row.signature
    assert row.score == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(hypotheses, [lines]).score, abs=1e-9)
    assert row.score > 20


def test_ter_splits_chinese_into_characters_and_refuses_thai() -> None:
    pairs = [Pair(f"t{index}", "x", line, "en", "zh") for index, line in enumerate(CHINESE)]
    row = score_all({"x": _by_id([line[1:] for line in CHINESE])}, pairs, "demo", ["ter"], n_bootstrap=20)[0]
    assert row.score < 20  # one edit of a dozen characters, not one of one word
    assert "asian:yes" in row.signature
    thai = [Pair("t0", "x", THAI[0], "en", "th")]
    with pytest.raises(UsageError, match="TER cannot be measured for 'th'"):
        score_all({"x": {"t0": "x"}}, thai, "demo", ["ter"])


CHINESE_CODES = ["zho_Hans", "cmn_Hans", "yue_Hant", "wuu", "lzh", "nan_Hant", "hak", "gan"]


@pytest.mark.parametrize("code", CHINESE_CODES)
def test_chinese_scores_alike_under_any_of_its_codes(code: str) -> None:
    hypotheses = [line[1:] for line in CHINESE]
    expected = BLEU(tokenize="zh").corpus_score(hypotheses, [CHINESE]).score
    edits = TER(normalized=True, asian_support=True).corpus_score(hypotheses, [CHINESE]).score
    pairs = [Pair(f"t{index}", "x", line, "en", code) for index, line in enumerate(CHINESE)]
    bleu, ter = score_all({"x": _by_id(hypotheses)}, pairs, "demo", ["bleu", "ter"], n_bootstrap=20)
    assert (bleu.score, ter.score) == (pytest.approx(expected, abs=1e-9), pytest.approx(edits, abs=1e-9))
    assert expected > 50


def test_as_many_references_as_every_segment_has() -> None:
    pairs = _pairs(second=True)
    pairs[3] = dataclasses.replace(pairs[3], references=())
    assert reference_streams(pairs) == [ENGLISH]
    assert reference_streams(_pairs(second=True)) == [ENGLISH, SECOND]


def test_segments_are_matched_by_id_not_by_position() -> None:
    pairs = _pairs()
    lines = _by_id(_damaged(ENGLISH, 0.2, 1))
    shuffled = dict(reversed(lines.items()))
    one = score_all({"x": lines}, pairs, "demo", ["chrf++"], n_bootstrap=20)
    assert one == score_all({"x": shuffled}, pairs, "demo", ["chrf++"], n_bootstrap=20)


def test_delta_and_versus_are_paired_differences() -> None:
    pairs = _pairs()
    systems = {
        "base": _by_id(_damaged(ENGLISH, 0.6, 1)),
        "vanilla": _by_id(_damaged(ENGLISH, 0.1, 2)),
        "radis": _by_id(_damaged(ENGLISH, 0.15, 3)),
    }
    rows = {row.system: row for row in score_all(systems, pairs, "demo", ["chrf++"], seed=4, n_bootstrap=300)}
    assert list(rows) == ["base", "vanilla", "radis"]
    assert rows["base"].delta is None
    assert rows["base"].versus == {}
    for system, other in (("vanilla", "radis"), ("radis", "vanilla")):
        row = rows[system]
        assert row.delta is not None
        assert row.delta.value == pytest.approx(row.score - rows["base"].score)
        assert row.delta.ci95[0] > 0
        assert set(row.versus) == {other}
        assert row.versus[other].value == pytest.approx(row.score - rows[other].score)
    forth, back = rows["vanilla"].versus["radis"], rows["radis"].versus["vanilla"]
    assert forth.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert forth.p == back.p


def test_directions_of_one_set_are_scored_apart() -> None:
    pairs = _pairs()
    both = pairs + [pair.reversed() for pair in pairs]
    texts = {pair.id: pair.target for pair in both}
    rows = score_all({"base": texts}, both, "demo", ["chrf++", "off_target"], n_bootstrap=20)
    assert [(row.direction, row.metric) for row in rows] == [
        ("de-en", "chrf++"),
        ("de-en", "off_target"),
        ("en-de", "chrf++"),
        ("en-de", "off_target"),
    ]
    assert [row.score for row in rows] == pytest.approx([100, 0, 100, 0])


def test_off_target_counts_other_languages_and_empty_outputs() -> None:
    lines = [*ENGLISH]
    lines[0] = GERMAN[0]  # the source copied
    lines[1] = ""
    lines[2] = CHINESE[0]
    lines[3] = "OK."  # too short for the identifier, in the right script
    lines[4] = "Да"  # too short, but the script tells
    row = score_all({"x": _by_id(lines)}, _pairs(), "demo", ["off_target"], n_bootstrap=50)[0]
    assert row.score == pytest.approx(100 * 4 / 6)
    assert "py3langid" in row.signature
    assert "min_letters:10" in row.signature


def test_a_share_of_none_has_an_interval() -> None:
    # 0 of 6: Wilson's upper end is z^2 / (n + z^2).
    row = score_all({"x": _by_id(ENGLISH)}, _pairs(), "demo", ["off_target"], n_bootstrap=50)[0]
    z2 = 1.959964**2
    assert (row.score, row.ci95[0]) == (0, 0)
    assert row.ci95[1] == pytest.approx(100 * z2 / (6 + z2), abs=1e-3)
    assert row.signature.endswith("|ci:wilson")
    means = score_all({"x": _by_id(ENGLISH)}, _pairs(), "demo", ["length_ratio", "bleu"], n_bootstrap=50)
    assert not any("ci:wilson" in other.signature for other in means)


@pytest.mark.parametrize("text", ["東京大学", "日本国憲法第九条", "株式会社日立製作所"])
def test_off_target_is_judged_beside_the_reference(text: str) -> None:
    # The identifier takes these for Chinese. A translation that is the reference is right, whatever it looks like;
    # where the reference looks like another language, only another script is surely wrong.
    pairs = [Pair(f"t{index}", "The name of it", text, "en", "ja") for index in range(4)]
    lines = [text, f"{text}。", "The name of it is not translated", "\u200b\u3164"]
    row = score_all({"x": _by_id(lines)}, pairs, "demo", ["off_target"], n_bootstrap=20)[0]
    assert row.score == pytest.approx(50.0)
    assert "reference:on" in row.signature


def test_off_target_stands_where_the_reference_is_in_the_language() -> None:
    pairs = [Pair("t0", "x", JAPANESE[0], "en", "ja", references=("東京大学",))]
    row = score_all({"x": {"t0": CHINESE[0]}}, pairs, "demo", ["off_target"], n_bootstrap=20)[0]
    assert row.score == pytest.approx(100.0)


def test_off_target_accepts_numbers_where_the_reference_is_a_number() -> None:
    pairs = [Pair("t0", "1.200", "1,200", "de", "en"), Pair("t1", "Zwölf Uhr", "Twelve", "de", "en")]
    row = score_all({"x": {"t0": "1,200", "t1": "12"}}, pairs, "demo", ["off_target"], n_bootstrap=20)[0]
    assert row.score == pytest.approx(50.0)


def test_off_target_of_a_language_the_identifier_does_not_know_goes_by_script() -> None:
    pairs = [Pair("t0", "Hello", "ᏣᎳᎩ", "en", "chr"), Pair("t1", "Hello", "ᏣᎳᎩ", "en", "chr")]
    row = score_all({"x": {"t0": "ᎣᏏᏲ ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "t1": ENGLISH[0]}}, pairs, "demo", ["off_target"], n_bootstrap=20)[0]
    assert row.score == pytest.approx(50.0)
    assert "lid:none" in row.signature


def test_length_ratio() -> None:
    pairs = [Pair("t0", "x", "one two three four", "de", "en"), Pair("t1", "x", "five six", "de", "en")]
    row = score_all({"x": {"t0": "one two", "t1": "five"}}, pairs, "demo", ["length_ratio"], n_bootstrap=20)[0]
    assert row.score == pytest.approx(0.5)


def test_segment_scores_are_sentence_scores() -> None:
    lines = _damaged(ENGLISH, 0.3, 7)
    found = segment_scores(_by_id(lines), _pairs(), "chrf++")
    metric = CHRF(word_order=2)
    for index, line in enumerate(lines):
        assert found[f"t{index}"] == pytest.approx(metric.sentence_score(line, [ENGLISH[index]]).score)


def test_summed_statistics_give_the_corpus_score_exactly() -> None:
    lines = _damaged(ENGLISH, 0.3, 8)
    for name, metric in (("bleu", BLEU()), ("chrf++", CHRF(word_order=2))):
        built = open_metric(name).metric.build("de", "en", ())
        rows = built.statistics(lines, _pairs())
        assert score(rows, built.aggregate) == metric.corpus_score(lines, [ENGLISH]).score


def test_errors_name_the_place_and_the_remedy() -> None:
    pairs = _pairs()
    with pytest.raises(UsageError, match=r"unknown metric 'chrf\+'; did you mean 'chrf"):
        open_metric("chrf+")
    with pytest.raises(DataError, match=r"system 'x' has no translation for 1 of 6 segments .* 't5'"):
        score_all({"x": _by_id(ENGLISH[:5])}, pairs, "demo", ["chrf"])
    with pytest.raises(DataError, match="'demo' is empty"):
        score_all({"x": {}}, [], "demo", ["chrf"])
    with pytest.raises(DataError, match="1 repeated ids"):
        score_all({"x": _by_id(ENGLISH)}, [*pairs, pairs[0]], "demo", ["chrf"])
