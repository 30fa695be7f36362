"""A metric and a suite of another package, a program and a metric with a name are shown as our own: the files of
`docs/extending.md`, installed as that page says, in report, card, comparison and paper."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from judges import converse
from lingraft.data.records import Message, Pair
from lingraft.evaluation.compared_run import ComparedRun
from lingraft.evaluation.comparison import compare
from lingraft.evaluation.correction import corrected
from lingraft.evaluation.retention import suite_items, suite_rows
from lingraft.evaluation.scorecard import ModelIdentity, Scorecard, System
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.evaluation.summary import summarise
from lingraft.evaluation.translation import measure_items
from lingraft.evaluation.verdict import verdict
from lingraft.metrics.base import METRICS
from lingraft.pipeline.run import _closing
from lingraft.recipe.load import load_recipe
from lingraft.reporting.card import CardContents, render_card
from lingraft.reporting.comparison_page import comparison_html, comparison_latex, comparison_table, method_line
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.paper import methods
from lingraft.reporting.report import render_report
from lingraft.reporting.tables import Names, general_table, translation_tables
from lingraft.statistics.items import Items, item_lines, read_items
from lingraft.store.files import write_lines
from lingraft.suites.base import SUITES, SuiteInputs

HOW = Resampling(200, 1)
DOCS = Path(__file__).parents[2] / "docs" / "extending.md"
PAIRS = [Pair(f"p{n}", f"Satz {n}?", f"This is sentence {n}?", "de", "en") for n in range(40)]
GAIN = "shout"
SCORER = """
import json, sys
for row in map(json.loads, sys.stdin):
    print(sum(letter.isupper() for letter in row["hypothesis"]))
"""


def examples() -> dict[str, str]:
    """Return the whole files of the page: by name, as the page gives it."""
    found = re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return dict(found)


def entry_points() -> str:
    blocks = re.findall(
        r'\[project\.entry-points\."(lingraft\.(?:metrics|suites))"\]\n(.*?)```', DOCS.read_text("utf-8"), re.DOTALL
    )
    return "".join(f"[{group}]\n{lines.replace(chr(34), '')}" for group, lines in blocks)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lay the files out as pip does, and let the registries read entry points anew."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in examples().items():
        (folder / name).write_text(text, "utf-8")
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points())
    (folder / "scorer.py").write_text(SCORER, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for registry in (METRICS, SUITES):
            patch.setattr(registry, "_targets", dict(registry._targets))
            patch.setattr(registry, "_plugins_read", False)
        yield folder
        for name in examples():
            sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture(scope="module")
def items(installed: Path) -> list[Items]:
    """A base and a graft that asks back less, shouts less and counts worse."""
    command = shlex.join([sys.executable, str(installed / "scorer.py")])
    listed: list[dict[str, Any]] = [
        {"kind": "other_ending"},
        {"kind": "command", "name": GAIN, "command": command, "label": "Capitals", "better": "lower", "decimals": 2},
        {"kind": "ter", "name": "edits"},
    ]
    hypotheses = {
        "base": {pair.id: f"THIS {'IS A WORD ' * (1 + n % 3)}." for n, pair in enumerate(PAIRS)},
        "graft": {pair.id: f"This is sentence{' no' * (n % 2)} {n}?" for n, pair in enumerate(PAIRS)},
    }
    found = measure_items(hypotheses, PAIRS, "news", listed, HOW)
    entry: Any = SUITES.get("next_number")
    suite = entry(entry.Params(numbers=30))
    inputs = SuiteInputs((), ("de", "en"))
    base = converse(suite, inputs, lambda request: f"It is {int(request.id) + 1} of course")
    graft = converse(suite, inputs, lambda request: str(int(request.id) + int(request.id) % 2))
    for name, answers in (("base", base), ("graft", graft)):
        found += [suite_items(name, "counting", row) for row in suite.score(inputs, base, answers)]
    return found


@pytest.fixture(scope="module")
def card(items: list[Items]) -> Scorecard:
    of_tests = [one for one in items if one.direction]
    of_suites = [one for one in items if not one.direction]
    translation, general = corrected(translation_rows(of_tests, HOW), suite_rows(of_suites, HOW), items)
    found = Scorecard(
        schema="lingraft.scorecard/1",
        run="demo",
        created="2026-01-01T00:00:00+00:00",
        base=ModelIdentity(id="m", sha256="0" * 64),
        seed=1,
        versions={},
        systems=[System(name="base"), System(name="graft", method="radis", tuner="lora")],
        translation=translation,
        general=general,
        summary=summarise(["base", "graft"], translation, general, metric=GAIN, items=of_suites, how=HOW),
        cost=[],
    )
    return Scorecard.model_validate_json(found.to_json())


def words(html: str) -> str:
    """Return a page's text on one line, tags as bars."""
    return re.sub(r"[\s|]*\|[\s|]*", " | ", re.sub(r"<[^>]+>", "|", html))


def test_the_page_shows_whole_files_and_how_to_name_them(installed: Path) -> None:
    assert [*examples()] == ["punctuation.py", "next_number.py"]
    assert {"other_ending", "next_number"} <= {*METRICS, *SUITES}


def test_the_report_calls_their_changes_better_and_worse(card: Scorecard) -> None:
    text = words(render_report(ReportContents(scorecard=card, recipe_yaml="name: x")))
    for heading in (
        "Other ending % | lower is better, 40 segments",
        "Capitals | lower is better, 40 segments",
        "edits | lower is better, 40 segments",
        "counting: Next number named % | higher is better, 30 items",
        "counting: Characters per answer | 30 items, diagnostic",
        "Gain, Capitals against base",
    ):
        assert heading in text, heading
    names = Names.of(card, "graft")
    tables = [*translation_tables(card, names), general_table(card, names)]
    results = {group.title: group.rows[1][-1].text for table in tables for group in table.groups}
    assert results == {
        "Other ending %": "better",
        "Capitals": "better",
        "edits": "better",
        "counting: Next number named %": "below base",
        "counting: Characters per answer": "differs",
    }


def test_the_card_shows_them(card: Scorecard) -> None:
    text = render_card(
        CardContents(
            name="x",
            system="graft",
            base_model="org/base",
            license="apache-2.0",
            directions=[("de", "en")],
            scorecard=card,
            method="radis",
            messages=[Message("user", "Translate")],
            prompt="Translate",
        )
    )
    rows = {
        line.split("|")[2].strip(): line for line in text.splitlines() if line.startswith(("| de-en", "| counting"))
    }
    assert [name.replace("\\", "") for name in rows] == [
        *("Other ending % (news)", "Capitals (news)", "edits (news)"),
        *("Next number named %", "Characters per answer"),
    ]
    assert all(line.rstrip().endswith("| better |") for line in [*rows.values()][:3])
    assert re.search(r"Capitals .*\d\.\d\d \[", rows["Capitals (news)"])


def test_a_comparison_shows_them(card: Scorecard, items: list[Items], tmp_path: Path) -> None:
    write_lines(tmp_path / "items.jsonl", item_lines(items, "0" * 64))
    _, read = read_items(tmp_path / "items.jsonl")
    assert [one.facts for one in read] == [one.facts for one in items]
    found = compare([ComparedRun("one", tmp_path, card, read)], HOW, GAIN)
    assert "improvement on base in Capitals (lower is better)" in method_line(found)
    gain = found.rows[1].gain
    assert gain is not None
    assert gain.value > 0
    text = words(comparison_html(found, "one"))
    for heading in (
        "news de-en: Other ending %, lower is better",
        "news de-en: Capitals, lower is better",
        "news de-en: edits, lower is better",
        "counting: Next number named %, higher is better",
        "counting: Characters per answer |",
    ):
        assert heading in text, heading
    assert "Gain, Capitals & 95" in comparison_latex(found)
    assert comparison_table(found).columns[1].header == "gain, Capitals"
    # Without a headline among them, the gain is in the first that has a better end.
    assert compare([ComparedRun("one", tmp_path, card, read)], HOW).facts.title == "Other ending %"


def test_the_verdict_and_the_paper_name_and_cite_them(card: Scorecard) -> None:
    sentence = verdict("graft", card.summary, card.translation, card.general)
    assert re.match(r"graft gains \d+\.\d\d Capitals \[\d+\.\d\d, \d+\.\d\d\] and keeps \d+ %", sentence)
    closing = _closing(load_recipe("demo"), Path("runs/x"), card)
    assert re.match(r"graft: \+\d+\.\d\d Capitals \[\d+\.\d\d, \d+\.\d\d\], \d+ % kept on average", closing[1])
    written = methods(card)
    assert "Other ending % (https://example.org/other-ending) (other_ending|marks:" in written.plain
    assert "Capitals (command|" in written.plain
    assert "edits (Snover et al., 2006) (" in written.plain
    assert "counting (Brown et al., 2020) (Next number named %, Characters per answer; 30 items)" in written.plain
    cited = {key for found in re.findall(r"~\\citep\{([^}]+)\}", written.latex) for key in found.split(",")}
    assert set(re.findall(r"^@\w+\{([^,]+),", written.bibtex, re.MULTILINE)) == cited
    assert r"title = {\url{https://example.org/other-ending}}" in written.bibtex


def test_a_bibtex_entry_of_ones_own_is_cited_under_its_key(card: Scorecard) -> None:
    own = (
        "@article{doe-2030-endings,\n  title = {Endings},\n  author = {Doe, Jane and Roe, Richard},\n  year = {2030}\n}"
    )
    taken = own.replace("doe-2030-endings", "post-2018-call")
    rows = [row.model_copy(update={"cite": [own, taken, "unknown-key"]}) for row in card.translation]
    written = methods(card.model_copy(update={"translation": rows, "general": []}))
    assert "(Doe and Roe, 2030; Doe and Roe, 2030; unknown-key)" in written.plain
    assert r"\citep{doe-2030-endings,own-post-2018-call,unknown-key}" in written.latex
    assert own in written.bibtex
    assert "@article{own-post-2018-call," in written.bibtex
    assert "A Call for Clarity" not in written.bibtex


def test_citations_of_strangers_break_nothing(card: Scorecard) -> None:
    odd = [
        "@x",
        "a];[@b",
        "@misc{k]ey, title = {x}}",
        "https://x/\\input{y}",
        "",
        "@misc{" + "x" * 9000 + ", title = {x}}",
    ]
    rows = [row.model_copy(update={"cite": odd}) for row in card.translation]
    systems = [system.model_copy(update={"cite_method": odd, "cite_tuner": odd}) for system in card.systems]
    written = methods(card.model_copy(update={"translation": rows, "general": [], "systems": systems}))
    known = {"efron-1993-bootstrap", "holm-1979-simple", "koehn-2004-statistical", "mcnemar-1947-note"}
    assert set(re.findall(r"^@\w+\{([^,]+),", written.bibtex, re.MULTILINE)) == known
    assert "input" not in written.latex


def test_without_its_package_a_row_is_shown_as_it_says(card: Scorecard) -> None:
    """No registry is asked: a scorecard is read on another machine."""
    row = next(row for row in card.translation if row.metric == "other_ending")
    assert row.facts == replace(row.facts, label="Other ending", better="lower", decimals=1, unit="%")
