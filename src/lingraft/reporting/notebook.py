"""Runs and comparisons as fragments of HTML, for a cell of a notebook: a headline, the frontier and its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from lingraft.core.hashing import content_hash
from lingraft.core.printable import printable
from lingraft.evaluation.comparison import Frontier
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.reporting import comparison_page as page
from lingraft.reporting import tables
from lingraft.reporting.numbers import decimals_for, interval, number
from lingraft.reporting.plots import frontier_svg
from lingraft.reporting.report import frontier_points

_WIDTH = 560
_RIGHT = 'style="text-align:right"'


def run_fragment(scorecard: Scorecard, headline: str, verdict: str, report: str) -> str:
    """Return what a notebook shows of a finished run.

    Args:
        scorecard: of the run.
        headline: the system it is about.
        verdict: its headline in one sentence.
        report: where the whole report is.
    """
    points, metric = frontier_points(scorecard, tables.Names.of(scorecard, headline))
    name = f"run-{content_hash([scorecard.run, report, verdict])[:8]}"
    gains = [row.gain.value for row in scorecard.summary if row.gain]
    measured = next((row.gain.metric for row in scorecard.summary if row.gain), "")
    places = decimals_for(gain_facts(measured, scorecard.translation), gains)
    rows = []
    for row in scorecard.summary:
        kept = tables.retention_interval(scorecard, row)
        gain = row.gain
        rows.append(
            (
                row.system,
                number(gain.value if gain else None, places, signed=True),
                interval(gain.ci95 if gain else None, places, signed=True),
                number(row.retention_mean),
                interval(kept),
                number(row.retention_min),
            )
        )
    return _fragment(
        f"Run {scorecard.run}",
        verdict,
        Markup(frontier_svg(points, metric, width=_WIDTH, height=340, name=name)) if points else Markup(),
        _heads(metric),
        rows,
        [f"Report: {report}"],
    )


def comparison_fragment(comparison: Frontier, title: str) -> str:
    """Return what a notebook shows of a comparison of several runs."""
    places = decimals_for(comparison.facts, [row.gain.value for row in comparison.rows if row.gain])
    label = comparison.facts.title
    rows = []
    for row in page.ordered(comparison):
        gain, kept = row.gain, row.retention
        rows.append(
            (
                row.name,
                number(gain.value if gain else None, places, signed=True),
                interval(gain.ci95 if gain else None, places, signed=True),
                number(kept.value if kept else None),
                interval(kept.ci95 if kept else None),
                number(row.lowest),
            )
        )
    points = page.frontier_points(comparison)
    name = f"comparison-{content_hash([title, *(row[:4] for row in rows)])[:8]}"
    return _fragment(
        f"Comparison: {title}",
        " ".join(page.undecided(comparison)),
        Markup(frontier_svg(points, label, width=_WIDTH, height=340, name=name)) if points else Markup(),
        _heads(label),
        rows,
        [page.method_line(comparison), *comparison.notes],
    )


def _heads(metric: str) -> Sequence[str]:
    gain = f"gain, {metric}" if metric else "gain"
    return ("system", gain, "95 % interval", "retention %", "95 % interval", "lowest %")


def _fragment(
    title: str, headline: str, plot: Markup, heads: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str]
) -> str:
    """Return the HTML. Everything but the plot is escaped: names may come from strangers."""

    def shown(text: str) -> Markup:
        return escape(printable(text, 2000))

    head = Markup().join(Markup("<th>{}</th>").format(shown(text)) for text in heads)
    body = Markup().join(
        Markup("<tr>{}</tr>").format(
            Markup().join(
                Markup("<td{}>{}</td>").format(Markup(f" {_RIGHT}") if column else Markup(), shown(text))
                for column, text in enumerate(row)
            )
        )
        for row in rows
    )
    parts = [
        Markup("<p><b>{}</b></p>").format(shown(title)),
        *([Markup("<p>{}</p>").format(shown(headline))] if headline else []),
        Markup('<div style="max-width:{}px">{}</div>').format(_WIDTH, plot),
        Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body),
        *(Markup("<p><small>{}</small></p>").format(shown(note)) for note in notes),
    ]
    return str(Markup('<div class="lingraft">{}</div>').format(Markup().join(parts)))
