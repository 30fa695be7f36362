"""The report is parsed by the standard library's HTML parser and compared with the contents that went in."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fuller import enriched
from lingraft.core.errors import DataError
from lingraft.evaluation.scorecard import Retention, Scorecard
from lingraft.evaluation.summary import averages
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.numbers import change_mark, count, decimals_for, interval, number, p_value, retention_mark
from lingraft.reporting.report import frontier_points, render_report, segments
from lingraft.reporting.run_tables import averages_table, contamination_table, contamination_warnings
from lingraft.reporting.tables import Names, general_table, retention_interval, summary_table, translation_tables
from lingraft.statistics.metric_facts import Better, MetricFacts
from poison import POISON, poisoned


class Page(HTMLParser):
    """Elements with their attributes, and text, in document order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img", "input"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack[-1] == tag, f"</{tag}> closes <{self.stack[-1]}>"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.stack[-1] if self.stack else "", data))

    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attrs))) for tag, attrs in self.elements]

    def all_text(self) -> str:
        return "".join(data for _, data in self.text)

    def script(self) -> str:
        """The page's one program."""
        return next(data for tag, data in self.text if tag == "script" and data.lstrip().startswith('"use strict"'))

    def data(self) -> dict[str, Any]:
        """What the browser of outputs shows."""
        found: dict[str, Any] = next(
            json.loads(data) for tag, data in self.text if tag == "script" and data.lstrip().startswith("{")
        )
        return found


def bare(contents: ReportContents) -> ReportContents:
    """Only the base, nothing measured."""
    full = contents.scorecard
    return ReportContents(
        scorecard=Scorecard(
            schema="lingraft.scorecard/1",
            run="empty",
            created=full.created,
            base=full.base,
            seed=1,
            versions={},
            systems=full.systems[:1],
            translation=[],
            general=[],
            summary=[],
            cost=[],
        ),
        recipe_yaml="name: empty\n",
    )


@pytest.fixture(scope="module")
def rendered(contents: ReportContents) -> str:
    return render_report(contents)


def test_hostile_text_adds_no_element_and_no_attribute(contents: ReportContents) -> None:
    contents = enriched(contents)
    # Some metrics are known by name and drawn apart; under other names they add nothing either.
    metrics = frozenset(row.metric for row in (*contents.scorecard.translation, *contents.scorecard.general))
    bad = poisoned(contents, metrics | {"summary", "gain"})
    for spread in bad.scorecard.seeds[:1]:  # names a test set and a direction, each of which is poisoned
        spread.where = " ".join(part + POISON for part in contents.scorecard.seeds[0].where.split())
    clean, hostile = Page(render_report(contents)), Page(render_report(bad))
    assert hostile.structure() == clean.structure()
    renamed = Page(render_report(poisoned(contents)))
    assert set(renamed.structure()) <= set(clean.structure())
    assert not renamed.stack
    kinds = [attrs.get("type") for tag, attrs in hostile.elements if tag == "script"]
    assert kinds == ["application/json", None]
    assert not [name for _, attrs in hostile.elements for name in attrs if name.startswith("on")]
    # It is shown, as text, wherever the benign text was.
    shown = hostile.all_text()
    for original in (contents.verdict, contents.notes[0], contents.scorecard.run):
        assert original + POISON in shown
    assert hostile.data()["items"][0][2] == contents.examples[0].source + POISON
    assert shown.count("<script>alert(1)</script></pre>") > 100


def test_page_loads_nothing_and_allows_only_its_own_script(contents: ReportContents) -> None:
    html = render_report(enriched(contents))
    page = Page(html)
    for tag, attrs in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "action", "formaction"} & set(attrs)
        assert (attrs.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", html)
    addresses = set(re.findall(r"https?://[^\"' <}]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://github.com/EleutherAI/lm-evaluation-harness"}
    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.script().encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "form-action 'none'" in policy
    # Texts of users and models become text nodes, nothing else.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", page.script())


def test_page_is_accessible(contents: ReportContents) -> None:
    page = Page(render_report(enriched(contents)))
    assert not page.stack
    tags = [tag for tag, _ in page.elements]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert tags.count("caption") == tags.count("table") > 8
    assert all(attrs.get("scope") in {"col", "row", "rowgroup"} for tag, attrs in page.elements if tag == "th")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    labels = " ".join(attrs.get("aria-labelledby") or "" for tag, attrs in page.elements if tag == "svg").split()
    pictures = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("role") == "img"]
    assert len(labels) == 2 * len(pictures) > 0
    hidden = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("aria-hidden") == "true"]
    axes = [attrs for tag, attrs in page.elements if tag == "svg" and "axis" in str(attrs.get("class"))]
    assert len(pictures) + len(hidden) + len(axes) == tags.count("svg")
    assert tags.count("tfoot") == len(axes)  # which are hidden as a whole: the numbers stand in the rows
    # Every control has a label around it.
    assert tags.count("label") == tags.count("select") + tags.count("input") > 4
    assert {str(target)[1:] for target in targets} | set(labels) <= set(ids)
    assert page.elements[0] == ("html", {"lang": "en"})


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(contents: ReportContents, rendered: str, scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", rendered, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[scheme]))
    on_paper = ["ink", "muted", "link", *(f"series-{n}" for n in range(6))]
    pairs = [(name, ground) for name in on_paper for ground in ("paper", "band")]
    pairs += [
        ("good", "good-bg"),
        ("bad", "bad-bg"),
        ("diff", "diff-bg"),
        ("ink", "highlight"),
        ("ink", "row"),
        ("muted", "soft"),
    ]
    low = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in low.items() if value < 4.5} == {}


def test_headline_shows_the_chosen_system(contents: ReportContents, rendered: str) -> None:
    text = Page(rendered).all_text()
    head = text[: text.index("How to read this")]
    assert contents.verdict in head
    for shown in ("+4.6", "95 % interval [+3.8, +5.4]", "88.4 %", "0.147", "lowest: 71.3 %"):
        assert shown in head
    other = Page(render_report(dataclasses.replace(contents, headline_system="vanilla"))).all_text()
    assert "53.1 %" in other[: other.index("lowest: 38.6 %")]
    with pytest.raises(DataError, match=r"headline system 'radix'.*did you mean 'radis'"):
        render_report(dataclasses.replace(contents, headline_system="radix"))


def test_every_score_and_signature_is_shown(contents: ReportContents, rendered: str) -> None:
    text = Page(rendered).all_text()
    for row in contents.scorecard.translation:
        assert f"{row.score:.1f}" in text
        assert row.signature in text
    for general in contents.scorecard.general:
        assert f"{general.score:.{3 if general.metric == 'kl_from_base' else 1}f}" in text
    data = Page(rendered).data()
    assert [system["name"] for system in data["systems"]] == ["base", "vanilla", "radis"]
    for item, (id_, group, source, reference, outputs, _) in zip(contents.examples, data["items"], strict=True):
        assert (id_, source, reference) == (item.id, item.source, item.reference)
        assert data["groups"][group] == {"name": item.group, "direction": item.group in {"de-en", "en-zh"}}
        # An output that a system did not give, and one that is empty, are told apart.
        assert outputs == [item.outputs.get(name) for name in ("base", "vanilla", "radis")]
    assert contents.recipe_yaml.strip() in text
    assert "5af571cbf074e6d2" * 4 in text


def test_seeds_corrected_p_values_and_overlap_are_shown(contents: ReportContents) -> None:
    card = enriched(contents).scorecard
    names = Names.of(card, "radis")
    assert [names.cell(name).series for name in ("base", "vanilla", "radis", "radis#2", "vanilla*0.5")] == [
        0,
        1,
        2,
        2,
        1,
    ]
    summary = summary_table(card, names)
    spread = [row[summary.columns.index("Between seeds, sd")].text for row in summary.groups[0].rows]
    assert spread == ["-", "-", "0.35 (2)", "-", "-", "-"]
    first = translation_tables(card, names)[0]
    radis = first.groups[0].rows[2]
    assert dict(zip(first.columns, [cell.text for cell in radis], strict=True)) | {"95 % interval": ""} == {
        "System": "radis",
        "Score": "29.6",
        "95 % interval": "",
        "Between seeds, sd": "0.38 (2)",
        "Change from base": "+5.3",
        "p": "<0.001",
        "p, Holm": "0.004",
        "Against base": "better",
    }
    # The interval leaves out zero, but not after the correction.
    off_target = first.groups[2].rows[2]
    assert [cell.text for cell in off_target][-2:] == ["0.200", "n.s."]
    assert first.signatures[-1][1].startswith("approximate randomisation, paired bootstrap, two-sided; corrected")
    self_rows = general_table(card, names)
    assert "Change from base" not in self_rows.columns
    assert contamination_table(card).groups[0].rows[0][-1].text == "17 (train/3), 40, ..."
    (warning,) = contamination_warnings(card)
    assert "3 of 240 items of test.de-en (1.2 %)" in warning
    points, _ = frontier_points(card, names)
    assert {p.system for p in points if p.dominated} == {"vanilla*0.5"}
    assert [(p.group, p.scale) for p in points if p.system in {"radis", "radis#2", "radis*0.5"}] == [
        ("", None),
        ("radis", None),
        ("radis", 0.5),
    ]


def test_averages_over_sets_and_directions_are_shown(contents: ReportContents) -> None:
    card = contents.scorecard
    assert not averages_table(card, Names.of(card, "radis")).groups
    several = card.model_copy(update={"averages": averages(card.translation)})
    assert several.averages, "the scorecard has two directions"
    table = averages_table(several, Names.of(card, "radis"))
    own = [row for row in card.translation if (row.system, row.metric) == ("radis", "chrf++")]
    group = next(group for group in table.groups if group.title == "chrF++")
    (shown,) = [row for row in group.rows if row[0].text == "radis"]
    assert float(shown[1].text) == pytest.approx(sum(row.score for row in own) / len(own), abs=0.05)
    assert group.detail == f"{len(own)} test sets and directions"
    page = render_report(dataclasses.replace(contents, scorecard=several))
    assert "Mean over test sets and directions" in page


def test_missing_parts_are_left_out_and_missing_values_are_dashes(contents: ReportContents) -> None:
    page = Page(render_report(bare(contents)))
    text = page.all_text()
    assert not page.stack
    assert "not measured" in text
    for absent in ("Outputs side by side", "Rationale filters", "nan", "None"):
        assert absent not in text


def test_same_contents_give_the_same_bytes(contents: ReportContents, rendered: str) -> None:
    assert render_report(contents) == rendered


def test_supervised_text_is_marked(contents: ReportContents, rendered: str) -> None:
    page = Page(rendered)
    marked = [data for tag, data in page.text if tag == "mark"]
    for rendered in contents.rendered_example.values():
        assert rendered[rendered.index("\ue000") + 1 : rendered.index("\ue001")] in marked
    assert not any("\ue000" in data or "\ue001" in data for _, data in page.text)


def test_segments() -> None:
    def split(text: str) -> list[tuple[str, bool]]:
        return [(piece.text, piece.supervised) for piece in segments(text)]

    assert split("a\ue000b\ue001c") == [("a", False), ("b", True), ("c", False)]
    assert split("\ue000b\ue001\ue000d") == [("b", True), ("d", True)]
    assert split("") == []
    assert split("a\ue001b") == [("a", False), ("b", False)]


def test_retention_interval_is_that_of_fully_dependent_suites(contents: ReportContents) -> None:
    scorecard = contents.scorecard
    row = next(row for row in scorecard.summary if row.system == "radis")
    bounds = retention_interval(scorecard, row)
    assert bounds is not None
    # Each suite of the sample reaches 5.5 below and 5.1 above its value.
    assert bounds == pytest.approx((88.4 - 5.5, 88.4 + 5.1))
    one = scorecard.model_copy(update={"general": [s for s in scorecard.general if s.suite == "refusal"]})
    kept = next(s.retention for s in one.general if s.system == "radis")
    assert isinstance(kept, Retention)
    alone = row.model_copy(update={"retention_mean": kept.percent})
    assert retention_interval(one, alone) == pytest.approx(kept.ci95)


def test_numbers() -> None:
    assert [number(v) for v in (1234.56, -0.04, -3.25, None, float("nan"))] == ["1,234.6", "0.0", "−3.2", "-", "-"]
    assert [number(v, 1, signed=True) for v in (0.04, 4.59, -4.59)] == ["0.0", "+4.6", "−4.6"]
    assert interval((-1.0, 2.0), signed=True) == "[−1.0, +2.0]"
    assert interval(None) == "-"
    assert [count(v) for v in (1234567, 0, None)] == ["1,234,567", "0", "-"]
    assert [p_value(p) for p in (0.000999, 0.0014, 1.0)] == ["<0.001", "0.001", "1.000"]
    assert [decimals_for(MetricFacts(), v) for v in ([0.4], [3.2, 0.1], [12.0], [])] == [3, 2, 1, 3]


@pytest.mark.parametrize(
    ("better", "bounds", "mark"),
    [
        ("higher", (0.1, 2.0), "better"),
        ("higher", (-2.0, -0.1), "worse"),
        ("lower", (-2.0, -0.1), "better"),
        ("lower", (0.1, 2.0), "worse"),
        ("higher", (-0.1, 0.1), "n.s."),
        ("higher", (0.0, 0.1), "n.s."),
        (None, (0.1, 0.2), "differs"),
    ],
)
def test_change_is_called_by_name_only_when_zero_is_outside(
    better: Better, bounds: tuple[float, float], mark: str
) -> None:
    assert change_mark(better, bounds) == mark


def test_retention_marks() -> None:
    assert [retention_mark(b) for b in ((90, 99.9), (95, 105), (101, 120))] == ["below base", "n.s.", "above base"]
    assert [retention_mark((90, 99.9), p) for p in (0.049, 0.05)] == ["below base", "n.s."]
