"""The page of a bench from its folder: rows compared, rows that are gone, tables of other versions, hostile texts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benches import publish, row, write_table
from lingraft.core.errors import StoreError, UsageError
from lingraft.pipeline.bench_report import read_contents, refuse_foreign, write_report
from lingraft.reporting.bench_page import bench_readme, cautions, render_bench
from lingraft.reporting.bench_tables import changes_table, forgotten_table, rows_table
from lingraft.reporting.tables import Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "small"
    publish(out / "rows" / "vanilla", {"vanilla": (13.0, 0.5)})
    publish(out / "rows" / "radis", {"radis": (13.1, 0.7), "radis#2": (13.3, 0.72)})
    publish(out / "rows" / "worse", {"vanilla": (10.5, 0.4)})
    publish(out / "tokens" / "radis", {"radis": (12.0, 0.75)})
    rows = [
        row("vanilla", set={"stages.0.method": "vanilla"}),
        row("radis", set={"stages.0.params": {"targets": "soft"}}),
        row("worse"),
        row("later", "to do"),
        row("dear", "not run", why="ninety hours"),
    ]
    equal = [
        {**row("vanilla"), "status": "as configured"},
        {**row("radis"), "run": "tokens/radis"},
        row("later", "to do"),
    ]
    tokens = {"reference": "vanilla", "tokens": 5000, "tolerance": 0.1, "rows": equal}
    (write_table(out, rows, equal_tokens=tokens) / "bench.yaml").write_text("name: small\n", "utf-8")
    return out


def cells(table: Table) -> dict[str, dict[str, str]]:
    """The rows of a table by the text of their first cell."""
    rows = [one for group in table.groups for one in group.rows]
    return {
        one[0].text: {
            column: f"{cell.text} {cell.detail}".strip() for column, cell in zip(table.columns, one, strict=True)
        }
        for one in rows
    }


def test_every_row_has_its_scores_its_cost_and_its_place_on_the_frontier(folder: Path) -> None:
    contents = read_contents(folder)
    first, second = contents.sections
    assert first.reference == second.reference == "vanilla"
    assert first.frontier is not None
    assert [one.name for one in first.frontier.rows] == ["base", "vanilla", "radis", "worse"]
    assert first.frontier.pareto == ["base", "radis"]
    shown = cells(rows_table(first))
    assert list(shown) == ["base", "vanilla", "radis", "worse", "later", "dear"]
    radis = shown["radis"]
    assert radis["Gain against base"] == "better"
    assert radis["Retention against base"] == "worse"
    assert radis["Retention against vanilla"].endswith("better")
    assert radis["Gain against vanilla"].endswith("better")
    assert shown["worse"]["Gain against vanilla"].endswith("worse")
    assert radis["Trainings, sd of gain and retention"].startswith("2 ")
    assert radis["Most forgotten, %"].startswith("10.4 [")  # (6 + 4) / 2 of 48
    cost = {name: radis[name] for name in ("Synthesis, s", "Training, s", "Tokens read", "Supervised")}
    assert cost == {"Synthesis, s": "30", "Training, s": "1,500", "Tokens read": "5,000", "Supervised": "2,000"}
    assert (radis["Frontier"], shown["worse"]["Frontier"]) == ("Pareto", "dominated")
    assert shown["later"]["Status"] == "to do"
    assert shown["dear"]["Status"] == "not run: ninety hours"
    assert set(shown["dear"].values()) == {"dear", "not run: ninety hours", "-"}
    equal = cells(rows_table(second))
    assert list(equal) == ["base", "vanilla", "radis@tokens", "later"]
    assert equal["vanilla"]["Status"] == "as configured"
    assert equal["vanilla"]["Gain, Quality"] == shown["vanilla"]["Gain, Quality"]


def test_p_is_corrected_over_both_tables_and_suites_over_their_rows(folder: Path) -> None:
    contents = read_contents(folder)
    first, second = contents.sections
    # Four trained rows against the base, three against vanilla, in two measures.
    assert first.comparisons == second.comparisons == 14
    assert first.frontier is not None
    least = min(pair.delta.p for pair in first.frontier.pairs)
    corrected = min(pair.delta.p_holm or 0 for pair in first.frontier.pairs)
    assert corrected == pytest.approx(14 * least)
    table = forgotten_table(first.frontier)
    (group,) = table.groups
    assert group.title == "quiz: Accuracy"
    shown = cells(table)
    assert shown["vanilla"]["Right to wrong"] == "18"
    assert shown["radis"]["Right to wrong"] == "5.0"
    assert shown["vanilla"]["Result"] == "below base"
    assert float(shown["radis"]["p, Holm"]) >= float(shown["radis"]["p"])
    assert "exact McNemar, approximate randomisation" in table.signatures[0][1]


def test_the_page_says_what_to_beware_of(folder: Path) -> None:
    said = cautions(read_contents(folder))
    assert said[0].startswith("Not finished: later still to do.")
    assert any(line.startswith("Few items: news de-en has 60 segments.") for line in said)
    assert any(line.startswith("Of 3 rows, 2 with one training at most") for line in said)
    assert any(line.startswith("3 rows are measured on the same items") for line in said)
    assert "| radis | done | +" in bench_readme(read_contents(folder))


def test_a_row_that_ended_before_its_budget_is_not_called_equal(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    shutil.copytree(folder, out)
    table = json.loads((out / "bench.json").read_text("utf-8"))
    table["equal_tokens"]["tokens"] = 9000
    (out / "bench.json").write_text(json.dumps(table), "utf-8")
    assert not any("equal tokens" in line for line in read_contents(folder).notes)
    said = [line for line in read_contents(out).notes if "equal tokens" in line]
    assert said[0].startswith("Not at equal tokens: radis@tokens (5,000), where vanilla read 9,000: its training ended")


def test_a_row_that_is_gone_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    shutil.copytree(folder, out)
    shutil.rmtree(out / "rows" / "vanilla")
    scorecard = out / "rows" / "worse" / "scorecard.json"
    scorecard.write_bytes(scorecard.read_bytes() + b" ")
    contents = read_contents(out)
    assert contents.sections[0].frontier is not None
    assert [one.name for one in contents.sections[0].frontier.rows] == ["base", "radis"]
    assert contents.sections[0].reference == ""  # the equal tokens' is gone
    said = cautions(contents)
    assert any(line.startswith("vanilla is left out: ") and "holds no finished run" in line for line in said)
    assert any(line.startswith("worse is left out: ") and "changed or damaged" in line for line in said)
    assert "cannot be read: " in cells(rows_table(contents.sections[0]))["worse"]["Status"]


def test_a_bench_without_a_finished_row_is_a_plain_table(tmp_path: Path) -> None:
    out = write_table(tmp_path / "bench", [row("later", "to do"), row("dear", "not run", why="days")])
    page = write_report(out).read_text("utf-8")
    assert "not run: days" in page
    assert 'class="plot"' not in page
    publish(out / "rows" / "alone", {})
    write_table(out, [row("alone")])
    assert cells(rows_table(read_contents(out).sections[0]))["alone"]["Status"] == "the base alone"
    write_report(out)


def test_rows_of_another_base_are_not_compared(tmp_path: Path) -> None:
    out = tmp_path / "bench"
    publish(out / "rows" / "one", {"vanilla": (13.0, 0.5)})
    publish(out / "rows" / "two", {"vanilla": (13.0, 0.5)}, base="1" * 64)
    write_table(out, [row("one"), row("two")])
    contents = read_contents(out)
    assert contents.sections[0].frontier is None
    assert contents.notes[0].startswith("The rows cannot be compared: two and one have different bases")
    assert "two and one have different bases" in write_report(out).read_text("utf-8")


def test_a_table_of_an_earlier_version_lacks_what_came_later(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    shutil.copytree(folder, out)
    old: dict[str, Any] = {"schema": "lingraft.bench/1", "name": "small", "rows": [row("vanilla"), row("radis")]}
    (out / "bench.json").write_text(json.dumps(old), "utf-8")
    page, readme = write_report(out).read_text("utf-8"), (out / "README.md").read_text("utf-8")
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "default-src 'none'" in page
    assert page.count('class="plot"') == 2
    assert "lingraft bench bench.yaml --out NEW" in readme
    (section,) = read_contents(out).sections
    assert section.reference == "vanilla"
    assert list(cells(rows_table(section))) == ["base", "vanilla", "radis"]
    assert "Status" not in rows_table(section).columns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged .it is no mapping"),
        ('{"schema": "lingraft.bench/1", "rows": [], "name": "\\ud800"}', "is damaged"),
        ('{"schema": "lingraft.bench/9", "rows": []}', "another version .lingraft.bench/9"),
        ('{"schema": "lingraft.bench/1"}', "damaged .rows: Field required"),
        ('{"schema": "lingraft.bench/1", "rows": [{"name": 3, "status": "done"}]}', r"damaged .rows\.0\.name"),
        (
            '{"schema": "lingraft.bench/1", "rows": [{"name": "a", "status": "done", "run": "../../etc"}]}',
            "outside of its folder",
        ),
        (
            '{"schema": "lingraft.bench/1", "rows": [{"name": "a", "status": "done", "run": "a\\u0000"}]}',
            "outside of its",
        ),
    ],
)
def test_a_damaged_table_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bench.json").write_text(text, "utf-8")
    with pytest.raises(StoreError, match=said) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_markup_in_names_and_texts_stays_text(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>|`x`\n- y"
    out = tmp_path / "bench"
    publish(out / "rows" / "one", {odd: (13.0, 0.5), "other": (12.0, 0.6)}, test=odd, suite=odd)
    choice = {"key": odd, "value": odd, "by": odd, "candidates": [{"value": odd, "dev": {odd: 1.0}}, {"value": 2}]}
    rows = [row("one", set={odd: odd}, choice=choice), row(odd, "not run", why=odd)]
    write_table(out, rows, name=odd)
    (out / "bench.yaml").write_text(odd, "utf-8")
    contents = read_contents(out)
    page, readme = render_bench(contents), bench_readme(contents)
    assert page.count("<script>") == 1  # its own
    assert "<script>" not in readme
    assert "\n- y" not in readme
    rows_of = [line for line in readme.splitlines() if line.startswith("| ")]
    assert len({len(re.sub(r"\\.", "", line).split("|")) for line in rows_of}) == 1
    assert "spoilt" in cells(changes_table(contents.sections[0]))["one"]["Chosen on the development set"]


def test_files_of_somebody_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match=r"README\.md was not written by a bench"):
        refuse_foreign(tmp_path)
    (tmp_path / "bench.yaml").write_text("name: small", "utf-8")
    refuse_foreign(tmp_path)
