"""The tables of a bench as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingraft.core.figures import MISSING, interval, number, value_text
from lingraft.reporting.bench_contents import CONFIGURED, DONE
from lingraft.reporting.bench_tables import dev_figure

HEADS = ("row", "system", "gain", "% kept", "read", "supervised", "seconds", "")


def result_text(table: Mapping[str, Any]) -> str:
    """Return all tables of a bench: its rows, what was chosen for them, and the rows at equal tokens.

    Args:
        table: as in `bench.json`.
    """
    parts = ["\n".join(aligned([HEADS, *_rows(table["rows"], (DONE,))]))]
    if any(row.get("choice") for row in table["rows"]):
        parts.append(_choices(table["rows"]))
    if equal := table.get("equal_tokens"):
        said = (
            f"Equal tokens: rows that read over {equal['tolerance']:.0%} more or less than {equal['reference']} "
            f"({equal['tokens']:,}), trained once more on as many"
        )
        parts.append("\n".join([said, *aligned([HEADS, *_rows(equal["rows"], (DONE, CONFIGURED))])]))
    return "\n\n".join(parts)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of cells in columns."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _rows(rows: Sequence[Mapping[str, Any]], whole: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        status = row["status"]
        if status not in whole:
            why = row.get("why", "")
            yield (row["name"], "", *[MISSING] * 5, f"{status}{': ' * bool(why)}{why}")
        for system in row.get("systems", []):
            yield _cells(row["name"], system, status if status != DONE else "")


def _cells(name: str, system: Mapping[str, Any], remark: str) -> tuple[str, ...]:
    gain, kept, cost = system["gain"], system["retention_mean"], system["cost"]
    gained = f"{number(gain['value'], 1, signed=True)} {interval(tuple(gain['ci95']), 1)}" if gain else MISSING
    read, supervised = (number(cost["training"].get(of), 0) for of in ("tokens", "supervised_tokens"))
    seconds = f"{sum(one['seconds'] for one in cost.values()):,.0f}"
    return name, system["name"], gained, number(kept, 1), read, supervised, seconds, remark


def _choices(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return of each row every value with its figure, and the one that was chosen."""
    chosen = {row["name"]: row["choice"] for row in rows if row.get("choice")}
    first = next(iter(chosen.values()))
    values = [value_text(one["value"]) for choice in chosen.values() for one in choice["candidates"]]
    heads = list(dict.fromkeys(values))
    better = "least loss" if first["by"] == "loss" else "highest chrF"
    cells: list[list[str]] = [["row", *heads, "chosen"]]
    for name, choice in chosen.items():
        figures = {value_text(one["value"]): dev_figure(one["dev"], choice["by"]) for one in choice["candidates"]}
        words = value_text(choice["value"])
        if choice["edge"]:
            words += f", best at the {choice['edge']} tried"
        if choice["like"]:
            words += f", as {choice['like']}"
        cells.append([name, *(figures.get(head, "") for head in heads), words])
    said = f"{first['key']}: {better} of the development set, first seed"
    spoilt = [
        f"{name} at {value_text(one['value'])}: {one['why']}"
        for name, choice in chosen.items()
        for one in choice["candidates"]
        if one["why"]
    ]
    return "\n".join([said, *aligned(cells), *spoilt])
