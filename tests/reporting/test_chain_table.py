"""The table of the chain: which suites get one, and what a row says."""

from __future__ import annotations

from lingraft.evaluation.scorecard import GeneralScore
from lingraft.reporting.chain_table import chain_tables
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.pages import breakable
from lingraft.reporting.tables import Names


def _score(system: str, metric: str, value: float, suite: str = "tcot_th") -> GeneralScore:
    return GeneralScore(system=system, suite=suite, metric=metric, n=20, score=value, ci95=(value - 1.26, value + 2.0))


def test_a_suite_that_measured_the_chain_has_a_row_for_each_system(contents: ReportContents) -> None:
    chain = [
        *(_score("radis", metric, value) for metric, value in (("query_chrf", 41.237), ("format_failure", 5.0))),
        *(_score("radis", f"tokens_{part}", tokens) for part, tokens in (("query", 12.4), ("english", 80.6))),
        _score("base", "english_chrf", 100.0),
    ]
    card = contents.scorecard.model_copy(update={"general": [*contents.scorecard.general, *chain]})
    (table,) = chain_tables(card, Names.of(card, "radis"))
    assert "tcot_th" in table.caption
    assert [column.partition(":")[0] for column in table.columns] == [
        *("System", "Step 1, question to English (chrF)", "Chains with a missing part %"),
        *("Step 2 alone, asked in English, like the base's (chrF)", "Tokens of each step"),
    ]
    (radis, base) = table.groups[0].rows
    assert [cell.text for cell in radis] == ["radis", "41.2", "5.0", "-", "12 + 81"]
    assert radis[1].detail == "[40.0, 43.2]"
    assert [cell.text for cell in base] == ["base", "-", "-", "100.0", "-"]


def test_without_a_chain_there_is_no_table(contents: ReportContents) -> None:
    assert chain_tables(contents.scorecard, Names.of(contents.scorecard, "radis")) == []


def test_names_of_several_methods_break_between_them_and_stay_escaped() -> None:
    assert breakable("tcot+<b>") == "tcot+<wbr>&lt;b&gt;"
