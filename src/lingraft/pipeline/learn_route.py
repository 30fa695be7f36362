"""A decider for a graft that is trained already: learnt from pairs and prompts, measured on requests that it was not
built for, and stored with the graft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.figures import interval, number
from lingraft.core.hashing import HashSet
from lingraft.core.progress import Reporter
from lingraft.core.strangers import copy_folder
from lingraft.data.labelled_requests import LabelledRequest, read_labelled
from lingraft.data.pair_checks import CheckLimits, CheckTally, Duplicates, check_pairs, enforce_limit
from lingraft.data.readers import PairSource, PromptFile, read_pairs
from lingraft.data.records import Pair, Prompt, Rejected, Request, Sampling
from lingraft.data.sampling import split_sources
from lingraft.evaluation.routing import routing_errors
from lingraft.models.files import ModelFiles
from lingraft.models.graft import GraftInfo, find_base, graft_renderer, read_info
from lingraft.models.graft_names import graft_folder, hub_graft
from lingraft.models.loading import load_model
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.prompt_sources import prompts_read
from lingraft.pipeline.sources import own_id
from lingraft.routing.base import DECIDERS, NO_ROUTE, Decider, Lessons, RouteInputs
from lingraft.routing.states import prompt_states
from lingraft.routing.stored import write_route
from lingraft.statistics.bootstrap import wilson_interval
from lingraft.store.publishing import added_to, new_folder, refuse_existing

MOST_PAIRS = 20_000
"""Of each file that are read; a classifier learns from some hundred of them, drawn by their ids."""
ERRORS = {"error": "all", "to_graft": "for the base, sent to the graft", "to_base": "for the graft, sent to the base"}


@dataclass(frozen=True, kw_only=True)
class RouteError:
    """How many requests of a kind went to the wrong model, in percent, with the ends of Wilson's 95 % interval."""

    percent: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class LearntRoute:
    """A decider that is stored with a graft.

    Attributes:
        folder: of the graft.
        by: name of the decider.
        facts: figures of its learning.
        errors: `error` of all requests, `to_graft` of those that are for the base, `to_base` of those for the graft,
            and those of each kind; none of a decider that does not guess.
    """

    folder: str
    by: str
    facts: Mapping[str, Any]
    errors: Mapping[str, RouteError]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        learnt = self.facts
        text = f"{self.folder}: decider {self.by!r}"
        if "translations" in learnt:
            text += (
                f", learnt from {learnt['translations']:,} requests for translations and {learnt['others']:,} others"
            )
        lines = [text]
        if self.errors:
            lines.append("Sent to the wrong model, of requests in words that it was not built for:")
        for name, label in ERRORS.items():
            if one := self.errors.get(name):
                share = f"{number(one.percent)} % {interval((one.low, one.high))} of {one.n}"
                lines.append(f"  {label:<32} {share}")
        return "\n".join(lines)


def learn_route(
    graft: str,
    *,
    pairs: Sequence[PairSource],
    prompts: Sequence[PromptFile],
    by: str,
    params: Mapping[str, Any],
    requests: str,
    base: str | None,
    out: Path | None,
    seed: int,
    reporter: Reporter,
) -> LearntRoute:
    """Let a decider learn when to ask a graft, measure it, and store it with the graft.

    Args:
        graft: its folder, that of its run, or its name on the hub.
        pairs: files of pairs like those that it was trained on.
        prompts: files of general prompts; it learns from the half that a run with this seed replays, so that the half
            by which such a run measures what is kept stays unseen.
        by: name of the decider.
        params: of the decider.
        requests: file of requests with the routes that they should take, by which it is measured.
        base: of the graft, if it is not where it was.
        out: folder for a copy of the graft, which gets the decider; None: the graft's own folder gets it.
        seed: of what is drawn.
        reporter: shows progress.

    Raises:
        UsageError: an unknown decider or parameter, nothing to learn from, a graft that cannot be routed to, one of
            the hub without `out`, or `out` exists.
        DataError: a file cannot be read, or too many of its rows are bad.
        ModelError: no graft, or another base.
        StoreError: it cannot be written.
    """
    decider = DECIDERS.create({**params, "kind": by})
    if out is not None:
        refuse_existing(out)
    elif hub_graft(graft) is not None:
        raise UsageError(f"{graft} is a graft of the hub, whose copy here is not changed; give --out FOLDER")
    folder = graft_folder(graft)
    info = read_info(folder)
    if info.chat == "tcot" or Vocabulary.in_folder(folder) is not None:
        raise UsageError(f"the graft {folder} cannot be routed to: {NO_ROUTE}")
    if decider.learns and not pairs:
        raise UsageError(f"the decider {by!r} learns from pairs, and there are none; give some of those trained on")
    labelled = read_labelled(requests) if decider.guesses else []
    files = find_base(info, folder, base)
    lessons = _lessons(pairs, prompts, seed) if decider.learns else None
    inputs = _inputs(files, folder, info, reporter)
    facts: dict[str, Any] = {}
    names = [f"route-{decider.name}.safetensors", f"route-{decider.name}.json"]
    # The place is taken first: what cannot be written is told before minutes of reading.
    with new_folder(out) if out is not None else added_to(folder, names) as partial:
        if lessons is not None:
            with reporter.working(f"reading {len(lessons.pairs):,} pairs and {len(lessons.prompts):,} prompts"):
                facts = decider.learn(lessons, inputs)
        errors = _errors(decider, labelled, inputs, reporter)
        if out is not None:
            copy_folder(folder, partial)
        write_route(partial, decider, [info.instruction], info.base_sha256, facts)
    return LearntRoute(folder=str(out or folder), by=decider.name, facts=facts, errors=errors)


def _lessons(pairs: Sequence[PairSource], prompts: Sequence[PromptFile], seed: int) -> Lessons:
    read: list[list[Prompt]] = [[] for _ in prompts]
    for place, row in prompts_read(prompts, None):
        if not isinstance(row, Rejected):
            read[place].append(row)
    found: list[Pair] = []
    seen, taken = Duplicates(), HashSet()
    for source in pairs:
        found += [replace(one, id=own_id(one.id, source.name, taken)) for one in _pairs(source, seen)]
    return Lessons(pairs=found, prompts=split_sources(read, seed).replay, seed=seed)


def _pairs(source: PairSource, seen: Duplicates) -> list[Pair]:
    limits, tally, found = CheckLimits(), CheckTally(), list[Pair]()
    most = min(MOST_PAIRS, source.limit or MOST_PAIRS)
    for item in check_pairs(read_pairs(source), limits, file=source.path, seen=seen, overview=tally.overview):
        tally.add(item)
        if isinstance(item, Pair):
            found += [item, item.reversed()] if source.both_directions else [item]
        if tally.accepted == most:
            break
    enforce_limit(tally, limits, source.path, "what `lingraft check` shows")
    return found


def _inputs(files: ModelFiles, folder: Path, info: GraftInfo, reporter: Reporter) -> RouteInputs:
    """Return how the graft is asked, and the base's states; the base is loaded when they are first asked for."""
    loaded: list[Any] = []

    def states(requests: Sequence[Request]) -> Any:
        if not loaded:
            reporter.say(f"Loading {files.name}")
            loaded.append(load_model(files, renderer=graft_renderer(files, folder)))
        return prompt_states(loaded[0], requests)

    return RouteInputs(wordings=[info.instruction], states=states)


def _errors(
    decider: Decider, labelled: Sequence[LabelledRequest], inputs: RouteInputs, reporter: Reporter
) -> dict[str, RouteError]:
    if not labelled:
        return {}
    with reporter.working(f"routing {len(labelled):,} requests"):
        asked = [Request(one.id, one.messages, Sampling()) for one in labelled]
        routes = decider.decide(asked, inputs)
    found = {}
    for row in routing_errors(labelled, dict(zip([one.id for one in labelled], routes, strict=True)), ""):
        wrong, n = sum(row.values.values()), len(row.values)
        low, high = wilson_interval(wrong, n)
        found[row.metric] = RouteError(percent=100 * wrong / n, low=100 * low, high=100 * high, n=n)
    return found
