"""The report is parsed by the standard library's HTML parser and compared with the contents that went in."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest
from poison import POISON, poisoned

from lingraft.errors import DataError
from lingraft.evaluation.scorecard import Retention, Scorecard
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.numbers import change_mark, count, decimals_for, interval, number, p_value, retention_mark
from lingraft.reporting.report import render_report, segments
from lingraft.reporting.tables import retention_interval


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
        if tag not in {"meta", "br", "img"}:
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


def test_hostile_text_adds_no_element_and_no_attribute(contents: ReportContents) -> None:
    clean, hostile = Page(render_report(contents)), Page(render_report(poisoned(contents)))
    assert hostile.structure() == clean.structure()
    assert [tag for tag, _ in hostile.elements].count("script") == 1
    assert not [name for _, attrs in hostile.elements for name in attrs if name.startswith("on")]
    # It is shown, as text, wherever the benign text was.
    shown = hostile.all_text()
    for original in (contents.verdict, contents.notes[0], contents.examples[0].source, contents.scorecard.run):
        assert original + POISON in shown
    assert shown.count("<script>alert(1)</script></pre>") > 200


def test_page_loads_nothing_and_allows_only_its_own_script(contents: ReportContents) -> None:
    html = render_report(contents)
    page = Page(html)
    for tag, attrs in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attrs
        assert (attrs.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"' <]+", html)) == {"http://www.w3.org/2000/svg"}
    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    script = "".join(data for tag, data in page.text if tag == "script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_page_is_accessible(contents: ReportContents) -> None:
    page = Page(render_report(contents))
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
    assert len(labels) == 2 * tags.count("svg") > 0
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
def test_text_has_enough_contrast(contents: ReportContents, scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", render_report(contents), flags=re.DOTALL)
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


def test_headline_shows_the_chosen_system(contents: ReportContents) -> None:
    text = Page(render_report(contents)).all_text()
    head = text[: text.index("How to read this")]
    assert contents.verdict in head
    for shown in ("+4.6", "95 % interval [+3.8, +5.4]", "88.4 %", "0.147", "lowest: 71.3 %"):
        assert shown in head
    other = Page(render_report(dataclasses.replace(contents, headline_system="vanilla"))).all_text()
    assert "53.1 %" in other[: other.index("lowest: 38.6 %")]
    with pytest.raises(DataError, match=r"headline system 'radix'.*did you mean 'radis'"):
        render_report(dataclasses.replace(contents, headline_system="radix"))


def test_every_score_and_signature_is_shown(contents: ReportContents) -> None:
    text = Page(render_report(contents)).all_text()
    for row in contents.scorecard.translation:
        assert f"{row.score:.1f}" in text
        assert row.signature in text
    for general in contents.scorecard.general:
        assert f"{general.score:.{3 if general.metric == 'kl_from_base' else 1}f}" in text
    for item in contents.examples:
        assert item.source in text
        assert all(output in text for output in item.outputs.values())
    assert contents.recipe_yaml.strip() in text
    assert "5af571cbf074e6d2" * 4 in text


def test_missing_parts_are_left_out_and_missing_values_are_dashes(contents: ReportContents) -> None:
    page = Page(render_report(bare(contents)))
    text = page.all_text()
    assert not page.stack
    assert "not measured" in text
    for absent in ("Outputs side by side", "Rationale filters", "nan", "None"):
        assert absent not in text
    # An output that a system did not give, and one that is empty, are told apart.
    full = Page(render_report(contents))
    missing = [data for tag, data in full.text if tag == "p" and data in {"-", "(empty output)"}]
    assert sorted(missing) == ["(empty output)", "-"]


def test_same_contents_give_the_same_bytes(contents: ReportContents) -> None:
    assert render_report(contents) == render_report(contents)


def test_supervised_text_is_marked(contents: ReportContents) -> None:
    page = Page(render_report(contents))
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
    assert [decimals_for("unknown", v) for v in ([0.4], [3.2, 0.1], [12.0], [])] == [3, 2, 1, 3]


@pytest.mark.parametrize(
    ("metric", "bounds", "mark"),
    [
        ("chrf++", (0.1, 2.0), "better"),
        ("chrf++", (-2.0, -0.1), "worse"),
        ("off_target", (-2.0, -0.1), "better"),
        ("ter", (0.1, 2.0), "worse"),
        ("bleu", (-0.1, 0.1), "n.s."),
        ("bleu", (0.0, 0.1), "n.s."),
        ("length_ratio", (0.1, 0.2), "differs"),
        ("someone's own metric", (0.1, 0.2), "differs"),
    ],
)
def test_change_is_called_by_name_only_when_zero_is_outside(
    metric: str, bounds: tuple[float, float], mark: str
) -> None:
    assert change_mark(metric, bounds) == mark


def test_retention_marks() -> None:
    assert [retention_mark(b) for b in ((90, 99.9), (95, 105), (101, 120))] == ["below base", "n.s.", "above base"]
