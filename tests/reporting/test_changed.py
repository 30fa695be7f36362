"""Items that changed stand in report and card, with the answers where there are any."""

from __future__ import annotations

import dataclasses

from lingraft.data.records import SideBySide
from lingraft.evaluation.scorecard import Changed, ChangedOverSeeds, Delta, Forgotten, GeneralScore
from lingraft.reporting.changed import changed_examples, changed_line, changed_table
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.report import render_report
from lingraft.reporting.tables import Names
from poison import POISON


def with_changes(contents: ReportContents, suite: str = "refusal") -> ReportContents:
    lost = Forgotten(percent=12.5, ci95=(4.2, 26.8), ci90=(5.1, 24.4))
    changed = Changed(
        base_right=36,
        right_to_wrong=5,
        wrong_to_right=2,
        by_chance=0.5,
        forgotten=lost,
        learnt_percent=4.2,
        lost_ids=["a", "b", "c"],
        gained_ids=["z"],
    )
    delta = Delta(value=-6.8, ci95=(-18, 4), p=0.4531, p_holm=0.9, test="exact McNemar")

    def extended(row: GeneralScore) -> GeneralScore:
        if (row.system, row.suite) != ("radis", "refusal"):
            return row
        return row.model_copy(update={"changed": changed, "delta": delta, "suite": suite})

    card = contents.scorecard.model_copy(update={"general": [extended(row) for row in contents.scorecard.general]})
    answers = SideBySide("a", suite, "How?", "", {"base": "I cannot  help.", "radis": "Sure: " + "x" * 500})
    return dataclasses.replace(contents, scorecard=card, examples=[*contents.examples, answers])


def test_the_table_has_counts_percent_and_both_p(contents: ReportContents) -> None:
    full = with_changes(contents)
    names = Names.of(full.scorecard, "radis")
    table = changed_table(full.scorecard, names)
    (group,) = table.groups
    assert (group.suite, group.detail) == ("refusal", "44 items")
    (row,) = group.rows
    assert [cell.text for cell in row] == [
        *("radis", "36", "5", "2", "0.5", "12.5", "[4.2, 26.8]", "4.2", "0.453", "0.900"),
    ]
    assert table.signatures[1][1] == (
        "exact McNemar, two-sided; corrected for the number of comparisons by Holm's method"
    )
    assert changed_table(contents.scorecard, names).groups == []


def test_a_line_of_means_follows_the_trainings_of_a_system(contents: ReportContents) -> None:
    full = with_changes(contents)
    (changed,) = [row for row in full.scorecard.general if row.changed]
    mean = ChangedOverSeeds(
        system="radis",
        suite="refusal",
        metric=changed.metric,
        trainings=3,
        base_right=36,
        right_to_wrong=16 / 3,
        wrong_to_right=2,
        by_chance=0.25,
        forgotten=Forgotten(percent=14.8, ci95=(7.0, 25.0)),
        learnt_percent=5.6,
        p=0.2,
        test="approximate randomisation",
    )
    card = full.scorecard.model_copy(update={"changed_over_seeds": [mean]})
    assert type(card).model_validate_json(card.to_json()) == card
    assert "changed_over_seeds" not in full.scorecard.to_json()
    table = changed_table(card, Names.of(card, "radis"))
    assert [cell.text for cell in table.groups[0].rows[1]] == [
        *("radis, mean of 3 seeds", "36", "5.3", "2.0", "0.2", "14.8", "[7.0, 25.0]", "5.6", "0.200", "-"),
    ]
    assert table.signatures[1][1].startswith("exact McNemar, approximate randomisation (means), two-sided")


def test_examples_are_the_first_items_with_their_answers(contents: ReportContents) -> None:
    full = with_changes(contents)
    (group,) = changed_examples(full.scorecard, full.examples, Names.of(full.scorecard, "radis")).groups
    shown = [[cell.text for cell in row] for row in group.rows]
    assert [row[1:3] for row in shown] == [["right to wrong", "a"], ["right to wrong", "b"], ["wrong to right", "z"]]
    assert shown[0][3] == "I cannot help."
    assert shown[0][4].endswith("xxx ...")
    assert len(shown[0][4]) < 250
    assert shown[1][3:] == ["-", "-"]


def test_the_card_says_it_in_a_sentence(contents: ReportContents) -> None:
    full = with_changes(contents)
    line = changed_line(full.scorecard, "radis")
    assert line.startswith(
        "Of the items that the base had right, 12.5 % [4.2, 26.8] are wrong now, net of chance, in the"
    )
    assert line.endswith("5 of 36 went from right to wrong, 2 from wrong to right).")
    assert changed_line(full.scorecard, "vanilla") == ""


def test_the_page_shows_both_and_escapes_them(contents: ReportContents) -> None:
    page = render_report(with_changes(contents, suite="refusal" + POISON))
    assert "Items that changed: right in the base and wrong now" in page
    assert "Some of the items that changed" in page
    assert "<script>alert(1)" not in page
    assert "Items that changed" not in render_report(contents)
