"""The report: one self-contained HTML file from the values of a run.

All text of users and models is escaped by the template engine. The page allows itself no network access and no script
but its own (content security policy with the script's hash): a report can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from lingraft.core.errors import DataError, suggestion
from lingraft.evaluation.scorecard import Scorecard, SummaryRow
from lingraft.evaluation.summary_facts import gain_facts, role_facts
from lingraft.reporting import forest, overview, run_tables, tables
from lingraft.reporting.browser import browser_data, script_json
from lingraft.reporting.chain_table import chain_tables
from lingraft.reporting.changed import changed_examples, changed_table
from lingraft.reporting.contents import LossPoint, ReportContents
from lingraft.reporting.course import course_svg, course_table, courses
from lingraft.reporting.decoding import decoder_notes, decoder_table, outcome_notes
from lingraft.reporting.drawing import style_of
from lingraft.reporting.numbers import MISSING, decimals_for, interval, number
from lingraft.reporting.pages import page_environment, script_hash
from lingraft.reporting.paper import methods
from lingraft.reporting.plots import LOSS_LABEL, FrontierPoint, LossCurve, frontier_svg, loss_svg
from lingraft.reporting.probe import probe_table

SUPERVISED_START, SUPERVISED_END = "\ue000", "\ue001"


@dataclass(frozen=True)
class Figure:
    """One big number of the headline, with what the other trained systems reach."""

    label: str
    value: str
    detail: str
    others: Sequence[tuple[tables.Cell, str, str]] = ()


@dataclass(frozen=True)
class RenderedSegment:
    """A piece of a rendered training example; `supervised` text is what the model is trained to write."""

    text: str
    supervised: bool


_TEXTS = re.compile(r"<!--texts-->.*?<!--/texts-->\n?", re.DOTALL)


def without_texts(page: str) -> str | None:
    """Return a report without texts of data, prompts and answers, and without the recipe, which names files: as it may
    be handed on. None of a report of an older version, which does not tell them from the results.

    Args:
        page: as `render_report` has written it; texts in it are escaped, and can end no such part.
    """
    return _TEXTS.sub("", page) if "<!--texts-->" in page else None


def render_report(contents: ReportContents) -> str:
    """Render the report.

    Args:
        contents: what is shown; every part but the scorecard and the recipe may be empty and is then left out.

    Returns:
        A complete HTML document in UTF-8 that loads nothing from outside.

    Raises:
        DataError: `headline_system` is not one of the scorecard's systems.
    """
    scorecard = contents.scorecard
    names = _names(contents)
    environment = page_environment()
    environment.globals["style_of"] = style_of
    script = environment.get_template("report.js.j2").render()
    digest = script_hash(script)
    points, metric = frontier_points(scorecard, names)
    loss_plots = [(title, Markup(svg)) for title, svg in _loss_plots(contents.losses, names)]
    directions = list(dict.fromkeys(row.direction for row in scorecard.translation))
    directions += [found.direction for found in contents.breakdowns if found.direction not in directions]
    suites = list(dict.fromkeys(row.suite for row in scorecard.general))
    return environment.get_template("report.html.j2").render(
        contents=contents,
        scorecard=scorecard,
        points=points,
        directions=directions,
        suites=suites,
        decoded=[*decoder_notes(scorecard), *outcome_notes(contents.outcomes)],
        warnings=[*run_tables.contamination_warnings(scorecard), *overview.few_items_warnings(scorecard)],
        measured=overview.measured_words(scorecard),
        tasks=overview.task_words(scorecard),
        work=overview.work_words(contents.work),
        gates=overview.gate_box(contents.gates, names),
        gains=forest.gain_forest(scorecard, names),
        kept=forest.retention_forest(scorecard, names),
        lengths=forest.length_forest(scorecard, names),
        errors=forest.error_forest(scorecard, contents.breakdowns, names),
        judged=forest.judge_forest(scorecard, names),
        seeds=run_tables.seeds_table(scorecard, names),
        contamination=run_tables.contamination_table(scorecard),
        probe=probe_table(scorecard, names),
        methods=methods(scorecard, contents.stages, contents.training_pairs),
        data=Markup(script_json(browser_data(contents.examples, names, directions))),
        names=names,
        script=Markup(script),
        script_hash=digest,
        figures=headline_figures(scorecard, names),
        frontier_wide=Markup(frontier_svg(points, metric, name="frontier-wide")),
        frontier_narrow=Markup(frontier_svg(points, metric, width=360, height=330, name="frontier-narrow")),
        summary=tables.summary_table(scorecard, names),
        translation=tables.translation_tables(scorecard, names),
        averages=run_tables.averages_table(scorecard, names),
        versus=tables.versus_tables(scorecard, names),
        general=tables.general_table(scorecard, names),
        changed=changed_table(scorecard, names),
        changed_examples=changed_examples(scorecard, contents.examples, names),
        chains=chain_tables(scorecard, names),
        loss_plots=loss_plots,
        courses=Markup(course_svg(ways)) if (ways := courses(contents.courses, names)) else "",
        course_table=course_table(contents.courses, names) if contents.courses else None,
        losses=run_tables.loss_table(contents.losses, names),
        filters=run_tables.filter_table(contents.filters, names),
        rejected=run_tables.rejected_table(contents.rows_read, contents.rejected_counts),
        rejected_examples=run_tables.rejected_examples_table(contents.rejected_examples),
        rendered=[(names.cell(name), segments(text)) for name, text in contents.rendered_example.items()],
        cost=run_tables.cost_table(scorecard, names),
        decoders=decoder_table(scorecard, names),
        versions=run_tables.pairs_table("Versions", ("Package", "Version"), scorecard.versions),
    )


def segments(text: str) -> list[RenderedSegment]:
    """Split a rendered example at U+E000 and U+E001; an unclosed stretch runs to the end."""
    pieces: list[RenderedSegment] = []
    supervised = False
    for piece in re.split(f"([{SUPERVISED_START}{SUPERVISED_END}])", text):
        if piece in (SUPERVISED_START, SUPERVISED_END):
            supervised = piece == SUPERVISED_START
        elif piece:
            pieces.append(RenderedSegment(piece, supervised))
    return pieces


def frontier_points(scorecard: Scorecard, names: tables.Names) -> tuple[list[FrontierPoint], str]:
    """Return the trained systems that have both a gain and a retention, and the label of the gain's metric.

    A system is marked as dominated where another one, the base included, gains and keeps at least as much, and more of
    one of the two.
    """
    systems = {system.name: system for system in scorecard.systems}
    trained = [
        (row, row.gain, row.retention_mean)
        for row in scorecard.summary
        if row.system != "base" and row.gain is not None and row.retention_mean is not None
    ]
    reached = [(0.0, 100.0), *((gain.value, kept) for _, gain, kept in trained)]
    points, metric = [], ""
    for row, gain, kept in trained:
        metric = gain_facts(gain.metric, scorecard.translation).title
        own = systems.get(row.system)
        points.append(
            FrontierPoint(
                row.system,
                gain.value,
                kept,
                gain.ci95,
                tables.retention_interval(scorecard, row),
                names.cell(row.system).series,
                (own.group or "") if own and own.group != own.name else "",
                own.scale if own else None,
                any(x >= gain.value and y >= kept and (x, y) != (gain.value, kept) for x, y in reached),
                bool(own and own.swept),
            )
        )
    return points, metric


def headline_figures(scorecard: Scorecard, names: tables.Names) -> list[Figure]:
    """Return the big numbers of the headline system: gain, retention, and distance from the base."""
    rows = {row.system: row for row in scorecard.summary}
    row = rows.get(names.headline) or SummaryRow.model_validate({"system": names.headline})
    derived = {system.name for system in scorecard.systems if system.group}
    others = [rows[name] for name in names.order if name in rows and name not in {"base", names.headline, *derived}]
    metric = row.gain.metric if row.gain else ""
    facts = gain_facts(metric, scorecard.translation)
    places = decimals_for(facts, [r.gain.value for r in (row, *others) if r.gain])
    divergence = role_facts(scorecard, "divergence", "kl_from_base")

    def gain(r: SummaryRow) -> tuple[str, str]:
        if r.gain is None or r.gain.metric != metric:
            return MISSING, ""
        return number(r.gain.value, places, signed=True), interval(r.gain.ci95, places, signed=True)

    def kept(r: SummaryRow) -> tuple[str, str]:
        value = number(r.retention_mean)
        bounds = tables.retention_interval(scorecard, r)
        return (value if value == MISSING else f"{value} %"), interval(bounds) if bounds else ""

    def distance(r: SummaryRow) -> tuple[str, str]:
        return number(r.kl_from_base, decimals_for(divergence, [r.kl_from_base or 0.0])), ""

    label = f"Gain{f', {facts.title}' if metric else ''} against base"
    figures = []
    for title, reading, note in (
        (label, gain, ""),
        ("Retention of general ability", kept, f"lowest: {number(row.retention_min)} %"),
        (tables.heading(divergence), distance, "0: answers are distributed as the base's"),
    ):
        value, bounds = reading(row)
        detail = ", ".join(part for part in (f"95 % interval {bounds}" if bounds else "", note) if part)
        if value == MISSING:
            detail = "not measured"
        figures.append(Figure(title, value, detail, [(names.cell(r.system), *reading(r)) for r in others]))
    return figures


def _names(contents: ReportContents) -> tables.Names:
    known = [system.name for system in contents.scorecard.systems]
    headline = contents.headline_system or known[-1]
    if headline not in known:
        raise DataError(
            f"the report's headline system {headline!r} is not in the scorecard{suggestion(headline, known)}"
        )
    return tables.Names.of(contents.scorecard, headline)


def _loss_plots(losses: Mapping[str, Sequence[LossPoint]], names: tables.Names) -> list[tuple[str, str]]:
    """Return (title, SVG): the total loss, one plot for each role of span and each objective, norm and rate."""
    roles = dict.fromkeys(role for points in losses.values() for point in points for role in point.by_role)
    objectives = dict.fromkeys(name for points in losses.values() for point in points for name in point.objectives)
    wanted: list[tuple[str, str, Callable[[LossPoint], float | None]]] = [
        ("Loss on all supervised text", LOSS_LABEL, lambda point: point.loss),
        *((f"Loss on {role}", LOSS_LABEL, partial(_of_role, role)) for role in roles),
        *((f"Objective {name}", "Value", partial(_of_objective, name)) for name in objectives),
        ("Gradient norm before clipping", "Norm", lambda point: point.gradient_norm or None),
        ("Learning rate", "Rate", lambda point: point.learning_rate or None),
    ]
    plots = []
    for position, (title, label, value) in enumerate(wanted):
        curves = []
        for system, points in losses.items():
            kept = [(point.tokens, found) for point in points if (found := value(point)) is not None]
            if kept:
                series = names.cell(system).series
                curves.append(LossCurve(system, [tokens for tokens, _ in kept], [found for _, found in kept], series))
        if curves:
            plots.append((title, loss_svg(curves, title, label=label, name=f"loss-{position}")))
    return plots


def _of_role(role: str, point: LossPoint) -> float | None:
    return point.by_role.get(role)


def _of_objective(name: str, point: LossPoint) -> float | None:
    return point.objectives.get(name)
