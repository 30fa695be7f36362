"""Items that changed: from a suite's values to the scorecard's row, against counts by hand."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from lingraft.evaluation.changed import EXAMPLES, changed_over_seeds, most_forgotten
from lingraft.evaluation.retention import general_scores, suite_items
from lingraft.evaluation.scorecard import GeneralScore, System
from lingraft.evaluation.scoring import Resampling
from lingraft.statistics.metric_facts import Better, MetricFacts
from lingraft.suites.base import ItemScores

BASE = [1] * 30 + [0] * 10
OWN = [0] * 8 + [1] * 22 + [1] * 2 + [0] * 8


def values(outcomes: list[int], **given: object) -> ItemScores:
    return ItemScores("acc", {f"q{n:02}": float(value) for n, value in enumerate(outcomes)}, **given)  # type: ignore[arg-type]


def row(own: ItemScores, base: ItemScores) -> GeneralScore:
    (found,) = general_scores("radis", "quiz", [own], [base], seed=1, n_bootstrap=200)
    return found


def test_counts_percent_and_ids_are_in_the_row() -> None:
    found = row(values(OWN), values(BASE))
    changed = found.changed
    assert changed is not None
    assert changed.forgotten is not None
    assert (changed.base_right, changed.right_to_wrong, changed.wrong_to_right, changed.by_chance) == (30, 8, 2, 0)
    assert changed.forgotten.percent == pytest.approx(100 * 8 / 30)
    assert changed.lost_ids == [f"q{n:02}" for n in range(EXAMPLES)]
    assert changed.gained_ids == ["q30", "q31"]
    assert found.delta is not None
    assert found.retention is not None
    assert found.delta.p == pytest.approx(binomtest(2, 10, 0.5).pvalue)
    assert found.delta.test == "exact McNemar"
    assert changed.learnt_percent is not None
    assert found.retention.percent == pytest.approx(100 - changed.forgotten.percent + changed.learnt_percent)


def test_bounds_of_one_side_lie_within_the_interval() -> None:
    found = row(values(OWN, chance=0.25), values(BASE, chance=0.25))
    assert found.changed is not None
    assert found.changed.forgotten is not None
    assert found.changed.by_chance == 2  # 8 wrong in both would give 2.67; only 2 went from wrong to right
    assert found.delta is not None
    assert found.retention is not None
    ends = [(part.ci95, part.ci90) for part in (found, found.delta, found.retention, found.changed.forgotten)]
    for (low, high), inner in ends:
        assert inner is not None
        assert low <= inner[0] <= inner[1] <= high
        assert inner[1] - inner[0] < high - low


@pytest.mark.parametrize(("better", "lost"), [("higher", 8), ("lower", 2)])
def test_an_error_is_the_other_way_round(better: Better, lost: int) -> None:
    facts = MetricFacts(label="x", better=better)
    found = row(values(OWN, facts=facts), values(BASE, facts=facts))
    assert found.changed is not None
    assert found.changed.right_to_wrong == lost


def test_what_is_not_right_or_wrong_has_no_such_counts() -> None:
    graded = values(OWN)
    graded.values["q00"] = 0.5  # type: ignore[index]
    assert row(graded, values(BASE)).changed is None
    described = MetricFacts(label="x", better=None)
    assert row(values(OWN, facts=described), values(BASE, facts=described)).changed is None
    (base,) = general_scores("base", "quiz", [values(BASE)], [])
    assert base.changed is None


def test_the_suite_of_which_most_was_forgotten_is_no_diagnostic() -> None:
    kept = row(values(BASE), values(BASE))
    lost = row(values(OWN), values(BASE)).model_copy(update={"suite": "other"})
    facts = MetricFacts(label="x", retains=False)
    shown = row(values([0] * 40, facts=facts), values(BASE, facts=facts))
    assert shown.changed is not None
    assert shown.diagnostic
    assert most_forgotten([kept, lost, shown], "radis") is lost
    assert most_forgotten([kept, lost], "vanilla") is None


def test_over_seeds_it_is_the_mean_and_items_are_counted_once() -> None:
    again = [0] * 4 + [1] * 26 + [0] * 10
    systems = [
        System(name="base"),
        System(name="radis"),
        System(name="vanilla"),
        System(name="radis#2", group="radis", seed=2),
        System(name="radis*0.5", group="radis", scale=0.5),
    ]
    answers = {"base": BASE, "radis": OWN, "vanilla": OWN, "radis#2": again, "radis*0.5": BASE}
    items = [suite_items(name, "quiz", values(outcomes)) for name, outcomes in answers.items()]
    (found,) = changed_over_seeds(systems, items, Resampling(500, 1))
    assert (found.system, found.suite, found.metric, found.trainings) == ("radis", "quiz", "acc", 2)
    assert (found.base_right, found.right_to_wrong, found.wrong_to_right) == (30, 6, 1)
    assert found.test == "approximate randomisation"
    assert found.forgotten is not None
    assert found.forgotten.percent == pytest.approx(100 * 6 / 30)
    low, high = found.forgotten.ci95
    exact = binomtest(12, 60).proportion_ci(0.95, "exact")  # as if there were twice the items
    assert high - low > 1.1 * 100 * (exact.high - exact.low)
    assert changed_over_seeds(systems[:3], items, Resampling(500, 1)) == []
