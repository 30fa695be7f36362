"""What is said of a run before anything starts: what it runs and sends, does and costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lingraft.pipeline.dry_run import Estimate, describe, estimate
from lingraft.pipeline.dry_run_device import width_of
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.questions import check_unstarted
from lingraft.pipeline.trial import rehearse
from lingraft.recipe.engine_checks import check_served
from lingraft.recipe.files import check_grafts
from lingraft.recipe.pending import NOTHING, Pending
from lingraft.recipe.schema import Recipe
from lingraft.recipe.trust import Act, acts, open_acts


@dataclass(frozen=True)
class Announcement:
    """What a recipe would do; as a text, what a dry run prints.

    Attributes:
        estimate: tokens, hours and memory.
        acts: what it runs and sends, of which `open_acts` were not allowed yet.
        text: all of it in words.
    """

    estimate: Estimate
    acts: list[Act]
    open_acts: list[Act]
    text: str

    def __str__(self) -> str:
        return self.text


def announce(
    recipe: Recipe,
    folder: Path,
    gpu: str | None = None,
    *,
    replace: bool = False,
    pending: Pending = NOTHING,
    shared: Shared | None = None,
) -> Announcement:
    """Check everything that can be known before a run starts, and reckon what it costs; nothing is written.

    Args:
        recipe: that may run.
        folder: of the run, which need not exist.
        gpu: name of the card to run on; by default what is here.
        replace: whether what another recipe published there may be replaced.
        pending: grafts that are not there yet.
        shared: with recipes announced before, so that it is looked at once; None: nothing.

    Raises:
        UsageError: the folder holds another experiment; an unknown card; what cannot be trained.
        DataError: what `lingraft.pipeline.dry_run.estimate` refuses.
        ModelError: a graft or a model cannot be used.
    """
    Experiment(recipe).refuse_other(folder, replace)
    check_grafts(recipe, pending)
    check_served(recipe, width_of(recipe))
    tried = rehearse(recipe, shared=shared)  # first: what cannot be trained need not be reckoned
    found = estimate(recipe, gpu, shared=shared)
    listed, still = acts(recipe), open_acts(recipe)
    told = [describe(recipe, folder, tried, result=found), *check_unstarted(recipe, shared)]
    if listed:
        consent = "needs your consent: asked once in a terminal, else --trust" if still else "allowed"
        told = [f"Runs and sends ({consent}):", *(f"  {act}" for act in listed), *told]
    return Announcement(found, listed, still, "\n".join(told))
