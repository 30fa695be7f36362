"""The bench file of rows that were run in several folders."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lingraft.core.errors import DataError, UsageError
from lingraft.core.machine_paths import values_without_paths, without_paths
from lingraft.pipeline.bench_join import SourceBench, TakenRow
from lingraft.recipe.strict_yaml import plain_values, yaml_text
from lingraft.reporting.bench_contents import BENCH_FILE

_ALONE = re.compile(r"(?m)(?<=[:,\[-] )/([^\s/'\",\[\]{}#]+)/?(?=\s*(?:$|[,\]}#]))")
"""A folder at the root as a plain value of YAML: a mounted disk."""
_SHORT = 20
"""Characters of a text that may stand in a bench file by chance."""


def common_file(benches: Sequence[SourceBench], rows: Sequence[TakenRow], texts: Collection[str]) -> str:
    """Return the bench file of collected rows, without paths of a machine; "" where no bench has one.

    That of the first bench as it stands, where all have the same; else its values, with all rows, of which those that
    were run somewhere are to be run.

    Args:
        benches: in order.
        rows: of the common table.
        texts: that may not stand in it.

    Raises:
        DataError: a text of the data stands in it.
        UsageError: one of several is no YAML.
    """
    files = [bench for bench in benches if bench.text.strip()]
    if not files:
        return ""
    known = {path for bench in files for path in bench.known}
    if len({bench.text for bench in files}) == 1:
        text = _ALONE.sub(r"\1", without_paths(files[0].text, known))
    else:
        text = yaml_text(values_without_paths(_joined(files, rows), known))
    place = str(files[0].folder / BENCH_FILE)
    refuse_texts([text, _plain(text, place)], texts, place)
    return text


def _plain(text: str, place: str) -> Any:
    """Return the values of a bench file, in which texts are not folded; None where it cannot be read."""
    try:
        return plain_values(text, place)
    except UsageError:
        return None


def refuse_texts(value: Any, texts: Collection[str], place: str) -> None:
    """Refuse to hand on what holds a text of the data.

    Args:
        value: JSON-ready, that is handed on.
        texts: of the data; short ones may stand there by chance.
        place: where it stands, for the message.

    Raises:
        DataError: it does.
    """
    written = "\0".join(_texts(value))
    if found := next((one for one in texts if len(one) >= _SHORT and one in written), ""):
        raise DataError(
            f"{place} holds a text of the data ({found[:_SHORT]!r}...), which would go along; take it out, and collect "
            f"again"
        )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a JSON-ready value, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in (*value, *value.values()):
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _joined(files: Sequence[SourceBench], rows: Sequence[TakenRow]) -> dict[str, Any]:
    read = [(bench, plain_values(bench.text, str(bench.folder / BENCH_FILE))) for bench in files]
    listed = {bench.folder: _rows(values) for bench, values in read}
    first: dict[str, Any] = {}
    for _, values in read:
        its = values if isinstance(values, Mapping) else {}
        first |= {key: value for key, value in its.items() if key not in first}
    found = []
    for row in rows:
        own = listed.get(row.bench.folder, {}).get(row.name) or next(
            (its[row.name] for its in listed.values() if row.name in its), None
        )
        if own is None:
            continue
        left = {"run", "why"} if row.run else set()
        found.append({key: value for key, value in own.items() if key not in left})
    return {**first, "rows": found}


def _rows(values: Any) -> dict[str, Mapping[str, Any]]:
    rows = values.get("rows") if isinstance(values, Mapping) else None
    listed = rows if isinstance(rows, list) else []
    return {str(row.get("name")): row for row in listed if isinstance(row, Mapping)}
