"""Results of benches without their texts, in a folder of their own: what `lingraft collect` writes.

The folder is a bench's as far as it is read: table, page, and of each finished row the numbers. It grows by being
collected again, together with what was run since; a row in it is never replaced by another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, LingraftError, StoreError, UsageError
from lingraft.core.machine_paths import paths_in
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.evaluation.collected_run import asked_texts, collect_run
from lingraft.evaluation.compared_run import ComparedRun
from lingraft.evaluation.comparison import refuse_other_bases
from lingraft.evaluation.published import COLLECTED, open_run
from lingraft.evaluation.scoring import BASE
from lingraft.pipeline.bench_common_file import common_file, refuse_texts
from lingraft.pipeline.bench_join import (
    JoinedBench,
    SourceBench,
    TakenRow,
    common_row,
    joined,
    read_source,
    read_taken,
)
from lingraft.pipeline.bench_report import write_report
from lingraft.pipeline.bench_result import BenchResult, systems_of
from lingraft.pipeline.result import Run
from lingraft.pipeline.shared_settings import differing_setting, shared_settings
from lingraft.recipe.bench import ROWS, TOKENS
from lingraft.reporting.bench_contents import BENCH, BENCH_FILE, README, REPORT, SCHEMA
from lingraft.store.artefacts import LOCK, RECORD
from lingraft.store.files import read_sealed, write_atomic, write_json
from lingraft.store.publishing import PARTIAL, added_to, new_folder

FILES = (BENCH, BENCH_FILE, README, REPORT)
"""What stands beside the rows, in the order in which it is replaced: the table says what is there."""


def collect_benches(folders: Sequence[Path], out: Path, reporter: Reporter) -> BenchResult:
    """Write the results of benches, joined and without texts, and return their table.

    Args:
        folders: of benches, or of results that were collected before; rows stand in the order of the first.
        out: folder to write: new, empty, or results of an earlier collection whose rows are all among these.
        reporter: is told what happens.

    Raises:
        UsageError: no folder, one twice, or `out` lies in one or holds something else.
        DataError: they are different benches, a row was run twice with other results, or nothing was run.
        StoreError: a table or a run is damaged, or `out` cannot be written.
    """
    out = out.resolve()
    _refuse_places(folders, out)
    benches = _sources(folders)
    bench = joined(benches)
    runs = read_taken(bench)
    _refuse_different(bench, runs)
    _refuse_lost(out, bench)
    with _written(out) as place:
        _refuse_lost(out, bench)  # again: nobody else writes there now
        texts = _collect(bench, runs, place, reporter)
        table = _table(bench, benches, runs)
        refuse_texts(table, texts, str(benches[0].folder / BENCH))
        write_json(place / BENCH, table)
        if text := common_file(benches, bench.rows, texts):
            write_atomic(place / BENCH_FILE, text)
        write_report(place)
    found = BenchResult.read(out)
    reporter.say(f"Report: {found.report}", always=True)
    return found


def _refuse_places(folders: Sequence[Path], out: Path) -> None:
    if not folders:
        raise UsageError("give the folder of a bench to collect, or several")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{folder} is given twice; name each folder once")
        if place != out and out.is_relative_to(place):
            raise UsageError(f"--out {out} lies in {folder}, which is collected; give a folder elsewhere")
        if place != out and place.is_relative_to(out):
            raise UsageError(f"{folder} lies in --out {out}; give a folder elsewhere")


def _sources(folders: Sequence[Path]) -> list[SourceBench]:
    """Read the benches, each under a name of its own: of its folder, with the folder above where several have it.

    A bench of which rows were collected before keeps the name that these have.
    """
    places = [folder.resolve() for folder in folders]
    names = [printable(place.name, 60) or "bench" for place in places]
    read = [read_source(folder, name) for folder, name in zip(folders, names, strict=True)]
    known = {str(row["bench"]) for bench in read for row in bench.rows.values() if row.get("bench")}
    found: list[SourceBench] = []
    for bench, place in zip(read, places, strict=True):
        own = sorted(_own_names(bench, read))
        above = f"{printable(place.parent.name, 60)}/{bench.label}"
        label = above if names.count(bench.label) > 1 or bench.label in known else bench.label
        taken, number = known | {other.label for other in found}, 2
        while label in taken and not own:
            label, number = f"{above}-{number}", number + 1
        found.append(replace(bench, label=own[0] if own else label))
    return found


def _own_names(bench: SourceBench, others: Sequence[SourceBench]) -> set[str]:
    """Return the names under which rows of a bench were collected: its own, where it holds the same results."""
    own: set[str] = set()
    for other in (one for one in others if one is not bench):
        for name, row in other.rows.items():
            its = bench.rows.get(name)
            if row.get("bench") and its and its.get("run") and _same_run(bench.folder, its, other.folder, row):
                own.add(str(row["bench"]))
    return own


def _same_run(folder: Path, row: Mapping[str, Any], other: Path, its: Mapping[str, Any]) -> bool:
    try:
        return open_run(folder / row["run"]).origin == open_run(other / its["run"]).origin
    except (StoreError, KeyError):
        return False


def _refuse_different(bench: JoinedBench, runs: Mapping[str, ComparedRun]) -> None:
    """Refuse rows of different benches: other bases, questions, seeds or training data.

    Raises:
        DataError: they are.
    """
    listed = [(row, runs[row.place]) for row in bench.runs]
    refuse_other_bases([run for _, run in listed])
    facts = [(row, _asked(run), run.scorecard.seed, _settings(row)) for row, run in listed]
    first, asked, seed, _ = facts[0]
    for row, its_asked, its_seed, _ in facts[1:]:
        where = f"row {row.name!r} of {row.bench.folder}"
        if odd := next((name for name in (*asked, *its_asked) if asked.get(name) != its_asked.get(name)), None):
            raise DataError(
                f"{where} was asked other questions in {odd} than row {first.name!r} of {first.bench.folder}: they are "
                f"of different benches; collect rows of the same test sets and suites"
            )
        if its_seed != seed:
            raise DataError(
                f"{where} has the seed {its_seed}, and row {first.name!r} of {first.bench.folder} {seed}: they are of "
                f"different benches; collect rows of the same seeds"
            )
    _refuse_other_seeds(listed)
    told = [(row, settings) for row, _, _, settings in facts if settings]
    for row, settings in told[1:]:
        if key := differing_setting(told[0][1], settings):
            raise DataError(
                f"row {row.name!r} of {row.bench.folder} has another {key} than row {told[0][0].name!r} of "
                f"{told[0][0].bench.folder}: they are of different benches; collect rows of the same data and settings"
            )


def _asked(run: ComparedRun) -> dict[str, frozenset[str]]:
    """Return what was asked of the base, by test set and suite."""
    found: dict[str, set[str]] = {}
    for one in run.items:
        if one.system == BASE:
            found.setdefault(f"{one.where} {one.direction}".strip(), set()).add(one.content)
    return {name: frozenset(contents) for name, contents in found.items()}


def _refuse_other_seeds(listed: Sequence[tuple[TakenRow, ComparedRun]]) -> None:
    """Refuse benches whose rows were trained with other seeds.

    Raises:
        DataError: there are.
    """
    found: dict[str, set[int]] = {}
    for row, run in listed:
        card = run.scorecard
        trained = {cost.system for cost in card.cost if cost.stage == "training"}
        seeds = {card.seed if one.seed is None else one.seed for one in card.systems if one.name in trained}
        if seeds:
            found.setdefault(row.origin, set()).update(seeds)
    kinds = list(found.items())
    for name, seeds in kinds[1:]:
        if seeds != kinds[0][1]:
            one, other = (", ".join(map(str, sorted(of))) for of in (seeds, kinds[0][1]))
            raise DataError(
                f"the rows of {name} were trained with the seeds {one}, and those of {kinds[0][0]} with {other}: they "
                f"are of different benches; collect rows of the same seeds"
            )


def _settings(row: TakenRow) -> dict[str, Any]:
    """Return the settings that a row shares with the others; {} where they are not known."""
    folder = row.run or Path()
    run = open_run(folder)
    if not run.collected:
        return shared_settings(folder)
    settings = run.record[COLLECTED].get("settings")
    return settings if isinstance(settings, dict) else {}


def _refuse_lost(out: Path, bench: JoinedBench) -> None:
    """Refuse an output folder with files of somebody's own, or with rows that would be lost.

    Raises:
        UsageError: it is one.
        StoreError: what it holds is damaged.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a new folder")
    if not (out / BENCH).exists():
        ours = (LOCK, PARTIAL, ROWS, TOKENS)  # the last two: of a collection that was killed
        odd = next((path for path in sorted(out.iterdir()) if path.name not in ours), None)
        if odd is not None:
            raise UsageError(f"{odd} was not written by `lingraft collect`: --out NEW")
    else:
        _refuse_unlisted(out, bench)
    for row in bench.runs:
        place = out / row.place
        if place.parent.is_symlink() or place.is_symlink() or (place.exists() and not _is_same(place, row)):
            raise UsageError(f"{place} is not what `lingraft collect` would write there: --out NEW")


def _refuse_unlisted(out: Path, bench: JoinedBench) -> None:
    """Refuse results of which rows would be lost."""
    mine = {row.place: row for row in bench.runs}
    there = read_source(out, out.name)
    for name in there.rows:
        if name not in {row.name for row in bench.rows}:
            raise _would_lose(out, name)
    for row in joined([there]).runs:
        run = open_run(row.run or Path())
        if not run.collected:
            raise UsageError(f"{out} holds a bench with its texts, which collecting leaves alone: --out NEW")
        if row.place not in mine or not _is_same(run.folder, mine[row.place]):
            raise _would_lose(out, row.name)


def _would_lose(out: Path, name: str) -> UsageError:
    return UsageError(
        f"{out} holds the row {name!r}, which would be lost; name {out} among the folders, too, or give --out NEW"
    )


def _is_same(place: Path, row: TakenRow) -> bool:
    """Whether a folder holds the collected run of a row."""
    try:
        there = open_run(place)
    except StoreError:
        return False
    return there.collected and there.origin == open_run(row.run or Path()).origin


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """Yield a folder whose content is in `out` when the block ends without error."""
    if out.exists():
        with added_to(out, FILES) as place:
            yield place
    else:
        with new_folder(out) as place:
            yield place


def _collect(bench: JoinedBench, runs: Mapping[str, ComparedRun], out: Path, reporter: Reporter) -> set[str]:
    """Write the runs of all rows without their texts; return what was asked in them."""
    asked: set[str] = set()
    for row in bench.runs:
        folder = row.run or Path()
        again = " at equal tokens" if row.place.startswith(f"{TOKENS}/") else ""
        reporter.say(f"Row {row.name}{again}, of {row.origin}")
        try:
            run = open_run(folder)
            own = set() if run.collected else set(asked_texts(run))
            about = {"settings": _settings(row), "system": _system(folder)}
            collect_run(folder, out / row.place, about, known=_known(folder), texts=own)
        except LingraftError as error:
            error.args = (f"row {row.name!r}: {error}",)
            raise
        asked |= own
    return asked


def _system(folder: Path) -> str:
    """Return the name of the system that a run is about; "" where its recipe is of a version that tells no more."""
    try:
        return Run(folder).system
    except UsageError:
        return ""


def _known(folder: Path) -> set[str]:
    """Return the paths that a run knows."""
    recipe = (read_sealed(folder / RECORD) or {}).get("recipe", {})
    return {*paths_in(recipe), str(folder.resolve())}


def _table(bench: JoinedBench, benches: Sequence[SourceBench], runs: Mapping[str, ComparedRun]) -> dict[str, Any]:
    """Return the common table, ready for JSON."""

    def listed(rows: Sequence[TakenRow]) -> list[dict[str, Any]]:
        return [common_row(row, systems_of(runs[row.place].scorecard) if row.run else ()) for row in rows]

    done = {row.name for row in bench.rows if row.run}
    named = [str(one.values.get("reference") or "") for one in benches]
    reference = next((name for name in named if name in done), next(iter(named)))
    table = {
        "schema": SCHEMA,
        "name": str(benches[0].values.get("name") or "bench"),
        "reference": reference,
        "rows": listed(bench.rows),
    }
    return {**table, "equal_tokens": {**bench.about_equal, "rows": listed(bench.equal)}} if bench.equal else table
