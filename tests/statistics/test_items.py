"""Per-item statistics on disk, the rows made from them, their corrected p-values and the summary's intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from lingraft.core.errors import DataError, StoreError
from lingraft.data.records import Pair
from lingraft.evaluation.correction import corrected
from lingraft.evaluation.retention import suite_items, suite_rows
from lingraft.evaluation.scorecard import System
from lingraft.evaluation.scoring import Resampling, Scored, translation_rows
from lingraft.evaluation.summary import joint_retention, seed_spread, summarise
from lingraft.evaluation.translation import measure_items
from lingraft.statistics.bootstrap import percentile_interval, resample_totals
from lingraft.statistics.items import Items, item_lines, read_items, same_question
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.statistics.paired_tests import holm
from lingraft.store.files import write_lines
from lingraft.suites.base import ItemScores

HOW = Resampling(200, 5)
WORDS = [*"aeiou", "harbour", "wall", "stone", "boats", "tide", "behind", "wait", "long", "grey"]


def translations(documents: bool = False) -> list[Items]:
    generator = np.random.default_rng(1)
    pairs, hypotheses = [], {"base": {}, "radis": {}}
    for i in range(24):
        line = " ".join(generator.permutation(WORDS)[:9])
        pairs.append(Pair(f"t{i}", f"Satz {i}", line, "de", "en", f"d{i // 2}" if documents else None))
        for system, keep in (("base", 0.6), ("radis", 0.8)):
            hypotheses[system][f"t{i}"] = " ".join(word for word in line.split() if generator.random() < keep)
    return measure_items(hypotheses, pairs, "news", ["bleu", "chrf++", "ter", "length_ratio"], HOW)


def quiz(system: str, rate: float, seed: int, metric: str = "acc", **options: object) -> Items:
    values = (np.random.default_rng(seed).random(80) < rate).astype(float)
    scores = ItemScores(metric, {f"q{i:02}": value for i, value in enumerate(values)}, **options)  # type: ignore[arg-type]
    return suite_items(system, "quiz", scores, "content")


def test_items_come_back_from_the_disk_and_give_the_same_rows(tmp_path: Path) -> None:
    written = [*translations(), *translations(documents=True), quiz("base", 0.5, 1), quiz("radis", 0.6, 2)]
    path = tmp_path / "items.jsonl"
    write_lines(path, item_lines(written, "ab" * 32))
    base, read = read_items(path)
    assert base == "ab" * 32
    for one, other in zip(written, read, strict=True):
        np.testing.assert_array_equal(one.statistics, other.statistics)
        assert (one.ids, one.clusters, one.system, one.direction) == (
            other.ids,
            other.clusters,
            other.system,
            other.direction,
        )
        assert same_question(one, other)
    assert translation_rows(read[:8], HOW) == translation_rows(written[:8], HOW)
    assert suite_rows(read[-2:], HOW) == suite_rows(written[-2:], HOW)
    assert list(item_lines(read, base)) == list(item_lines(written, base))


def test_the_same_question_whatever_was_resampled_but_not_with_other_segments() -> None:
    one, other = translations()[0], translations(documents=True)[0]
    assert not same_question(one, other)
    again = measure_items(
        {"x": {"t0": "a b"}}, [Pair("t0", "s", "a b", "de", "en")], "news", ["bleu"], Resampling(100, 1)
    )[0]
    changed = measure_items(
        {"x": {"t0": "a b"}}, [Pair("t0", "s", "a b", "de", "en")], "old", ["bleu"], Resampling(300, 2)
    )[0]
    assert again.signature != changed.signature
    assert same_question(again, changed)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{broken", "line 2, is damaged"),
        ('{"system": "x"}', "line 2, is damaged"),
        ('{"set": "s", "content": "", "ids": ["a"]}\n{"of": "s", "statistics": []}', "line 3, is damaged"),
        ("7", "line 2, is damaged"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"schema": "lingraft.items/1", "base": "x"}) + "\n" + line + "\n", "utf-8")
    with pytest.raises(StoreError, match=what):
        read_items(path)


def test_other_versions_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is missing; run the recipe again"):
        read_items(tmp_path / "items.jsonl")
    (tmp_path / "items.jsonl").write_text('{"schema": "lingraft.items/9", "base": "x"}\n', "utf-8")
    with pytest.raises(StoreError, match=r"has schema 'lingraft\.items/9'"):
        read_items(tmp_path / "items.jsonl")


def test_right_or_wrong_items_have_the_exact_test_and_others_the_bootstrap() -> None:
    base, own = quiz("base", 0.4, 1), quiz("radis", 0.7, 2)
    row = suite_rows([base, own], HOW)[1]
    right, wrong = own.statistics[:, 0], base.statistics[:, 0]
    better, worse = int(np.sum(right > wrong)), int(np.sum(right < wrong))
    assert row.delta is not None
    assert row.delta.test == "exact McNemar"
    assert row.delta.p == pytest.approx(binomtest(better, better + worse).pvalue)
    assert row.delta.value == pytest.approx(right.mean() - wrong.mean())
    for options in ({"weights": {f"q{i:02}": 1.0 + i for i in range(80)}}, {"scale": 100.0}):
        rows = suite_rows([quiz("base", 0.4, 1, **options), quiz("radis", 0.7, 2, **options)], HOW)
        assert rows[1].delta is not None
        assert rows[1].delta.test == ("paired bootstrap" if "weights" in options else "exact McNemar")


def test_shares_in_percent_have_the_exact_test_too() -> None:
    pairs = [Pair(f"t{i}", "Das ist ein Satz.", "This is a whole sentence.", "de", "en") for i in range(20)]
    english, german = "This sentence is written in English.", "Dieser Satz steht auf Deutsch hier."
    texts = {"base": [german] * 9 + [english] * 11, "radis": [english] * 19 + [german]}
    hypotheses = {name: {pair.id: text for pair, text in zip(pairs, texts[name], strict=True)} for name in texts}
    row = translation_rows(measure_items(hypotheses, pairs, "news", ["off_target"], HOW), HOW)[1]
    assert row.delta is not None
    assert (row.delta.value, row.delta.test) == (-40.0, "exact McNemar")
    assert row.delta.p == pytest.approx(binomtest(1, 10).pvalue)


def test_grouped_items_are_resampled_in_groups() -> None:
    groups = {f"q{i:02}": str(i // 4) for i in range(80)}
    base, own = quiz("base", 0.4, 1, clusters=groups), quiz("radis", 0.7, 2, clusters=groups)
    row = suite_rows([base, own], HOW)[1]
    assert row.delta is not None
    assert row.delta.test == "paired bootstrap, whole clusters"
    assert "unit:cluster" in row.signature
    sums = own.statistics.reshape(20, 4, 2).sum(axis=1)
    totals = resample_totals(sums, HOW.n, HOW.seed)
    assert row.ci95 == pytest.approx(percentile_interval(totals[:, 0] / totals[:, 1]))
    few = {f"q{i:02}": str(i // 40) for i in range(80)}  # two groups say nothing of the spread between groups
    assert "unit:" not in suite_rows([quiz("base", 0.4, 1, clusters=few)], HOW)[0].signature
    with pytest.raises(DataError, match="'q00' has a value but no cluster"):
        quiz("base", 0.4, 1, clusters={"other": "x"})


def test_documents_are_resampled_whole_and_randomised_whole() -> None:
    items = translations(documents=True)
    row = next(row for row in translation_rows(items, Resampling(200, 5, "randomisation")) if row.delta)
    assert row.delta is not None
    assert row.delta.test == "approximate randomisation, whole clusters"
    assert row.signature.endswith("|unit:document")
    assert row.n == 24
    plain = next(row for row in translation_rows(translations(), HOW) if row.delta)
    assert plain.delta is not None
    assert plain.delta.test == "paired bootstrap"
    assert plain.score == pytest.approx(row.score)


def test_corrected_p_values_of_one_family() -> None:
    of_tests = translations()
    of_suites = [quiz("base", 0.4, 1), quiz("base", 0.5, 3, "words", facts=MetricFacts(retains=False))]
    of_suites += [quiz("radis", 0.55, 2), quiz("radis", 0.7, 4, "words", facts=MetricFacts(retains=False))]
    translation, general = corrected(
        translation_rows(of_tests, HOW), suite_rows(of_suites, HOW), [*of_tests, *of_suites]
    )
    rows = [row for row in [*translation, *general] if row.system == "radis"]
    family = [row.delta for row in rows if row.delta and row.metric in ("bleu", "chrf++", "ter", "acc")]
    assert [delta.p_holm for delta in family] == pytest.approx(holm([delta.p for delta in family]))
    assert {row.metric for row in rows if row.delta and row.delta.p_holm is None} == {"length_ratio", "words"}


def test_interval_of_the_mean_retention_keeps_what_metrics_share() -> None:
    """The same metric twice: mean and minimum are that metric's; independent ones: the mean's variance is halved."""
    base, own = quiz("base", 0.6, 1), quiz("radis", 0.5, 2)
    single = suite_rows([base, own], HOW)[1].retention
    twice = joint_retention(
        [Scored(one, HOW) for one in (own, quiz("radis", 0.5, 2, "again"))],
        [Scored(one, HOW) for one in (base, quiz("base", 0.6, 1, "again"))],
    )
    assert single is not None
    assert twice is not None
    assert (twice.mean, twice.mean_ci95) == (single.percent, single.ci95)
    assert (twice.minimum, twice.minimum_ci95) == (single.percent, single.ci95)
    many = Resampling(2000, 3)
    apart = joint_retention(
        [Scored(one, many) for one in (own, quiz("radis", 0.5, 12, "other"))],
        [Scored(one, many) for one in (base, quiz("base", 0.6, 11, "other"))],
    )
    alone = joint_retention([Scored(own, many)], [Scored(base, many)])
    assert apart is not None
    assert alone is not None
    assert np.diff(apart.mean_ci95)[0] / np.diff(alone.mean_ci95)[0] == pytest.approx(0.5**0.5, abs=0.12)
    assert apart.minimum_ci95[0] <= apart.mean_ci95[0]
    described = [Scored(quiz(system, 0.5, 2, facts=MetricFacts(retains=False)), HOW) for system in ("radis", "base")]
    assert joint_retention(described[:1], described[1:]) is None


def test_the_summary_has_the_joint_intervals() -> None:
    items = [quiz("base", 0.6, 1), quiz("radis", 0.5, 2)]
    base, radis = summarise(["base", "radis"], [], suite_rows(items, HOW), items=items, how=HOW)
    assert base.retention_mean_ci95 == (100.0, 100.0)
    expected = joint_retention([Scored(items[1], HOW)], [Scored(items[0], HOW)])
    assert expected is not None
    assert (radis.retention_mean_ci95, radis.retention_min_ci95) == (expected.mean_ci95, expected.minimum_ci95)
    assert radis.retention_mean == pytest.approx(expected.mean)


def test_the_spread_between_seeds() -> None:
    systems = [
        System(name="base"),
        System(name="radis"),
        System(name="radis#8", group="radis", seed=8),
        System(name="radis#9", group="radis", seed=9),
        System(name="radis*0.5", group="radis", scale=0.5),
    ]
    rates = (0.5, 0.6, 0.7, 0.8, 0.2)
    items = [quiz(system.name, rate, 1) for system, rate in zip(systems, rates, strict=True)]
    rows = suite_rows(items, HOW)
    summary = summarise([system.name for system in systems], [], rows, items=items, how=HOW)
    spread = {row.metric: row for row in seed_spread(systems, 7, [], rows, summary)}
    scores = {row.system: row.score for row in rows}
    assert spread["acc"].scores == {"7": scores["radis"], "8": scores["radis#8"], "9": scores["radis#9"]}
    assert spread["acc"].sd == pytest.approx(np.std([*spread["acc"].scores.values()], ddof=1))
    assert set(spread) == {"acc", "retention_mean", "retention_min"}
    assert seed_spread(systems[:2], 7, [], rows, summary) == []


def test_a_difference_needs_the_same_items() -> None:
    one, other = quiz("base", 0.5, 1), suite_items("x", "quiz", ItemScores("acc", {"q00": 1.0}))
    with pytest.raises(DataError, match="'base' and 'x' were not scored on the same items"):
        Scored(one, HOW).minus(Scored(other, HOW))
