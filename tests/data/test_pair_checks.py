"""Each reason is provoked by a row written for it; good rows must pass unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from lingraft.core.errors import DataError
from lingraft.data import reasons
from lingraft.data.file_checks import check_files
from lingraft.data.files import Row
from lingraft.data.overlap import OverlapIndex, refuse_test_set
from lingraft.data.pair_checks import CHUNK, CheckLimits, CheckTally, Duplicates, check_pairs, enforce_limit
from lingraft.data.readers import PairSource
from lingraft.data.records import Pair, Rejected

DE = "Die Gemeinde hat gestern beschlossen, die alte Brücke über den Fluss im Frühjahr zu erneuern."
EN = "The council decided yesterday to renew the old bridge over the river in the spring."
FR = "Le conseil a décidé hier de rénover au printemps le vieux pont qui traverse la rivière."
RU = "Совет вчера решил весной обновить старый мост через реку."
ZH = "市议会昨天决定在春天翻修河上的那座旧桥。"
TH = "สภาเทศบาลมีมติเมื่อวานนี้ให้ปรับปรุงสะพานเก่าข้ามแม่น้ำในฤดูใบไม้ผลิ"


def rows(*sides: tuple[str, str], source: str = "de", target: str = "en") -> list[Row[Pair] | Rejected]:
    return [Row(line, Pair(f"p:{line}", a, b, source, target)) for line, (a, b) in enumerate(sides, start=1)]


def found(items: Iterable[Pair | Rejected]) -> list[str]:
    return [item.reason if isinstance(item, Rejected) else "ok" for item in items]


def check_one(source: str, target: str, languages: tuple[str, str] = ("de", "en"), **limits: object) -> str:
    one = rows((source, target), source=languages[0], target=languages[1])
    return found(check_pairs(one, CheckLimits.model_validate(limits), file="f"))[0]


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (DE, EN, "ok"),
        (" Hallo\tWelt\r\n", "Hello\nworld ", "ok"),
        ("", "x", reasons.EMPTY_SOURCE),
        (" \u200b\u00a0\u3000", "x", reasons.EMPTY_SOURCE),
        ("x", "\ufeff\n", reasons.EMPTY_TARGET),
        ("\u2066\u180e\u3164\u2800", "x", reasons.EMPTY_SOURCE),
        ("a\x00b", "x", reasons.CONTROL_CHARACTERS),
        ("a", "x\x1b[0m", reasons.CONTROL_CHARACTERS),
        ("a", "GrÃ\x9fe", reasons.CONTROL_CHARACTERS),
        ("Gr\ufffdße", "x", reasons.CONTROL_CHARACTERS),
        ("a", "\ud83d", reasons.CONTROL_CHARACTERS),
        ("👍🏽 ja", "👍🏽 yes", "ok"),
        ("Berlin", " Berlin", reasons.IDENTICAL_SIDES),
        ("Berlin", "Berlin!", "ok"),
    ],
)
def test_text(source: str, target: str, reason: str) -> None:
    assert check_one(source, target) == reason


@pytest.mark.parametrize(
    ("short", "long", "reason"),
    [
        ("a" * 3, "b" * 40, "ok"),
        ("a" * 3, "b" * 41, reasons.LENGTH_RATIO),
        ("Ja.", "A fox jumps over the ice of a wild river.", reasons.LENGTH_RATIO),
        ("a" * 50, "b" * 200, "ok"),
        ("a" * 50, "b" * 201, reasons.LENGTH_RATIO),
        ("桥" * 25, "b" * 200, "ok"),
        ("桥" * 25, "b" * 201, reasons.LENGTH_RATIO),
    ],
)
def test_length_ratio_either_way(short: str, long: str, reason: str) -> None:
    assert check_one(short, long, language_check=False) == reason
    assert check_one(long, short, language_check=False) == reason
    assert check_one(short, long, language_check=False, max_length_ratio=4.1) == "ok"


def test_tokens_are_counted_on_each_side() -> None:
    tokenize = BLEU(tokenize="13a").tokenizer

    def count(texts: Sequence[str]) -> list[int]:
        return [len(tokenize(text).split()) for text in texts]

    german, english = count([DE, EN])
    assert german > english
    for limit, reason in ((german, "ok"), (english, reasons.TOO_LONG)):
        limits = CheckLimits(max_tokens=limit)
        assert found(check_pairs(rows((DE, EN), ("Ja.", "Yes.")), limits, file="f", count_tokens=count)) == [
            reason,
            "ok",
        ]


@pytest.mark.parametrize(
    ("source", "target", "languages", "reason"),
    [
        (DE, FR, ("de", "en"), reasons.WRONG_LANGUAGE_TARGET),
        (EN, DE, ("de", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (
            DE,
            "Der Gemeinderat beschloss gestern die Erneuerung der alten Brücke.",
            ("de", "en"),
            "wrong_language_target",
        ),
        (RU, EN, ("ru", "en"), "ok"),
        (RU, EN, ("de", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (ZH, EN, ("zh-Hant", "en-GB"), "ok"),
        (EN, ZH, ("en", "ja"), reasons.WRONG_LANGUAGE_TARGET),
        (TH, EN, ("th", "en"), "ok"),
        (EN, TH, ("en", "zh"), reasons.WRONG_LANGUAGE_TARGET),
        ("OK, mañana.", "OK, tomorrow.", ("de", "en"), "ok"),  # too short to be sure
        ("Kommunen vedtok i går å pusse opp den gamle broen over elva til våren.", EN, ("nb", "en"), "ok"),
        ("Градско веће је јуче одлучило да на пролеће обнови стари мост.", EN, ("sr", "en"), "ok"),
        ("Gradsko veće je juče odlučilo da na proleće obnovi stari most.", EN, ("sr-Latn", "en"), "ok"),
        (
            "Градско веће је јуче одлучило да на пролеће обнови стари мост.",
            EN,
            ("sr-Latn", "en"),
            "wrong_language_source",
        ),
        ("Gradsko veće je juče odlučilo da na proleće obnovi stari most.", EN, ("sr", "en"), "wrong_language_source"),
        (FR, EN, ("sr-Latn", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (ZH, EN, ("zho_Hans", "en"), "ok"),
        (FR, EN, ("zsm_Latn", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (FR, EN, ("arb_Arab", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (DE, EN, ("kor_Hang", "en"), reasons.WRONG_LANGUAGE_SOURCE),
        (RU, EN, ("tlh-Latn", "en"), reasons.WRONG_LANGUAGE_SOURCE),  # unknown to it, but its script is declared
        (
            'Open the <a href="https://www.example.org/en/%(edition)s/manual/" rel="noopener">quick guide</a> of Setup',
            '打开 Setup 的 <a href="https://www.example.org/en/%(edition)s/manual/" rel="noopener">quick guide</a>',
            ("en", "zh"),
            "ok",
        ),  # three letters of Chinese among those of a tag
        ("nuqneH qaStaHvIS wa' ram loS SaD Hugh SIjlaH qetbogh loD", EN, ("tlh", "en"), "ok"),  # unknown to it
    ],
)
def test_language(source: str, target: str, languages: tuple[str, str], reason: str) -> None:
    assert check_one(source, target, languages) == reason
    assert check_one(source, target, languages, language_check=False) == "ok"


def test_rejected_rows_name_their_place_and_pass_through() -> None:
    before = Rejected("f", 1, reasons.NOT_UTF8)
    items: list[Row[Pair] | Rejected] = [before, Row(7, Pair("x", "a", "b\x07", "de", "en"))]
    assert list(check_pairs(items, CheckLimits(), file="f")) == [
        before,
        Rejected("f", 7, reasons.CONTROL_CHARACTERS, "U+0007 in the target"),
    ]


def test_duplicates_are_pairs_of_equal_sides_in_one_direction() -> None:
    sides = [("Ja!", "Yes."), ("ja", "YES"), ("Ja", "Yeah"), ("Jawohl", "Yes"), ("Ja!", "Yes.")]
    seen = Duplicates()
    assert found(check_pairs(rows(*sides), CheckLimits(), file="f", seen=seen)) == [
        "ok",
        "duplicate",
        "ok",
        "ok",
        "duplicate",
    ]
    assert found(check_pairs(rows(("Ja", "Yes")), CheckLimits(), file="g", seen=seen)) == ["duplicate"]
    assert found(check_pairs(rows(("Yes", "Ja"), source="en", target="de"), CheckLimits(), file="g", seen=seen)) == [
        "ok"
    ]
    assert found(check_pairs(rows(("Ja", "Yes")), CheckLimits(), file="g")) == ["ok"]


def test_overlap_with_a_test_set() -> None:
    index = OverlapIndex([Pair("t:1", EN, DE, "en", "de")])
    [item, other] = check_pairs(rows((DE, EN), ("Ja", "Yes")), CheckLimits(), file="f", overlap=index)
    assert item == Rejected("f", 1, reasons.OVERLAP_WITH_TEST, "both sides of 't:1'")
    assert isinstance(other, Pair)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=6))
def test_every_row_comes_out_once_unchanged_or_rejected(sides: list[tuple[str, str]]) -> None:
    made = rows(*sides)
    items = list(check_pairs(made, CheckLimits(), file="f"))
    assert len(items) == len(made)
    for row, item in zip(made, items, strict=True):
        assert isinstance(row, Row)
        assert item == row.record or (isinstance(item, Rejected) and item.line == row.line)
        assert not isinstance(item, Rejected) or item.reason in reasons.REASONS


def test_checking_streams() -> None:
    def endless() -> Iterable[Row[Pair] | Rejected]:
        line = 0
        while True:
            line += 1
            yield Row(line, Pair(str(line), f"Zeile {line}", f"line {line}", "de", "en"))

    items = iter(check_pairs(endless(), CheckLimits(), file="f"))
    assert [next(items) for _ in range(3)][2] == Pair("3", "Zeile 3", "line 3", "de", "en")


def test_rows_before_an_error_are_judged_first() -> None:
    def breaks(count: int) -> Iterator[Row[Pair] | Rejected]:
        yield from rows(*[(f"Zeile {n}", f"line {n}") for n in range(count)])
        raise DataError("the rest is damaged")

    for count in (0, 3, CHUNK, CHUNK + 1):
        items = check_pairs(breaks(count), CheckLimits(), file="f")
        assert sum(1 for _ in islice(items, count)) == count
        with pytest.raises(DataError, match="damaged"):
            next(items)


def test_what_is_wrong_with_a_row_does_not_depend_on_its_company() -> None:
    sides = [(DE, EN), (DE, FR), (EN, DE), (DE, ""), (DE * 9, EN), ("Berlin", "Berlin"), (RU, EN), ("a\x07", "b")]
    mixed = [Row(n, Pair(f"{n}", *sides[n % 7], *(("de", "en"), ("fr", "en"))[n % 3 == 0])) for n in range(CHUNK + 50)]

    def count(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def judged(some: list[Row[Pair]]) -> list[str]:
        return found(check_pairs(some, CheckLimits(max_tokens=20), file="f", count_tokens=count, seen=Endless()))

    assert judged(mixed) == [judged([row])[0] for row in mixed]
    assert len(set(judged(mixed))) >= 6


class Endless(Duplicates):
    """Takes every pair for new."""

    def add(self, pair: Pair) -> bool:
        return True


def tally(accepted: int, **rejected: int) -> CheckTally:
    made = CheckTally()
    for line in range(accepted):
        made.add(Pair(str(line), "a", "b", "de", "en"))
    for reason, count in rejected.items():
        for line in range(count):
            made.add(Rejected("f", line, reason))
    return made


def test_tally_and_limit() -> None:
    made = tally(95, duplicate=3, not_utf8=2)
    assert (made.rows, made.accepted, made.rejected_share) == (100, 95, 0.05)
    enforce_limit(made, CheckLimits(), "f.tsv")
    enforce_limit(CheckTally(), CheckLimits(), "f.tsv")
    with pytest.raises(DataError) as caught:
        enforce_limit(
            tally(940, empty_target=40, duplicate=15, not_utf8=5), CheckLimits(), "f.tsv", "out/rejected.jsonl"
        )
    message = str(caught.value)
    for part in ("f.tsv", "60 of 1,000", "6.0%", "empty_target (40)", "duplicate (15)", "5.0%", "out/rejected.jsonl"):
        assert part in message
    assert "max_rejected_share" in message
    assert "not_utf8" not in message


def test_a_file_of_which_nothing_is_left_is_refused_whatever_the_limit() -> None:
    with pytest.raises(DataError, match="all 3 rows are rejected"):
        enforce_limit(tally(0, duplicate=3), CheckLimits(max_rejected_share=1.0), "f")


def test_limits_are_described() -> None:
    assert all(field.description for field in CheckLimits.model_fields.values())
    with pytest.raises(ValueError, match="max_ratio"):
        CheckLimits.model_validate({"max_ratio": 3})


def test_check_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f"{DE}\t{EN}\nJa\tYes\nJa\t\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"de": "Ja.", "en": "yes"}) + "\n{\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text(f'en,de\n"{EN}","{DE}"\n', encoding="utf-8")
    made = [PairSource(path=name, source="de", target="en") for name in ("a.tsv", "none.tsv", "b.jsonl")]
    test = PairSource(path="test.csv", source="en", target="de")
    written: list[Rejected] = []
    report = check_files(made, CheckLimits(), [test], tmp_path, on_rejected=written.append, keep=2)
    a, none, b = report.files
    assert (a.file, a.tally.accepted, dict(a.tally.rejected)) == (
        "a.tsv",
        1,
        {"overlap_with_test": 1, "empty_target": 1},
    )
    assert (b.tally.accepted, dict(b.tally.rejected)) == (0, {"duplicate": 1, "malformed": 1})
    assert none.error.startswith("none.tsv: there is no such file")
    assert none.tally.rows == 0
    assert [(item.file, item.line) for item in written] == [("a.tsv", 1), ("a.tsv", 3), ("b.jsonl", 1), ("b.jsonl", 2)]
    assert list(report.rejected) == written[:2]


def test_the_same_file_as_train_and_test_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"Satz {n}\tsentence {n}\n" for n in range(10)))
    one = PairSource(path="a.tsv", source="de", target="en")
    made = check_files([one], CheckLimits(), [one], tmp_path).files[0].tally
    with pytest.raises(DataError, match="10 of 10"):
        refuse_test_set(made.rejected[reasons.OVERLAP_WITH_TEST], made.rows, "a.tsv", "a.tsv")
