"""The rows of a declared source: read in their format, their columns named, each made a record or rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from lingraft.core.errors import DataError, UsageError, setting
from lingraft.data import reasons
from lingraft.data.columns import Columns
from lingraft.data.declared_sources import DeclaredSource
from lingraft.data.files import RawRows, Row, SourcePlace
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.hub import arrow_rows, hub_rows, parquet_rows
from lingraft.data.records import Pair, Prompt, Rejected, Text
from lingraft.data.row_shapes import RowProblem, field_names
from lingraft.data.tables import csv_rows, tsv_rows

R = TypeVar("R", Pair, Prompt, Text)

_OPTIONAL = {"id", "document", "references", "reference", "input", "output"}


def raw_rows(
    source: DeclaredSource,
    place: SourcePlace,
    columns: Columns,
) -> RawRows:
    """Return the rows of a source in a format that names its columns, or whose columns are named.

    Args:
        source: as declared.
        place: where it was found, and its format.
        columns: what is known of them.
    """
    match place.format:
        case "jsonl":
            return jsonl_rows(place)
        case "json":
            return json_rows(place)
        case "tsv":
            return tsv_rows(place, columns)
        case "csv":
            return csv_rows(place, columns)
        case "parquet":
            return parquet_rows(place)
        case "arrow":
            return arrow_rows(place, source.split)
    return hub_rows(place, source.split, source.subset, source.revision)


def records(
    rows: RawRows,
    source: DeclaredSource,
    place: SourcePlace,
    build: Callable[[int, Mapping[str, Any]], R],
    expected: str,
    remedy: str,
) -> Iterator[Row[R] | Rejected]:
    """Turn raw rows into records; the first row decides whether the fields are right at all.

    Args:
        rows: with their fields by name.
        source: as declared.
        place: where it was found.
        build: makes a record of the number and the fields of a row; raises RowProblem.
        expected: fields of which a row needs one, for messages.
        remedy: how columns are named, for messages: "{prompt: ...}".

    Raises:
        UsageError: a key of the source does nothing in its format.
        DataError: there is no row, or the first has not the fields that a record needs.
    """
    _refuse_idle(source, place)
    first = empty = True
    passed = False
    for row in rows:
        empty = False
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            record = build(row.line, _renamed(row.record, source.fields))
        except RowProblem as problem:
            if problem.reason == reasons.AMBIGUOUS_LANGUAGE and first:
                raise DataError(f"{place.shown}: the fields {problem.detail}") from problem
            if isinstance(problem, _NoColumn) and first and not row.short:
                key = f", which {setting(source.fields_key)} names" if source.fields_key else ""
                raise DataError(
                    f"{place.shown}: the fields of the first row are {field_names(row.record)}: there is "
                    f"{problem.detail}{key}; name one that is there"
                ) from problem
            if problem.reason == reasons.MISSING_FIELD and first and not row.short:
                which = f"row {row.line}" if passed else "the first row"
                named = f": {setting(source.fields_key, remedy)}" if source.fields_key else " so"
                raise DataError(
                    f"{place.shown}: {which} has the fields {field_names(row.record)}, but expected are {expected}; "
                    + (problem.hint or f"name the columns{named}")
                ) from problem
            yield Rejected(place.shown, row.line, problem.reason, problem.detail)
        else:
            yield Row(row.line, record)
        first, passed = first and row.short, True
    if empty:
        raise DataError(f"{place.shown}: has no rows; it needs at least one")


class _NoColumn(RowProblem):
    """Internal: a row without a column that `fields` names."""


def _refuse_idle(source: DeclaredSource, place: SourcePlace) -> None:
    """Refuse keys of a source that do nothing in the format that it has.

    Raises:
        UsageError: there is one.
    """
    of_hub = place.format == "hub"
    idle = {
        "split": source.split != "train" and not of_hub and place.format != "arrow",
        "subset": source.subset is not None and not of_hub,
        "revision": source.revision is not None and not of_hub,
        "inline_codes": getattr(source, "inline_codes", "drop") != "drop" and place.format not in ("tmx", "xliff"),
    }
    if key := next((key for key, does_nothing in idle.items() if does_nothing), None):
        belongs = {"split": "data sets", "inline_codes": "TMX and XLIFF files"}.get(key, "data sets of the hub")
        raise UsageError(f"{place.shown}: `{key}` is of {belongs}, and this is none; drop it")


def _renamed(values: Mapping[str, Any], fields: Mapping[str, str]) -> Mapping[str, Any]:
    """Return `values` with the columns of `fields` under the fields' names.

    Raises:
        RowProblem: a named column is absent, other than one a row can do without.
    """
    if not fields:
        return values
    absent = [column for field, column in fields.items() if column not in values and field not in _OPTIONAL]
    if absent:
        raise _NoColumn(reasons.MISSING_FIELD, f"no column {', '.join(map(repr, absent))}")
    renamed = {key: value for key, value in values.items() if key not in fields}
    renamed.update({field: values[column] for field, column in fields.items() if column in values})
    return renamed
