"""Pushing a run to the hub: graft, card, scorecard and report, in one commit, by the hub's own client.

The token is that of the client: `HF_TOKEN`, or of `hf auth login`. It is written nowhere.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import LingraftError, StoreError, UsageError, first_line
from lingraft.core.hub import LOG_IN, HubName, why_not
from lingraft.core.progress import Reporter
from lingraft.core.validation import HUB_ID
from lingraft.evaluation.compared_run import read_scorecard
from lingraft.evaluation.published import open_run
from lingraft.models.aliases import ALIASES
from lingraft.models.bases import base_license
from lingraft.models.files import local_folder
from lingraft.models.graft import GraftInfo, name_base, read_info, write_info
from lingraft.models.graft_seal import ADAPTER
from lingraft.recipe.load import load_recipe
from lingraft.reporting.card_metadata import model_index
from lingraft.sharing.card import card_of
from lingraft.sharing.contents import (
    CARD,
    NUMBERS_FOLDER,
    REPORT,
    TEXTS,
    PushedFile,
    checked_graft,
    graft_files,
    numbers,
    refuse_paths,
    results,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
_OWN = (
    *("adapter_config.json", "adapter_model.safetensors", "lingraft.json", "vocabulary.json", "tokenizer*"),
    *("chat_template*", "special_tokens_map.json", "route-*.json", "route-*.safetensors", "scorecard.json", REPORT),
    *(*TEXTS, f"{NUMBERS_FOLDER}/*"),
)
"""Files that a push writes. Those of an earlier one that this one does not have are removed: a vocabulary that is left
behind would be taken for this graft's."""


@dataclass(frozen=True)
class Pushed:
    """What was pushed, or with `dry_run` would be.

    Attributes:
        repository: `org/name`.
        branch: of the repository.
        files: name -> bytes.
        removed: files of an earlier push that were removed; not known in a dry run.
        card: text of the card.
        notes: what a user should know.
        url: of the repository; "" in a dry run.
        commit: its hash; "" in a dry run.
    """

    repository: str
    branch: str
    files: dict[str, int]
    card: str
    notes: list[str]
    removed: list[str] = field(default_factory=list)
    url: str = ""
    commit: str = ""


def push(
    folder: Path,
    to: str,
    *,
    private: bool,
    branch: str,
    base_model: str,
    licence: str,
    with_outputs: bool,
    message: str,
    dry_run: bool,
    reporter: Reporter,
) -> Pushed:
    """Push a finished run to a repository of the hub, which is made if there is none.

    Args:
        folder: of the run.
        to: `org/name`.
        private: whether a new repository is private; one that is public is refused then.
        branch: is made if there is none.
        base_model: hub id of the base; "": as the run's recipe or its base says.
        licence: identifier as the hub knows it; "": that of the base, where its card tells it.
        with_outputs: whether texts of data and answers go along.
        message: of the commit; "": says which run it is.
        dry_run: prepare and check all of it, and send nothing.
        reporter: is told what happens.

    Raises:
        UsageError: no name of a repository, or of a base.
        StoreError: the run is not finished, was changed or damaged, or its card cannot be used.
        LingraftError: the hub refuses, or cannot be reached.
    """
    for text in (to, *filter(None, [base_model])):
        if not re.fullmatch(HUB_ID, text):
            raise UsageError(f"{text!r} is no name of the hub; give the owner and the name: org/name")
    if not dry_run:
        _refuse_without_token(to)
    run = open_run(folder)
    recipe, scorecard = load_recipe(str(folder)), read_scorecard(run)
    graft = checked_graft(run)
    info = read_info(graft)
    values = recipe.model_dump(mode="json", exclude_none=True)
    base = base_model or recipe.base_id or _public(info)
    card = card_of(
        (graft / CARD).read_text("utf-8"),
        to,
        base,
        {"license": licence} if licence else _known_licence(recipe.model, base),
        model_index(scorecard, recipe.headliners[-1], to.rpartition("/")[2]),
        info.method,
    )
    with _named(graft, info, base_model) as named, numbers(run, values) as collected:
        files = [*graft_files(named), *results(run, values, with_outputs=with_outputs), *collected]
        files.append(PushedFile(CARD, card.encode("utf-8")))
        refuse_paths(files, values, folder)
        pushed = Pushed(to, branch, {one.name: one.size for one in files}, card, _notes(card, files))
        if dry_run:
            return pushed
        return _sent(pushed, files, private, message or f"Lingraft: run {recipe.name}", reporter)


def _refuse_without_token(to: str) -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise LingraftError(f"cannot push to {to!r}: nobody is logged in to the hub; {LOG_IN} with the right to write")


def _public(info: GraftInfo) -> str:
    """Return the hub id of the base that a graft names, "" where it names none."""
    known = ALIASES[info.base_id].hub_id if info.base_id in ALIASES else info.base_id
    return known if re.fullmatch(HUB_ID, known) else ""


def _known_licence(model: str, base: str) -> dict[str, str]:
    """Return the licence of the base, as far as a card of it is on this machine."""
    places = [local_folder(name) for name in (model, base) if name]
    return next(
        (found for place in places if place and (found := base_license(model, place))), base_license(model, None)
    )


@contextmanager
def _named(graft: Path, info: GraftInfo, base_model: str) -> Iterator[Path]:
    """Yield the folder of a graft that names its base so; a copy, where it names it otherwise."""
    if base_model in ("", info.base_id):
        yield graft
        return
    with tempfile.TemporaryDirectory(prefix="lingraft-push-") as place:
        copy = Path(place) / "graft"
        shutil.copytree(graft, copy, symlinks=True, ignore=shutil.ignore_patterns(ADAPTER[1]))
        (copy / ADAPTER[1]).symlink_to((graft / ADAPTER[1]).resolve())
        name_base(copy, base_model)
        write_info(copy, info.model_copy(update={"base_id": base_model}))
        yield copy


def _notes(card: str, files: Sequence[PushedFile]) -> list[str]:
    front = card.split("\n---\n")[0]
    names = {one.name for one in files}
    notes = []
    if "\nbase_model:" not in front:
        notes.append("the card names no base, and the hub shows the graft beside none; give --base-model org/name")
    if "\nlicense:" not in front:
        notes.append("the licence of the base is not known here, and the card names none; give --license, such as mit")
    if REPORT not in names:
        notes.append(f"{REPORT} is of a version that does not tell texts from results, and is left out")
    if names & set(TEXTS):
        notes.append("texts of your test sets and what the models wrote go along")
    return notes


def _sent(pushed: Pushed, files: Sequence[PushedFile], private: bool, message: str, reporter: Reporter) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    name, branch = pushed.repository, pushed.branch
    api = HfApi()
    try:
        with _bars(reporter):
            url = str(api.create_repo(name, private=private or None, exist_ok=True))
            if private and not api.repo_info(name).private:
                raise StoreError(f"{name} is public; make it private on its page, or push without --private")
            if branch != MAIN:
                api.create_branch(name, branch=branch, exist_ok=True)
            head = api.repo_info(name, revision=branch).sha
            removed = _left_over(api, name, branch, {one.name for one in files})
            reporter.say(f"Pushing {len(files)} files, {sum(pushed.files.values()) / 1e6:,.1f} MB, to {name}")
            operations: list[Any] = [CommitOperationAdd(one.name, _content(one)) for one in files]
            operations += [CommitOperationDelete(path) for path in removed]
            made = api.create_commit(name, operations, commit_message=message, revision=branch, parent_commit=head)
    except LingraftError:
        raise
    except Exception as error:  # of whichever HTTP library the client of this version uses; they share no base
        raise LingraftError(_refusal(error, HubName(name, branch))) from error
    return replace(pushed, removed=removed, url=url, commit=made.oid)


def _content(file: PushedFile) -> bytes | str:
    return file.content if isinstance(file.content, bytes) else str(file.content.resolve())


def _left_over(api: HfApi, name: str, branch: str, names: set[str]) -> list[str]:
    """Return the files of an earlier push that this one has not.

    Raises:
        StoreError: something else than a graft lies in the repository.
    """
    there = api.list_repo_files(name, revision=branch)
    if "lingraft.json" not in there and (odd := next((one for one in there if _is_weights(one)), "")):
        raise StoreError(f"{name} holds something else, with the weights {odd}; push to a repository of its own")
    return [one for one in there if one not in names and any(fnmatch(one, form) for form in _OWN)]


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".gguf", ".pt", ".pth"))


def _refusal(error: Exception, name: HubName) -> str:
    """Return in one sentence why the hub took nothing."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (409, 412):
        return f"cannot push to {name.repository!r}: somebody else has pushed there meanwhile; push again"
    if "Invalid metadata" in str(error):
        said = "; ".join(line.strip("- ") for line in str(error).splitlines()[1:] if line.strip())
        return f"cannot push to {name.repository!r}: the hub does not take the card ({said[:300]}); mend README.md"
    reason, remedy = why_not(error, name)
    return f"cannot push to {name.repository!r} ({reason or first_line(error)}); {remedy}"


@contextmanager
def _bars(reporter: Reporter) -> Iterator[None]:
    """Let the hub's client draw its bars unless nothing is to be shown."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not reporter.quiet or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
