"""Comparisons of runs whose numbers are known beforehand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lingraft.evaluation.compared_run import ComparedRun
from lingraft.evaluation.comparison import Frontier, compare
from lingraft.evaluation.scorecard import ModelIdentity, Scorecard, System
from lingraft.evaluation.scoring import Resampling
from lingraft.reporting.comparison_page import (
    comparison_csv,
    comparison_html,
    comparison_json,
    comparison_latex,
    comparison_table,
    ordered,
    undecided,
)
from lingraft.statistics.bootstrap import paired_bootstrap, weighted_mean
from lingraft.statistics.items import Items
from lingraft.statistics.metric_facts import MetricFacts

HOW = Resampling(1000, 3)
N = 200


def items(system: str, level: float, kept: float, seed: int, inverted: bool = False) -> list[Items]:
    """One test set in two directions with a metric of mean `level`, and one suite with a share `kept`."""
    generator = np.random.default_rng(seed)
    ids = tuple(f"i{i}" for i in range(N))
    found = []
    for direction in ("de-en", "en-de"):
        rows = np.stack([level + generator.normal(0, 1, N), np.ones(N)], axis=1)
        facts = MetricFacts(better="lower" if inverted else "higher")
        found.append(Items(system, "news", direction, "comet", ids, rows, facts=facts, content=direction))
    right = (np.arange(N) < kept * N).astype(float)
    found.append(Items(system, "quiz", "", "acc", ids, np.stack([right, np.ones(N)], axis=1), content="quiz"))
    return found


def made(label: str, systems: dict[str, tuple[float, float]], inverted: bool = False) -> ComparedRun:
    card = Scorecard(
        schema="lingraft.scorecard/1",
        run=label,
        created="2026-01-01T00:00:00+00:00",
        base=ModelIdentity(id="m", sha256="0"),
        seed=1,
        versions={},
        systems=[System(name="base"), *(System(name=name) for name in systems)],
        translation=[],
        general=[],
        summary=[],
        cost=[],
    )
    rows = items("base", 10.0, 0.8, 1, inverted)
    for number, (name, (level, kept)) in enumerate(systems.items(), start=first_seed(label)):
        rows += items(name, level, kept, number, inverted)
    return ComparedRun(label, Path(label), card, rows)


def first_seed(label: str) -> int:
    return sum(label.encode())


@pytest.fixture(scope="module")
def found() -> Frontier:
    """Good gains and keeps; greedy gains more and keeps less; poor is dominated; equal hardly differs from good."""
    one = made("one", {"good": (12.0, 0.72), "poor": (11.0, 0.40)})
    other = made("two", {"greedy": (14.0, 0.48), "equal": (12.01, 0.72), "[b]odd[/b]": (9.0, 0.2)})
    return compare([one, other], HOW)


def test_gain_and_retention_are_the_means_over_what_is_common(found: Frontier) -> None:
    rows = {row.name: row for row in found.rows}
    assert set(rows) == {"base", "one:good", "one:poor", "two:greedy", "two:equal", "two:[b]odd[/b]"}
    good = rows["one:good"]
    assert good.gain is not None
    assert good.retention is not None
    assert good.gain.value == pytest.approx(2.0, abs=0.2)
    assert good.retention.value == pytest.approx(100 * 0.72 / 0.8)
    better = max(("one:good", "two:equal"), key=lambda name: rows[name].gain.value)  # type: ignore[union-attr]
    assert set(found.pareto) == {"base", "two:greedy", better}
    assert rows["one:poor"].dominated_by
    assert set(rows["two:[b]odd[/b]"].dominated_by) >= {"base", "one:good", "one:poor"}


def test_differences_are_paired_and_corrected_together(found: Frontier) -> None:
    pairs = {(pair.first, pair.second, pair.measure): pair for pair in found.pairs}
    assert len(pairs) == 2 * 6 * 5 / 2
    own, other = items("good", 12.0, 0.72, first_seed("one")), items("greedy", 14.0, 0.48, first_seed("two"))
    expected = [
        paired_bootstrap(a.statistics, b.statistics, weighted_mean, HOW.n, HOW.seed)
        for a, b in zip(own[:2], other[:2], strict=True)
    ]
    pair = pairs["one:good", "two:greedy", "gain"]
    assert pair.delta.value == pytest.approx(np.mean([each.value for each in expected]))
    # Both directions are resampled with the same draws, yet have nothing in common: the errors add in squares.
    half = np.hypot(*(np.diff(each.ci95)[0] for each in expected)) / 2
    assert np.diff(pair.delta.ci95)[0] == pytest.approx(half, rel=0.15)
    assert pair.significant
    assert not pairs["one:good", "two:equal", "gain"].significant
    assert not pairs["one:good", "two:equal", "retention"].significant
    assert pairs["one:good", "one:poor", "retention"].significant
    assert undecided(found) == [
        "Gain: all differences are significant but those between one:good and two:equal.",
        "Retention: all differences are significant but those between one:good and two:equal.",
    ]


def test_less_is_a_gain_for_errors() -> None:
    found = compare([made("one", {"good": (8.0, 0.8)}, inverted=True)], HOW)
    gain = found.rows[1].gain
    assert gain is not None
    assert gain.value == pytest.approx(2.0, abs=0.2)


def test_a_suite_counts_where_all_runs_retain_it() -> None:
    one, other = made("one", {"good": (12.0, 0.7)}), made("two", {"good": (12.0, 0.7)})
    shown = [dataclasses.replace(item, facts=MetricFacts(retains=bool(item.direction))) for item in other.items]
    other = ComparedRun("two", other.folder, other.scorecard, shown)
    for runs in ([one, other], [other, one]):
        found = compare(runs, HOW)
        assert [row.retention for row in found.rows] == [None] * 3
        assert all("quiz acc" in row.scores for row in found.rows)
    assert all(row.retention for row in compare([one], HOW).rows)


def test_a_base_that_answered_differently_is_told() -> None:
    one, other = made("one", {"good": (12.0, 0.7)}), made("two", {"good": (12.0, 0.7)})
    changed = [
        item if (item.system, item.metric) != ("base", "acc") else items("base", 1, 0.5, 1)[2] for item in other.items
    ]
    notes = compare([one, ComparedRun("two", other.folder, other.scorecard, changed)], HOW).notes
    assert notes == [
        "two: the base answered differently than in one (quiz acc); each system is set against the base of its own run"
    ]
    three = [dataclasses.replace(other, label=label, items=changed) for label in ("two", "three")]
    assert compare([one, *three], HOW).notes[0].startswith("two, three: the base answered differently than in one (")
    few = compare([one, other], Resampling(100, 1)).notes
    assert few == ["100 resamples cannot show any of 6 differences to be significant; take more of them"]


def test_a_chance_that_follows_from_the_base_is_that_of_each_run() -> None:
    def of(label: str, chance: float) -> ComparedRun:
        run = made(label, {"good": (12.0, 0.7)})
        said = f"chrF2|ref:base|unrelated:{100 * chance:.1f}"
        found = [one if one.direction else dataclasses.replace(one, chance=chance, signature=said) for one in run.items]
        return dataclasses.replace(run, items=found)

    runs = [of("one", 0.2), of("two", 0.3)]
    found = compare(runs, HOW)
    assert not found.notes
    for row, run, chance in zip(found.rows[1:], runs, (0.2, 0.3), strict=True):
        quiz = next(one for one in run.items if not one.direction)
        base, own = (run.need(name, quiz).statistics[:, 0].mean() for name in ("base", "good"))
        assert row.retention is not None
        assert row.retention.value == pytest.approx(100 * (own - chance) / (base - chance))
    fixed = dataclasses.replace(
        runs[1], items=[one if one.direction else dataclasses.replace(one, signature="x") for one in runs[1].items]
    )
    assert any("left out" in note for note in compare([runs[0], fixed], HOW).notes)


def seeded(label: str, seeds: dict[str, tuple[float, float]]) -> ComparedRun:
    """A run of one system trained with several seeds."""
    run = made(label, seeds)
    first, *further = seeds
    systems = [run.scorecard.systems[0], System(name=first)]
    systems += [System(name=name, group=first, seed=number) for number, name in enumerate(further, 2)]
    return dataclasses.replace(run, scorecard=run.scorecard.model_copy(update={"systems": systems}))


def test_trainings_of_a_row_are_pooled_and_set_against_the_chosen_rows() -> None:
    plain = made("plain", {"vanilla": (11.0, 0.6)})
    ours = seeded("ours", {"radis": (12.0, 0.7), "radis#2": (12.4, 0.74)})
    apart = {row.name: row for row in compare([plain, ours], HOW).rows}
    found = compare([plain, ours], HOW, against={"plain": ["base"], "ours": ["base", "plain"]})
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["base", "plain", "ours"]
    both = [apart["ours:radis"], apart["ours:radis#2"]]
    for measure in ("gain", "retention"):
        measured = [row.measure(measure) for row in both]
        pooled = rows["ours"].measure(measure)
        assert pooled is not None
        assert pooled.value == pytest.approx(np.mean([one.value for one in measured if one]))
        assert pooled.draws == pytest.approx(np.mean([one.draws for one in measured if one], axis=0))
        assert rows["ours"].spread[measure] == pytest.approx(np.std([one.value for one in measured if one], ddof=1))
    assert rows["ours"].lowest == pytest.approx(100 * 0.72 / 0.8)
    assert rows["ours"].scores["quiz acc"] == pytest.approx(0.72)
    assert rows["ours"].trainings == ["radis", "radis#2"]
    assert rows["plain"].spread == {}
    assert [(pair.first, pair.second, pair.measure) for pair in found.pairs] == [
        (first, second, measure)
        for first, second in (("plain", "base"), ("ours", "base"), ("ours", "plain"))
        for measure in ("gain", "retention")
    ]
    changed = rows["ours"].most_forgotten
    assert changed is not None
    assert changed.forgotten is not None
    assert (changed.base_right, changed.right_to_wrong, changed.trainings) == (160, 16, 2)
    assert changed.forgotten.percent == pytest.approx(10)
    assert changed.p < 0.05


def test_a_row_may_be_called_base_and_have_several_systems() -> None:
    one = made("base", {"vanilla": (11.0, 0.6)})
    other = made("routed", {"routed": (11.0, 0.6), "routed-route": (11.0, 0.8)})
    found = compare([one, other], HOW, against={"base": ["base"], "routed": ["base"]})
    assert [row.name for row in found.rows] == ["base", "base:vanilla", "routed", "routed:routed-route"]


def test_most_forgotten_stands_in_every_table(found: Frontier) -> None:
    rows = {row.name: row for row in found.rows}
    lost = rows["two:greedy"].most_forgotten
    assert lost is not None
    assert lost.forgotten is not None
    assert lost.forgotten.percent == pytest.approx(100 * (0.8 - 0.48) / 0.8)
    assert lost.test == "exact McNemar"
    assert rows["base"].most_forgotten is None
    words = "40.0 [32.3, 48.0]"
    assert f"{words} quiz" in comparison_html(found, "runs")
    assert r"& 60.0 & 40.0 & [32.3, 48.0] \\" in comparison_latex(found)
    console = Console(width=200, file=io.StringIO())
    console.print(comparison_table(found))
    assert f"{words} quiz" in console.file.getvalue()  # type: ignore[attr-defined]
    (line,) = [row for row in csv.DictReader(io.StringIO(comparison_csv(found))) if row["system"] == "two:greedy"]
    assert (float(line["forgotten"]), line["forgotten suite"]) == (pytest.approx(40), "quiz")
    (values,) = [row for row in json.loads(comparison_json(found))["systems"] if row["name"] == "two:greedy"]
    assert values["changed"][0]["forgotten"]["percent"] == pytest.approx(40)


def test_tables_escape_names_and_keep_their_order(found: Frontier) -> None:
    assert ordered(found, "retention")[0].name == "base"
    assert ordered(found, "gain")[0].name == "two:greedy"
    assert r"two:greedy$^\star$ & " in comparison_latex(found)
    page = comparison_html(found, "<script>x</script>")
    assert "<script>x" not in page
    assert (
        comparison_csv(found).splitlines()[0].startswith('"system","run","method","group","seed","scale","gain comet"')
    )
    assert comparison_json(found) == comparison_json(found)


def test_names_are_no_formulas_and_end_no_line_in_tables() -> None:
    """Names of test sets are free text, and notes name them."""
    found = compare([made("a;=1+1", {"good": (12.0, 0.7)})], HOW)
    (row,) = [row for row in csv.DictReader(io.StringIO(comparison_csv(found))) if row["system"] == "good"]
    assert row["run"] == "a;'=1+1"
    assert float(row["gain comet"]) > 0
    noted = dataclasses.replace(found, notes=["x\r\\input{/etc/passwd}\x0b\u2028"])
    *_, last = re.split("[\r\n]", comparison_latex(noted).rstrip("\n"))
    assert last == r"% x␍\input{/etc/passwd}␋\u2028"
