"""The page of a bench, one HTML file that loads nothing, and the README beside it with its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lingraft.core.figures import duration
from lingraft.core.printable import fence, inline_code, markdown, plain
from lingraft.evaluation.scoring import BASE
from lingraft.reporting import bench_tables as tables
from lingraft.reporting.bench_contents import MEASURED, NOT_RUN, BenchContents, BenchSection
from lingraft.reporting.comparison_page import frontier_points, measures_words
from lingraft.reporting.drawing import style_of
from lingraft.reporting.overview import few_items_warnings
from lingraft.reporting.pages import page_environment, script_hash
from lingraft.reporting.plots import frontier_svg
from lingraft.reporting.run_tables import pairs_table
from lingraft.reporting.tables import Cell, Table


@dataclass(frozen=True)
class _Shown:
    """A section as the page lays it out."""

    id: str
    section: BenchSection
    wide: Markup
    narrow: Markup
    method: str
    rows: Table
    further: Sequence[Table]


def render_bench(contents: BenchContents) -> str:
    """Return the page: a complete HTML document in UTF-8 that loads nothing from outside.

    Args:
        contents: what is shown.
    """
    environment = page_environment()
    environment.globals["style_of"] = style_of
    script = environment.get_template("bench.js.j2").render()
    cards = [run.scorecard for run in contents.runs]
    base = cards[0].base if cards else None
    versions = cards[0].versions if cards else {}
    return environment.get_template("bench.html.j2").render(
        contents=contents,
        facts=_facts(contents),
        notes=[*contents.notes, *cautions(contents)],
        shown=[_shown(section, number) for number, section in enumerate(contents.sections)],
        changes=tables.changes_table(contents.sections[0]),
        base=base,
        versions=pairs_table("Versions", ("Package", "Version"), versions),
        script=Markup(script),
        script_hash=script_hash(script),
    )


def _shown(section: BenchSection, number: int) -> _Shown:
    frontier, id_ = section.frontier, "rows" if number == 0 else f"rows-{number + 1}"
    rows = tables.rows_table(section)
    if frontier is None:
        return _Shown(id_, section, Markup(), Markup(), "", rows, [])
    points, label = frontier_points(frontier), frontier.facts.title
    further = [
        tables.differences_table(section.title.lower(), frontier),
        tables.forgotten_table(frontier),
        tables.scores_table(frontier),
    ]
    return _Shown(
        id_,
        section,
        Markup(frontier_svg(points, label, name=f"{id_}-wide")),
        Markup(frontier_svg(points, label, width=360, height=330, name=f"{id_}-narrow")),
        _method(section),
        rows,
        [table for table in further if table.groups],
    )


def _method(section: BenchSection) -> str:
    frontier = section.frontier
    if frontier is None:
        return ""
    several = any(len(row.trainings) > 1 for row in frontier.rows)
    pooled = "a row is the mean over its trainings, each resample of items taking the answers of all; " * several
    return (
        f"{measures_words(frontier)}; {pooled}95 % intervals and two-sided p from {frontier.resamples:,} paired "
        f"resamples of items. A difference is called better or worse where its interval leaves out zero and p is below "
        f"0.05 after Holm's correction for all {section.comparisons} differences in gain and retention of this page."
    )


def _facts(contents: BenchContents) -> list[tuple[str, str]]:
    """Return what stands at the top, by its name."""
    first = contents.sections[0]
    rows = [line.row for line in first.lines]
    done = sum(row.status in MEASURED for row in rows)
    seconds = sum(cost.seconds for run in contents.runs for cost in run.scorecard.cost)
    found = [("Rows", f"{done} of {len(rows)} measured")]
    if contents.runs:
        found.insert(0, ("Base", contents.runs[0].scorecard.base.id))
    if first.reference:
        found.append(("Reference", first.reference))
    if first.frontier:
        found.append(("On the frontier", ", ".join(first.frontier.pareto) or "none"))
    return [*found, ("Time", duration(seconds))] if seconds else found


def cautions(contents: BenchContents) -> list[str]:
    """Return what a reader has to know before believing the page, a sentence each."""
    found = []
    lines = [line for section in contents.sections for line in section.lines]
    open_ = [line.row.name for line in contents.sections[0].lines if line.row.status not in (*MEASURED, NOT_RUN)]
    if open_:
        found.append(
            f"Not finished: {', '.join(open_)} still to do. Every row that is added makes the correction of p stricter "
            f"for the others, and may take them off the frontier."
        )
    found += [f"{line.label} is left out: {line.trouble}." for line in lines if line.trouble]
    cards = [run.scorecard for run in contents.runs]
    found += few_items_warnings(cards[0]) if cards else []
    found += _at_chance(contents)
    first = contents.sections[0].frontier
    rows = [row for row in first.rows if row.name != BASE] if first else []
    if len(rows) > 2:
        found.append(
            f"{len(rows)} rows are measured on the same items: the best of them is in part the luckiest. Fix "
            f"beforehand what is to be shown, and measure a winner anew on items that chose nothing."
        )
    once = [row.name for row in rows if len(row.trainings) == 1]
    if once:
        which = "Each row" if len(once) == len(rows) else f"Of {len(rows)} rows, {len(once)}"
        found.append(f"{which} with one training at most: how far another seed would move them is not known.")
    found += _unequal("versions of packages", ((run.label, _packages(run.scorecard.versions)) for run in contents.runs))
    devices = ((run.label, ", ".join(dict.fromkeys(one.device for one in run.scorecard.cost))) for run in contents.runs)
    found += _unequal("devices", ((label, device) for label, device in devices if device))
    return found


def _packages(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _unequal(what: str, found: Iterable[tuple[str, str]]) -> list[str]:
    """Say which rows were made under other conditions than most."""
    kinds: dict[str, list[str]] = {}
    for label, value in found:
        kinds.setdefault(value, []).append(label)
    if len(kinds) < 2:
        return []
    most = max(kinds, key=lambda value: len(kinds[value]))
    others = [label for value, labels in kinds.items() if value != most for label in labels]
    return [f"Other {what} than the other rows: {', '.join(others)}. Compare their seconds and scores with care."]


def _at_chance(contents: BenchContents) -> list[str]:
    """Name suites in which the base has nothing to lose: they count for no retention."""
    rows = contents.runs[0].scorecard.general if contents.runs else []
    own = [row for row in rows if row.system == BASE and "retention:none" in row.signature]
    none = [f"{row.suite}, {row.facts.label}" for row in own]
    if not none:
        return []
    return [f"Nothing to lose: the base is not above chance in {'; '.join(none)}, which count for no retention."]


def bench_readme(contents: BenchContents) -> str:
    """Return the README of a bench's folder: its table in Markdown, cautions, and how it is run again.

    Args:
        contents: what is shown.
    """
    tables_ = []
    for section in contents.sections:
        table = tables.rows_table(section)
        head = [markdown(column) for column in table.columns]
        rows = [[_markdown(cell) for cell in row] for row in table.groups[0].rows]
        tables_.append((section.title, section.lead, head, rows))
    environment = page_environment()
    for name, made in (("md", markdown), ("code", inline_code), ("fence", fence)):
        environment.filters[name] = made
    return environment.get_template("bench.md.j2").render(
        contents=contents,
        facts=_facts(contents),
        tables=tables_,
        method=_method(contents.sections[0]),
        notes=[*contents.notes, *cautions(contents)],
    )


def _markdown(cell: Cell) -> Markup:
    words = f"{cell.text} {cell.detail}".strip()
    return markdown(words) if cell.kind in ("text", "system", "code") or cell.detail else plain(words)
