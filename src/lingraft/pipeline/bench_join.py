"""Benches whose rows were run in several folders, as one table: which row is taken from where, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, LingraftError, StoreError
from lingraft.core.machine_paths import paths_in, values_without_paths
from lingraft.core.printable import printable
from lingraft.evaluation.compared_run import ComparedRun, read_run
from lingraft.evaluation.published import open_run
from lingraft.recipe.bench import ROWS, TOKENS
from lingraft.recipe.choices import NAME
from lingraft.recipe.strict_yaml import plain_values
from lingraft.reporting.bench_contents import (
    BENCH,
    BENCH_FILE,
    CONFIGURED,
    DONE,
    MEASURED,
    TO_DO,
    BenchTable,
    Chosen,
    EqualTokens,
    read_table,
)


@dataclass(frozen=True)
class SourceBench:
    """A bench that is collected: its table, and its runs as they are read.

    Attributes:
        label: how the page calls it; rows that were collected before have names of their own.
        table: `bench.json`, checked.
        values: the same as it stands there, without paths of the machine.
        text: the bench file; "" where there is none.
        known: paths that may stand in what it says.
    """

    folder: Path
    label: str
    table: BenchTable
    values: Mapping[str, Any]
    text: str = ""
    known: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """The rows of its table, by their names."""
        return {row["name"]: row for row in self.values["rows"]}

    @property
    def equal_rows(self) -> dict[str, Mapping[str, Any]]:
        """The rows of its second table, likewise."""
        return {row["name"]: row for row in (self.values.get("equal_tokens") or {}).get("rows", [])}


@dataclass(frozen=True)
class TakenRow:
    """A row of the common table: of which bench, and where its run is.

    Attributes:
        values: as in the table of that bench.
        bench: the bench it is taken from.
        run: folder of its run; None where it has none.
        place: folder of its run in the common table.
    """

    values: Mapping[str, Any]
    bench: SourceBench
    run: Path | None = None
    place: str = ""

    @property
    def name(self) -> str:
        """Of the row."""
        return str(self.values["name"])

    @property
    def origin(self) -> str:
        """Name of the bench in which it was run."""
        return str(self.values.get("bench") or self.bench.label)


@dataclass(frozen=True)
class JoinedBench:
    """The common table.

    Attributes:
        rows: in order.
        equal: rows of the second table; a row as configured has the run of the first.
        about_equal: what else is said of the second table; {} where there is none.
    """

    rows: Sequence[TakenRow]
    equal: Sequence[TakenRow] = ()
    about_equal: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> list[TakenRow]:
        """All rows with a run of their own."""
        return [row for row in (*self.rows, *self.equal) if row.run and row.values["status"] == DONE]


def read_source(folder: Path, label: str) -> SourceBench:
    """Read a bench that is to be collected.

    Args:
        folder: of the bench.
        label: by which it is called.

    Raises:
        StoreError: there is no bench, or its table is damaged.
    """
    table = read_table(folder)
    values = json.loads((folder / BENCH).read_text("utf-8"))
    names = [row.name for row in (*table.rows, *(table.equal_tokens.rows if table.equal_tokens else ()))]
    if odd := next((name for name in names if not re.fullmatch(NAME[:-1], name) or len(name) > 80), None):
        raise _damaged(folder, f"{printable(odd, 100)!r} is no name of a row")
    first = [row.name.casefold() for row in table.rows]
    if twice := next((row.name for row in table.rows if first.count(row.name.casefold()) > 1), None):
        raise _damaged(folder, f"it has the row {twice!r} twice")
    file = folder / BENCH_FILE
    text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    known = (str(folder.resolve()), *_named_paths(text, file))
    plain = values_without_paths(values, known)
    for read, row in zip(table.rows, plain["rows"], strict=True):
        if read.choice and row.get("choice"):
            row["choice"] = _whole_choice(read.choice, row["choice"])
    return SourceBench(folder, label, table, plain, text, known)


def _whole_choice(read: Chosen, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was chosen for a row with the keys that an earlier version did not write."""
    tried = [
        {**one.model_dump(mode="json"), **its}
        for one, its in zip(read.candidates, values.get("candidates", []), strict=True)
    ]
    return {**read.model_dump(mode="json"), **values, "candidates": tried}


def _damaged(folder: Path, said: str) -> StoreError:
    return StoreError(f"{folder / BENCH} is damaged: {said}; run the bench again, which makes it anew")


def _named_paths(text: str, file: Path) -> Iterator[str]:
    """Yield the paths that a bench file names; none where it cannot be read."""
    try:
        yield from paths_in(plain_values(text, str(file)))
    except LingraftError:
        return


def joined(benches: Sequence[SourceBench]) -> JoinedBench:
    """Return the common table of benches.

    Args:
        benches: in the order in which their rows stand.

    Raises:
        DataError: a row is another one in two of them, or was run twice with other results; their second tables differ;
            or nothing was run.
        StoreError: a run is not finished, or damaged.
    """
    names = dict.fromkeys(name for bench in benches for name in bench.rows)
    folded = [name.casefold() for name in names]
    if odd := next((name for name in names if folded.count(name.casefold()) > 1), None):
        raise DataError(f"two rows are called {odd!r}, but for the case of letters; give one of them another name")
    rows = [_taken(name, [(bench, bench.rows[name]) for bench in benches if name in bench.rows]) for name in names]
    if not any(row.run for row in rows):
        places = ", ".join(str(bench.folder) for bench in benches)
        raise DataError(f"{places}: no row is finished; collect when one is")
    about = [(bench, bench.table.equal_tokens) for bench in benches if bench.table.equal_tokens]
    if not about:
        return JoinedBench(rows)
    first, measure = about[0]
    for bench, its in about[1:]:
        if _measure(its) != _measure(measure):
            raise DataError(
                f"{bench.folder} and {first.folder} have second tables of other tokens ({its.tokens:,} as "
                f"{its.reference}; {measure.tokens:,} as {measure.reference}); run `equal_tokens` in one of them, or "
                f"with one run of that row"
            )
    second = [bench for bench, _ in about]
    own = {row.name: row for row in rows}
    equal = []
    for name in dict.fromkeys(name for bench in second for name in bench.equal_rows):
        listed = [(bench, bench.equal_rows[name]) for bench in second if name in bench.equal_rows]
        row = _taken(name, listed, TOKENS)
        if row.values["status"] == CONFIGURED and (name not in own or not own[name].run):
            raise _damaged(row.bench.folder, f"the row {name!r} is as configured and has no run")
        equal.append(row)
    return JoinedBench(rows, equal, _measure(measure))


def _measure(equal: EqualTokens) -> dict[str, Any]:
    return equal.model_dump(mode="json", include={"reference", "tokens", "tolerance"})


def _taken(name: str, listed: Sequence[tuple[SourceBench, Mapping[str, Any]]], place: str = ROWS) -> TakenRow:
    """Return a row from the bench that has it done, else from one in which it is still to do.

    Raises:
        DataError: it is another row in two benches, or two runs of it have other results.
        StoreError: a run is not finished, or damaged.
    """
    (first, values), *_ = listed
    for bench, other in listed[1:]:
        if place == ROWS and (other.get("set") or {}) != (values.get("set") or {}):
            raise DataError(
                f"row {name!r} changes the recipe otherwise in {bench.folder} than in {first.folder}; give one of them "
                f"another name"
            )
    done = [(bench, row) for bench, row in listed if row["status"] in MEASURED]
    if not done:
        wanted = next((one for one in listed if one[1]["status"] == TO_DO), listed[0])
        return TakenRow(wanted[1], wanted[0])
    first, values = done[0]
    origin = _origin(name, first, values)
    for bench, other in done[1:]:
        if _origin(name, bench, other) != origin or other["status"] != values["status"]:
            raise DataError(
                f"row {name!r} was run in {first.folder} and in {bench.folder}, with other results; make it "
                f"`run: false` in one of them and run that bench again, or give it another name"
            )
    place = ROWS if values["status"] == CONFIGURED else place  # its run is that of the first table
    return TakenRow(values, first, first.folder / values["run"], f"{place}/{name}")


def _origin(name: str, bench: SourceBench, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the results of a row's run.

    Raises:
        StoreError: it is not finished, or damaged; the sentence begins with the row's name.
    """
    if not row.get("run"):
        raise _damaged(bench.folder, f"the row {name!r} is done and has no run")
    try:
        return open_run(bench.folder / row["run"]).origin
    except StoreError as error:
        raise StoreError(f"row {name!r}: {error}") from error


def read_taken(bench: JoinedBench) -> dict[str, ComparedRun]:
    """Read the runs of all rows, by the folders that they have in the common table.

    Raises:
        StoreError: one is damaged, or of another version.
    """
    found = {}
    for row in bench.runs:
        try:
            found[row.place] = read_run(row.run or Path(), row.name)
        except StoreError as error:
            raise StoreError(f"row {row.name!r}: {error}") from error
    return found


def common_row(row: TakenRow, systems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a row as it stands in the common table, ready for JSON.

    Args:
        row: with or without a run.
        systems: what they gained, kept and cost.
    """
    its = row.values
    said = {"name": row.name, "status": its["status"]}
    said |= {key: its[key] for key in ("why", "set", "choice") if key in its}
    if row.run is None:
        return said
    if "why" in said:
        said["why"] = ""
    return {**said, "run": row.place, "systems": list(systems), "bench": row.origin}
