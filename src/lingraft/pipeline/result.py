"""What a run leaves: its folder, and what is read from there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lingraft.core.errors import StoreError
from lingraft.evaluation.compared_run import read_scorecard
from lingraft.evaluation.published import COLLECTED, is_collected, open_run
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.verdict import verdict
from lingraft.recipe.load import load_recipe
from lingraft.recipe.schema import Recipe
from lingraft.reporting.notebook import run_fragment


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything of it is.
    """

    folder: Path

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Return the finished run in a folder.

        Raises:
            StoreError: there is none, it is not finished, or a file was changed or damaged.
        """
        found = cls(Path(folder))
        assert found.scorecard is not None, "read, and so checked"
        return found

    @cached_property
    def scorecard(self) -> Scorecard:
        """Every number with what defines it.

        Raises:
            StoreError: the run is not finished, or a file was changed or damaged.
        """
        return read_scorecard(open_run(self.folder))

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            UsageError: it was changed so that it cannot be read.
        """
        return load_recipe(str(self.folder))

    @property
    def report(self) -> Path:
        """The report, one HTML page."""
        return self.folder / "report.html"

    @property
    def graft(self) -> Path:
        """The folder of the graft.

        Raises:
            StoreError: the run trains nothing, or has not finished.
        """
        folder = self.folder / "graft"
        if not folder.is_dir():
            raise StoreError(f"{self.folder} has no graft: nothing was trained there, or the run is not finished")
        return folder

    @property
    def system(self) -> str:
        """Name of the system that the run is about."""
        if is_collected(self.folder) and (name := open_run(self.folder).record[COLLECTED].get("system")):
            return str(name)
        return self.recipe.headliners[-1]

    @property
    def verdict(self) -> str:
        """The headline in one sentence, claiming no more than the intervals allow."""
        card = self.scorecard
        derived = {system.name for system in card.systems if system.group}
        primary = [row for row in card.summary if row.system not in derived or row.system == self.system]
        return verdict(self.system, primary, card.translation, card.general)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return run_fragment(self.scorecard, self.system, self.verdict, str(self.report))
