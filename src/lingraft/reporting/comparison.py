"""What `compare` returns: one frontier over several runs that writes itself in any form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lingraft.core.errors import UsageError, suggestion
from lingraft.evaluation.compared_row import ComparisonRow
from lingraft.evaluation.comparison import Frontier, SystemPair
from lingraft.reporting import comparison_page as page
from lingraft.reporting.notebook import comparison_fragment
from lingraft.store.files import write_atomic


@dataclass(frozen=True)
class Comparison:
    """Gain against retention over several runs.

    Attributes:
        frontier: its values: rows, paired differences, notes.
        title: names of the runs.
    """

    frontier: Frontier
    title: str

    @property
    def rows(self) -> Sequence[ComparisonRow]:
        """One row a system."""
        return self.frontier.rows

    @property
    def pairs(self) -> Sequence[SystemPair]:
        """The paired difference of each two systems in gain and in retention."""
        return self.frontier.pairs

    @property
    def notes(self) -> Sequence[str]:
        """What was left out, and what a reader has to know."""
        return self.frontier.notes

    @property
    def pareto(self) -> list[str]:
        """The systems that no other dominates."""
        return self.frontier.pareto

    @property
    def sentences(self) -> list[str]:
        """Which differences are significant, and how the numbers were made."""
        return [*page.undecided(self.frontier), page.method_line(self.frontier)]

    def table(self, sort: str = "gain") -> Table:
        """Return the table for a terminal; arguments and errors as for `to_csv`."""
        check_order(sort)
        return page.comparison_table(self.frontier, sort)

    def to_csv(self, path: str | Path | None = None, sort: str = "gain") -> str:
        """Return the table as CSV, numbers in full, one line a system.

        Args:
            path: file to write it to as well.
            sort: "gain", "retention", "lowest" or "system".

        Raises:
            UsageError: no such column.
            StoreError: the file cannot be written.
        """
        return self._text(page.comparison_csv, path, sort)

    def to_latex(self, path: str | Path | None = None, sort: str = "gain") -> str:
        """Return the table for LaTeX (booktabs); arguments and errors as for `to_csv`."""
        return self._text(page.comparison_latex, path, sort)

    def to_json(self, path: str | Path | None = None, sort: str = "gain") -> str:
        """Return everything as JSON; arguments and errors as for `to_csv`."""
        return self._text(page.comparison_json, path, sort)

    def to_html(self, path: str | Path | None = None, sort: str = "gain") -> str:
        """Return a page with the frontier and tables, which loads nothing; arguments and errors as for `to_csv`."""
        return self._text(lambda found, by: page.comparison_html(found, self.title, by), path, sort)

    def _text(self, made: Callable[[Frontier, str], str], path: str | Path | None, sort: str) -> str:
        check_order(sort)
        text = made(self.frontier, sort)
        if path is not None:
            write_atomic(Path(path), text)
        return text

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return comparison_fragment(self.frontier, self.title)


def check_order(sort: str) -> None:
    """Refuse a column by which the table cannot be sorted.

    Raises:
        UsageError: it is one.
    """
    if sort not in page.COLUMNS:
        raise UsageError(f"the table cannot be sorted by {sort!r}{suggestion(sort, page.COLUMNS)}")
