"""Models of one base merged weight by weight: no more of each is in memory than the weight that is merged.

The result is a graft of whole layers, or a model of its own. It is written, read again as it will be used, and its
logits are compared with those of the merged weights in memory; only then does it get its name.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from lingraft.core.errors import ModelError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.merging.base import Merger
from lingraft.merging.plan import Given, Plan, planned
from lingraft.merging.results import KINDS, rounded, write_checkpoint, write_graft
from lingraft.merging.weight_files import SHARD, Progress, forget
from lingraft.models.architectures import open_weights
from lingraft.models.devices import free_memory, quiet
from lingraft.models.files import ModelFiles, load_tokenizer
from lingraft.models.graft import grafted
from lingraft.models.growth import extended
from lingraft.models.loading import load_model
from lingraft.models.merged_model import TOLERANCE, largest_difference, logits_of, plain_rows
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import MANIFEST, SCRATCH, build_folder, facts, locked, partial_path, verify
from lingraft.store.disk import explain_os_errors
from lingraft.store.files import read_sealed
from lingraft.store.publishing import refuse_existing

Form = Literal["graft", "checkpoint"]
FORMS: tuple[Form, ...] = get_args(Form)
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What came of merging.

    Attributes:
        form: "graft" or "checkpoint".
        parameters: numbers that were written.
        weights: that may be others than the base's.
        max_logit_difference: between what was written, read again, and the merged weights in memory.
    """

    form: Form
    parameters: int
    weights: int
    max_logit_difference: float


def merged(
    merger: Merger,
    base: ModelFiles,
    models: Sequence[Given],
    out: Path,
    form: Form = "graft",
    dtype: str = "",
    progress: Progress = lambda done, total: None,
    shard: int = SHARD,
) -> Merged:
    """Merge models of one base into a folder, which has its name only when it is whole and was compared.

    What a killed process has begun is gone on with. A folder that is there already stays as it is: it is what comes out
    where it was made of the same, and else it is refused.

    Args:
        merger: what merges them.
        base: the base.
        models: see `lingraft.merging.plan.given`.
        out: folder to write.
        form: "graft" for whole layers beside the base, or "checkpoint" for a model of its own.
        dtype: of a checkpoint, see `write_checkpoint`.
        progress: told how many of how many weights are done.
        shard: of a checkpoint, see `write_checkpoint`.

    Raises:
        UsageError: `out` is there already and something else, or a link that leads nowhere; or the models do not make
            a graft.
        ModelError: as `planned`; or what was written gives other logits than it should.
        StoreError: it cannot be written, or numbers do not fit the type.
    """
    plan = planned(merger, base, models)
    shards = {"shard": shard} if shard != SHARD else {}
    about = {"stage": "merged", "inputs": {**plan.identity, "form": form, "dtype": dtype, **shards}}
    with explain_os_errors(out):
        if out.exists():
            if (read_sealed(out / MANIFEST) or {}).get("inputs") != about["inputs"] or not verify(out):
                raise UsageError(f"{out} exists already; give a new folder")
            return Merged(**facts(out))
        refuse_existing(out)
        partial = partial_path(out)
        lock = out.with_name(f".{out.name}.lock")
        with locked(lock):
            if not (partial / SCRATCH / content_hash(about)).exists():
                shutil.rmtree(partial, ignore_errors=True)  # begun with something else
            build_folder(
                out,
                about,
                lambda folder: asdict(write(plan, folder, form, dtype, progress, content_hash(about), shard)),
            )
        shutil.rmtree(lock, ignore_errors=True)
    return Merged(**facts(out))


def write(
    plan: Plan,
    folder: Path,
    form: Form = "graft",
    dtype: str = "",
    progress: Progress = lambda done, total: None,
    mark: str = "",
    shard: int = SHARD,
) -> Merged:
    """Write what comes of a plan into the folder of an artefact that is being built, and compare its logits.

    Args:
        plan: what is merged.
        folder: which may hold what a killed process has left, see `lingraft.store.artefacts.build_folder`.
        form: see `merged`.
        dtype: see `merged`.
        progress: see `merged`.
        mark: name of a file in the artefact's scratch folder by which what was begun is known again.
        shard: see `merged`.

    Raises:
        UsageError: the models do not make a graft.
        ModelError: it gives other logits than it should.
        StoreError: it cannot be written.
    """
    _check_form(plan, form, dtype)
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    if mark:
        (scratch / mark).touch()
    note = scratch / "weights.json"
    if form == "graft":
        parameters = write_graft(plan, folder, note, progress)
        difference, scale = _compare_graft(plan, folder)
    else:
        parameters = write_checkpoint(plan, folder, note, progress, dtype, shard)
        difference, scale = _compare_checkpoint(plan, folder, dtype)
    if not difference <= TOLERANCE * max(1.0, scale):
        forget(note)
        raise ModelError(
            f"the logits of what was merged differ by {difference:.2g} from those of the merged weights, once it was "
            f"written and read again; merge as a {'checkpoint' if form == 'graft' else 'graft'}, or report this model"
        )
    return Merged(form=form, parameters=parameters, weights=len(plan.changed), max_logit_difference=difference)


def _check_form(plan: Plan, form: Form, dtype: str) -> None:
    if form not in FORMS:
        raise UsageError(f"there is no form {form!r} of what is merged; choose one of {', '.join(FORMS)}")
    if dtype and (form == "graft" or dtype not in KINDS):
        raise UsageError(
            "a graft holds whole layers in float32; drop the type"
            if form == "graft"
            else f"there is no type {dtype!r}; choose one of {', '.join(KINDS)}"
        )
    if form == "graft" and not plan.grafts:
        raise UsageError(
            "none of the models is a graft, which would say how to ask what is merged; merge as a checkpoint"
        )
    if form == "graft" and plan.rows is not None:
        raise UsageError("the first model has another vocabulary than the base; merge as a checkpoint")


def _rows(folder: Path, new: range) -> list[list[int]]:
    """Return token ids to compare with: plain texts, and ids that a vocabulary added."""
    added = [list(new)[:: max(1, len(new) // 64)]] if new else []
    return [*plain_rows(load_tokenizer(folder)), *added]


@torch.no_grad()
def _compare_graft(plan: Plan, folder: Path) -> tuple[float, float]:
    """Return the largest difference of logits between a graft beside its base and the merged weights, and the largest
    logit."""
    files, vocabulary = plan.base.files, Vocabulary.in_folder(folder)
    with quiet(), extended(load_model(files, "fp32", _CPU), vocabulary) as grown:
        rows = _rows(files.folder if vocabulary is None else folder, grown.new_ids)
        for name in plan.changed:
            grown.model.get_parameter(name).data = plan.weight(name)
        expected = logits_of(grown.model, rows)
    del grown
    free_memory()
    with quiet(), grafted(load_model(files, "fp32", _CPU), folder) as on:
        found = logits_of(on.model, rows)
    free_memory()
    return largest_difference(found, expected), max(values.abs().max().item() for values in expected)


@torch.no_grad()
def _compare_checkpoint(plan: Plan, folder: Path, dtype: str) -> tuple[float, float]:
    """Return the same of a model of its own: numbers are rounded to its type, and computed with in float32."""
    with quiet():
        model, report = open_weights(folder, dtype=torch.float32, output_loading_info=True)
    if odd := sorted(report["missing_keys"]):
        raise ModelError(
            f"the merged model lacks {odd[0]} when it is read again; merge as a graft, or report this model"
        )
    rows = _rows(folder, range(0))
    found = logits_of(model.eval(), rows)
    for name in plan.shapes:
        model.get_parameter(name).data = rounded(plan, name, dtype)
    expected = logits_of(model, rows)
    return largest_difference(found, expected), max(values.abs().max().item() for values in expected)
