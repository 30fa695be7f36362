"""A comparison of runs as text, CSV, LaTeX, JSON and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from lingraft.core.printable import csv_text, latex, printable
from lingraft.core.streams import json_text
from lingraft.evaluation.changed import MeanChange
from lingraft.evaluation.compared_row import GAIN, RETENTION, ComparisonRow, Measured
from lingraft.evaluation.comparison import Frontier, SystemPair
from lingraft.reporting.drawing import style_of
from lingraft.reporting.numbers import MISSING, decimals_for, interval, number, p_value
from lingraft.reporting.origins import made_by
from lingraft.reporting.pages import page_environment, script_hash
from lingraft.reporting.plots import FrontierPoint, frontier_svg

COLUMNS = ("gain", "retention", "lowest", "system")
"""What the table can be sorted by."""
NAMED = 12
"""Most pairs that a sentence names."""


def ordered(comparison: Frontier, by: str = "gain") -> list[ComparisonRow]:
    """Return the rows, best first; what was not measured comes last."""
    if by == "system":
        return sorted(comparison.rows, key=lambda row: row.name)
    values: dict[str, float | None] = {}
    for row in comparison.rows:
        measured = row.measure(by) if by in (GAIN, RETENTION) else None
        values[row.name] = measured.value if measured else row.lowest if by == "lowest" else None
    return sorted(comparison.rows, key=lambda row: (values[row.name] is None, -(values[row.name] or 0.0)))


def undecided(comparison: Frontier) -> list[str]:
    """Return one sentence a measure: which differences are not significant, or which are where these are fewer."""
    sentences = []
    for measure in (GAIN, RETENTION):
        pairs = [pair for pair in comparison.pairs if pair.measure == measure]
        if not pairs:
            continue
        decided = [f"{pair.first} and {pair.second}" for pair in pairs if pair.significant]
        open_ = [f"{pair.first} and {pair.second}" for pair in pairs if not pair.significant]
        if len(pairs) == 1:
            verdict = f"{(decided or open_)[0]} {'differ significantly' if decided else 'do not differ significantly'}"
        elif not open_ or not decided:
            verdict = f"{'all' if decided else 'none'} of the {len(pairs)} differences are significant"
        elif min(len(open_), len(decided)) > NAMED:
            verdict = f"{len(open_)} of {len(pairs)} differences are not significant; see each pair"
        elif len(open_) <= len(decided):
            verdict = f"all differences are significant but those between {'; '.join(open_)}"
        else:
            verdict = f"no difference is significant but those between {'; '.join(decided)}"
        sentences.append(f"{measure.capitalize()}: {verdict}.")
    return sentences


def _gained(comparison: Frontier) -> str:
    """Return what the gain is measured in, and which end of that is better."""
    facts = comparison.facts
    return f"{facts.title} ({facts.direction})" if facts.direction else facts.title


def heading(comparison: Frontier, name: str) -> str:
    """Return the head of the column of a common score: where it was measured, in what, and which end is better."""
    place, facts = comparison.questions[name]
    return ", ".join(filter(None, (f"{place}: {facts.title}", facts.direction)))


def method_line(comparison: Frontier) -> str:
    """Return how the numbers were made, in one sentence."""
    return (
        f"{measures_words(comparison)}; 95 % intervals and two-sided p from {comparison.resamples:,} paired resamples; "
        f"significant: p < 0.05 after Holm's correction for all pairs and both measures "
        f"({len(comparison.pairs)} comparisons)."
    )


def measures_words(comparison: Frontier) -> str:
    """Return what gain, retention and forgotten are, as the beginning of a sentence."""
    gained = _gained(comparison) or "no metric"
    words = f"Gain: mean improvement on base in {gained}; retention: mean over the common suites"
    if any(row.most_forgotten for row in comparison.rows):
        words += (
            "; most forgotten: percent of the items that the base had right and that are wrong now, net of chance, in "
            "the suite where it is most, its interval exact where nothing is guessed"
        )
    return words


def _values(measured: Measured | None, places: int, signed: bool = False) -> tuple[str, str]:
    if measured is None:
        return MISSING, MISSING
    return number(measured.value, places, signed=signed), interval(measured.ci95, places, signed=signed)


def forgotten(row: ComparisonRow) -> tuple[float | None, str, str]:
    """Return of the suite of which most was forgotten: percent, its interval in words, and the suite's name."""
    found = row.most_forgotten
    if found is None or found.forgotten is None:
        return None, "", ""
    return found.forgotten.percent, interval(found.forgotten.ci95), found.suite


def _forgotten_words(row: ComparisonRow) -> str:
    percent, bounds, suite = forgotten(row)
    return f"{number(percent)} {bounds} {suite}".rstrip() if percent is not None else MISSING


def mark_of(row: ComparisonRow) -> str:
    """Return whether a row is of the Pareto set; empty where it has not both numbers."""
    if row.gain is None or row.retention is None:
        return ""
    return "dominated" if row.dominated_by else "Pareto"


def gain_places(comparison: Frontier) -> int:
    """Return the decimals with which gains are written."""
    return decimals_for(comparison.facts, [row.gain.value for row in comparison.rows if row.gain])


def comparison_table(comparison: Frontier, by: str = "gain") -> Table:
    """Return the table for a terminal; dominated systems are dim."""
    table = Table(box=None, pad_edge=False)
    table.add_column("system", overflow="fold")
    for column in (f"gain, {comparison.facts.title}", "95 % interval", "retention %", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("lowest %", justify="right")
    table.add_column("most forgotten, %", overflow="fold")
    table.add_column("")
    places = gain_places(comparison)
    for row in ordered(comparison, by):
        cells = [*_values(row.gain, places, True), *_values(row.retention, 1), number(row.lowest)]
        cells.append(printable(_forgotten_words(row)))
        style = "dim" if row.dominated_by else None
        table.add_row(Text(printable(row.name)), *map(Text, cells), mark_of(row), style=style)
    return table


def comparison_csv(comparison: Frontier, by: str = "gain") -> str:
    """Return one line a system, numbers in full: summary first, then every common score."""
    scores = list(dict.fromkeys(name for row in comparison.rows for name in row.scores))
    head = ["system", "run", "method", "group", "seed", "scale"]
    for name in (f"gain {comparison.metric}", "retention"):
        head += [name, f"{name} low", f"{name} high"]
    head += ["lowest retention", "forgotten", "forgotten low", "forgotten high", "forgotten suite"]
    rows: list[list[Any]] = [[*head, "frontier", *scores]]
    for row in ordered(comparison, by):
        of = row.system
        cells: list[Any] = [row.name, row.run, made_by(of), of.group, of.seed, of.scale]
        for measured in (row.gain, row.retention):
            cells += [measured.value, *measured.ci95] if measured else ["", "", ""]
        most = row.most_forgotten
        lost = most.forgotten if most else None
        cells += [row.lowest, *((lost.percent, *lost.ci95, most.suite) if lost and most else [""] * 4)]
        rows.append([*cells, mark_of(row), *(row.scores.get(name) for name in scores)])
    return csv_text(rows)


def comparison_latex(comparison: Frontier, by: str = "gain") -> str:
    """Return a table for LaTeX (package booktabs); systems on the frontier are marked by a star."""
    places = gain_places(comparison)
    lines = [
        r"\begin{tabular}{lrrrrrrr}",
        r"\toprule",
        f"System & Gain, {latex(comparison.facts.title)} & 95\\,\\% & Retention\\,\\% & 95\\,\\% & Lowest\\,\\% "
        r"& Forgotten\,\% & 95\,\% \\",
        r"\midrule",
    ]
    for row in ordered(comparison, by):
        cells = [*_values(row.gain, places, True), *_values(row.retention, 1), number(row.lowest)]
        percent, bounds, _ = forgotten(row)
        cells += [number(percent), bounds or MISSING]
        star = r"$^\star$" if mark_of(row) == "Pareto" else ""
        lines.append(f"{latex(row.name)}{star} & {' & '.join(map(latex, cells))} \\\\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    words = (method_line(comparison), *undecided(comparison), *comparison.notes)
    return "\n".join([*lines, *(f"% {printable(line, None)}" for line in words)]) + "\n"


def comparison_json(comparison: Frontier, by: str = "gain") -> str:
    """Return the comparison as indented JSON."""

    def measured(one: Measured | None) -> dict[str, Any] | None:
        return {"value": one.value, "ci95": one.ci95} if one else None

    values = {
        "base": comparison.base,
        "metric": comparison.metric,
        "resamples": comparison.resamples,
        "systems": [
            {
                "name": row.name,
                "run": row.run,
                **row.system.model_dump(mode="json", exclude={"name", "graft"}, exclude_none=True),
                "gain": measured(row.gain),
                "retention": measured(row.retention),
                "lowest_retention": row.lowest,
                "changed": [_changed(one) for one in row.changed],
                "pareto": row.name in comparison.pareto,
                "dominated_by": row.dominated_by,
                "scores": row.scores,
            }
            for row in ordered(comparison, by)
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "measure": pair.measure,
                **pair.delta.model_dump(mode="json"),
                "significant": pair.significant,
            }
            for pair in comparison.pairs
        ],
        "notes": list(comparison.notes),
    }
    return json_text(values, indent=2) + "\n"


def _changed(one: MeanChange) -> dict[str, Any]:
    lost = one.forgotten
    return {
        **{name: getattr(one, name) for name in ("suite", "metric", "base_right", "right_to_wrong", "wrong_to_right")},
        "by_chance": one.by_chance,
        "forgotten": {"percent": lost.percent, "ci95": lost.ci95} if lost else None,
        "learnt_percent": one.learnt_percent,
        "p": one.p,
        "test": one.test,
    }


@dataclass(frozen=True)
class _Cell:
    """Text of a cell and the value by which its column is sorted."""

    text: str
    value: float | str
    numeric: bool = True


@dataclass(frozen=True)
class _Line:
    name: str
    style: int
    dominated: bool
    mark: str
    cells: Sequence[_Cell]


def comparison_html(comparison: Frontier, title: str, by: str = "gain") -> str:
    """Return one page that loads nothing from outside: the frontier, a sortable table and the paired differences."""
    environment = page_environment()
    script = environment.get_template("compare.js.j2").render()
    digest = script_hash(script)
    series = series_of(comparison)
    scores = list(dict.fromkeys(name for row in comparison.rows for name in row.scores))
    points = frontier_points(comparison)
    label = comparison.facts.title
    return environment.get_template("compare.html.j2").render(
        title=title,
        comparison=comparison,
        columns=[
            "System",
            f"Gain, {label}",
            "Retention, %",
            "Lowest, %",
            "Most forgotten, %",
            "Frontier",
            *(heading(comparison, name) for name in scores),
        ],
        lines=[_line(comparison, row, series[row.name], scores) for row in ordered(comparison, by)],
        pairs=[_pair_cells(comparison, pair) for pair in comparison.pairs],
        undecided=undecided(comparison),
        method=method_line(comparison),
        frontier_wide=Markup(frontier_svg(points, label, name="frontier-wide")),
        frontier_narrow=Markup(frontier_svg(points, label, width=360, height=330, name="frontier-narrow")),
        script=Markup(script),
        script_hash=digest,
    )


def frontier_points(comparison: Frontier) -> list[FrontierPoint]:
    """Return the systems that have both a gain and a retention."""
    series = series_of(comparison)
    return [
        FrontierPoint(
            row.name,
            row.gain.value,
            row.retention.value,
            row.gain.ci95,
            row.retention.ci95,
            series[row.name],
            group=_group(row),
            scale=row.system.scale,
            swept=bool(row.system.swept),
            dominated=bool(row.dominated_by),
        )
        for row in comparison.rows
        if row.gain and row.retention and row.name != "base"
    ]


def _group(row: ComparisonRow) -> str:
    if not row.system.group:
        return ""
    return row.name.removesuffix(row.system.name) + row.system.group


def series_of(comparison: Frontier) -> dict[str, int]:
    """Give each group of systems a style; the base has the first."""
    groups: dict[str, int] = {"base": 0}
    for row in comparison.rows:
        groups.setdefault(_group(row) or row.name, len(groups))
    return {row.name: groups[_group(row) or row.name] for row in comparison.rows}


def _line(comparison: Frontier, row: ComparisonRow, series: int, scores: Sequence[str]) -> _Line:
    places = gain_places(comparison)
    gain, gain_bounds = _values(row.gain, places, True)
    kept, kept_bounds = _values(row.retention, 1)
    cells = [
        _Cell(row.name, row.name, numeric=False),
        _Cell(f"{gain} {gain_bounds}" if row.gain else MISSING, row.gain.value if row.gain else ""),
        _Cell(f"{kept} {kept_bounds}" if row.retention else MISSING, row.retention.value if row.retention else ""),
        _Cell(number(row.lowest), row.lowest if row.lowest is not None else ""),
        _Cell(_forgotten_words(row), "" if (percent := forgotten(row)[0]) is None else percent),
        _Cell(mark_of(row), mark_of(row), numeric=False),
    ]
    for name in scores:
        value = row.scores.get(name)
        decimals = decimals_for(
            comparison.questions[name][1], [other.scores[name] for other in comparison.rows if name in other.scores]
        )
        cells.append(_Cell(number(value, decimals), value if value is not None else ""))
    return _Line(row.name, style_of(series), bool(row.dominated_by), mark_of(row), cells)


def _pair_cells(comparison: Frontier, pair: SystemPair) -> list[_Cell]:
    places = gain_places(comparison) if pair.measure == GAIN else 1
    corrected = pair.delta.p_holm if pair.delta.p_holm is not None else 1.0
    result = "significant" if pair.significant else "n.s."
    return [
        _Cell(pair.first, pair.first, numeric=False),
        _Cell(pair.second, pair.second, numeric=False),
        _Cell(pair.measure, pair.measure, numeric=False),
        _Cell(
            f"{number(pair.delta.value, places, signed=True)} {interval(pair.delta.ci95, places, signed=True)}",
            pair.delta.value,
        ),
        _Cell(p_value(pair.delta.p), pair.delta.p),
        _Cell(p_value(corrected), corrected),
        _Cell(result, result, numeric=False),
    ]
