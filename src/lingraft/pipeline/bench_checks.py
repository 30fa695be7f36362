"""What can be known of the rows of a bench before the first of them is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.core.errors import LingraftError
from lingraft.core.progress import Reporter
from lingraft.evaluation.published import RUN
from lingraft.merging.plan import given
from lingraft.models.graft_names import graft_folder
from lingraft.pipeline.context import Context
from lingraft.pipeline.dry_run_device import width_of
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.given_grafts import fitting
from lingraft.pipeline.questions import check_unstarted
from lingraft.pipeline.trial import rehearse
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.engine_checks import check_served
from lingraft.recipe.files import check_files, check_parts
from lingraft.recipe.pending import Pending, PendingGraft


def pending_of(plan: BenchPlan, one: RowPlan) -> Pending:
    """Return the grafts that a row takes of others and that are not there yet.

    Args:
        plan: the bench.
        one: its row.
    """
    others = {other.row.name: other for other in plan.rows}
    folders = {others[name].folder / "graft": others[name].recipe for name in one.takes}
    return {str(at): PendingGraft(recipe) for at, recipe in folders.items() if not (at / "lingraft.json").exists()}


def check_row(plan: BenchPlan, one: RowPlan, shared: Shared) -> None:
    """Refuse a row that would fail when its turn comes, hours later.

    Args:
        plan: the bench.
        one: its row.
        shared: with the rows looked at before.

    Raises:
        LingraftError: files, packages, grafts, layers or lengths are not as the row needs them.
    """
    pending = pending_of(plan, one)
    check_files(one.recipe)
    check_parts(one.recipe, pending)
    if (one.folder / RUN).exists():  # it was run
        return
    _check_bases(one, pending)
    check_served(one.recipe, width_of(one.recipe))
    rehearse(one.recipe, weights=False, shared=shared)
    check_unstarted(one.recipe, shared)


def _check_bases(one: RowPlan, pending: Pending) -> None:
    """Refuse grafts of another base among those that are there."""
    recipe = one.recipe
    merged = dict.fromkeys(part for merge in recipe.merge for part in merge.paths if part not in pending)
    upon = [stage.upon for stage in recipe.stages if stage.upon]
    named = dict.fromkeys([*upon, *(path for graft in recipe.grafts for path in graft.paths)])
    folders = [model for part in merged if isinstance(model := given(part), Path)]  # others are whole models
    folders += [graft_folder(path) for path in named if path not in pending]
    with Context(recipe, one.folder, Reporter(quiet=True)) as context:
        for folder in dict.fromkeys(folders):
            fitting(context, folder)


@contextmanager
def naming(one: RowPlan) -> Iterator[None]:
    """Put the name of a row before what is wrong with it."""
    try:
        yield
    except LingraftError as error:
        named(one.row.name, error)
        raise


def named(name: str, error: LingraftError) -> LingraftError:
    """Return an error with the name of a row before it."""
    error.args = (f"row {name!r}: {error}",)
    return error
