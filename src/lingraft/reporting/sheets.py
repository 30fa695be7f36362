"""Human evaluation: sheets of blinded items out of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.data.records import SideBySide
from lingraft.evaluation.campaign import campaign
from lingraft.evaluation.compared_run import read_scorecard
from lingraft.evaluation.published import open_run
from lingraft.evaluation.sheet import make_sheet, write_sheet
from lingraft.reporting.rating_form import render_form
from lingraft.store.files import read_lines


@dataclass(frozen=True)
class WrittenSheet:
    """A sheet on disk.

    Attributes:
        files: what was written; the last is the key, which raters must not see.
        items: to be rated.
        alike: further items on which the systems wrote the same.
    """

    files: Sequence[Path]
    items: int
    alike: int

    @property
    def key(self) -> Path:
        """Which system wrote what."""
        return self.files[-1]


def draw_sheet(
    run: Path,
    systems: Sequence[str],
    out: Path,
    *,
    n: int = 100,
    seed: int = 0,
    only: Sequence[str] = (),
    reference: bool = False,
    pearmut: str = "",
    raters: int = 1,
) -> WrittenSheet:
    """Draw items of a finished run, blind them, and write them as CSV and as an HTML form.

    Args:
        run: its folder.
        systems: two or more of it.
        out: folder to write.
        n: items to draw.
        seed: of the draw, the order and the sides.
        only: directions or suites; by default all directions.
        reference: whether raters see the reference.
        pearmut: protocol of a campaign for Pearmut that is written beside; "": none.
        raters: of that campaign.

    Raises:
        StoreError: no finished run.
        UsageError: unknown systems or groups, or as `lingraft.evaluation.campaign.campaign`.
        DataError: too few items.
    """
    finished = open_run(run)
    scorecard = read_scorecard(finished)
    directions = list(dict.fromkeys(row.direction for row in scorecard.translation))
    sheet = make_sheet(
        map(SideBySide.from_json, read_lines(finished.file("outputs.jsonl"))),
        list(systems),
        run=scorecard.run,
        n=n,
        seed=seed,
        groups=list(only),
        directions=directions,
    )
    made = ""
    if pearmut:
        made = campaign(sheet, protocol=pearmut, raters=raters, reference=reference, directions=directions)
    written = write_sheet(out, sheet, render_form(sheet, reference), reference, made)
    return WrittenSheet(written, len(sheet.items), sum(sheet.same.values()))
