"""Stage `data`: read, check, mix and freeze the run's rows. Later stages read its artefact, never the files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError
from lingraft.core.hashing import list_hash
from lingraft.core.progress import Task as ProgressTask
from lingraft.core.tasks import Task
from lingraft.data.file_checks import check_test_rows
from lingraft.data.overlap import OverlapIndex, refuse_test_set
from lingraft.data.pair_checks import CheckTally, Duplicates, check_pairs, enforce_limit
from lingraft.data.readers import PairSource, read_pairs, read_prompts
from lingraft.data.records import Pair, Prompt, Rejected, Text
from lingraft.data.remarks import Remarks
from lingraft.data.sampling import by_direction, sample_mixture, split_sources
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.dev_set import held_back, read_dev, take_share
from lingraft.pipeline.lengths import Room
from lingraft.pipeline.metrics import check_selecting, open_metrics
from lingraft.pipeline.prompt_sources import fingerprints, halves_by_source, prompts_read, refuse_too_few
from lingraft.pipeline.sources import fingerprint, open_once, read_test_rows
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import SystemPlan
from lingraft.rendering.renderer import Renderer
from lingraft.store.files import line_writer, read_lines, write_json, write_lines
from lingraft.store.record_files import RecordFile
from lingraft.translation.markers import Markers

LAYOUT = 4
"""Of the artefact's files, and of how rows are read: one of another layout is made anew."""

BATCH = 256  # pairs whose tokens are counted at once

UNMEASURED = "unmeasured.jsonl"
"""Rows of test sets beyond their limits."""

Reject = Callable[[str, Rejected], None]
"""Is given the path of a source, as the recipe has it, and a row of it that is not used."""


@dataclass(frozen=True)
class PreparedTestSet:
    """One test set of a run. `key` is unique in the run and safe in file names; `task`: what its metrics measure."""

    key: str
    name: str
    pairs: list[Pair]
    task: Task = "translation"


@dataclass(frozen=True)
class OwnVocabulary:
    """The extended vocabulary of a run, and the renderer of its tokenizer."""

    vocabulary: Vocabulary
    renderer: Renderer

    @property
    def folder(self) -> Path:
        """Of its artefact."""
        return self.vocabulary.folder

    @property
    def markers(self) -> Markers:
        """The markers among its tokens."""
        return self.vocabulary.markers


@dataclass(frozen=True, kw_only=True)
class Data:
    """The prepared rows; training pairs, prompts for replay and rejected rows are read from the disk when asked for.

    `counts`: file -> reason -> rejected rows; `rows_read`: file -> rows; `directions`: trained, in order of appearance.
    `amounts`: of each direction its pairs and the tokens of their targets; none in what an older version has read.
    `prompt_counts`: of several sources of prompts, those of each for replay and held out.
    `unmeasured`: rows of test sets beyond their limits, and all of the development set, which must not be trained on
    either. `dev`, `dev_prompts`: what training is measured on while it goes on.
    `texts`, `heldout`: documents to pre-train on, and others to measure on. `vocabulary`: the extended one, if any.
    `held_out`: whether a text shares a whole text or a long run of words with what is measured, once that is known.
    """

    folder: Path
    train: Sequence[Pair]
    tests: list[PreparedTestSet]
    replay: Sequence[Prompt]
    retention: list[Prompt]
    rejected: Sequence[Rejected]
    counts: dict[str, dict[str, int]]
    rows_read: dict[str, int]
    directions: list[tuple[str, str]]
    amounts: Sequence[tuple[int, int]] = ()
    prompt_counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    unmeasured: Sequence[Pair] = ()
    dev: Sequence[Pair] = ()
    dev_prompts: Sequence[Prompt] = ()
    texts: Sequence[Text] = ()
    heldout: Sequence[Text] = ()
    texts_folder: Path | None = None
    vocabulary: OwnVocabulary | None = None
    held_out: Callable[[str], bool] | None = None

    @property
    def dev_hash(self) -> str:
        """What is measured while training goes on."""
        return list_hash(one.to_dict() for one in (*self.dev, *self.dev_prompts))[0]

    def vocabulary_of(self, system: SystemPlan) -> OwnVocabulary | None:
        """Return the extended vocabulary, if the system has it."""
        return self.vocabulary if system.vocabulary else None

    def renderer_of(self, context: Context, system: SystemPlan) -> Renderer:
        """Return the renderer of a system's tokenizer."""
        own = self.vocabulary_of(system)
        return own.renderer if own else context.renderer

    @property
    def languages(self) -> list[str]:
        """All languages of the run."""
        return sorted({code for direction in {*self.directions, *self.tested} for code in direction})

    @property
    def tested(self) -> list[tuple[str, str]]:
        """The directions of the test sets of natural languages, in order of appearance."""
        tests = [test for test in self.tests if test.task != "code"]
        return list(dict.fromkeys((pair.source_lang, pair.target_lang) for test in tests for pair in test.pairs))


def _files(recipe: Recipe) -> dict[str, Any]:
    return {
        "train": [fingerprint(source) for source in recipe.pairs.train],
        "test": [fingerprint(source) for source in recipe.pairs.test],
        "prompts": fingerprints(recipe.prompts or ()),
        **({"dev": [fingerprint(source) for source in recipe.pairs.dev]} if recipe.pairs.dev else {}),
        **({"dev_both": True} if any(source.both_directions for source in recipe.pairs.dev) else {}),
        **({"dev_share": recipe.pairs.dev_share} if recipe.pairs.dev_share else {}),
    }


def prepare(context: Context) -> Data:
    """Return the run's checked rows.

    Raises:
        DataError: too many rows are bad (they are in `rejected.jsonl` of the run), nothing is left, or the
            test set is the training set.
    """
    recipe = context.recipe
    open_once([*recipe.pairs.train, *recipe.pairs.test, *recipe.pairs.dev], read_pairs)
    open_once(recipe.prompts or (), read_prompts)
    open_metrics(recipe)  # one that cannot measure a test set is told before hours of training
    check_selecting(recipe)
    files, room = _files(recipe), _room(context)
    inputs = {
        **files,
        "mixture": recipe.pairs.mixture,
        **({"direction_weights": weights} if (weights := recipe.pairs.direction_weights) else {}),
        "checks": recipe.checks.model_dump(mode="json"),
        "tokenizer": context.files.sha256,
        **({"room": room.identity} if room else {}),
        "seed": recipe.seed,
        "layout": LAYOUT,
    }

    def build(path: Path) -> dict[str, Any]:
        facts = _build(context, room, path)
        if _files(recipe) != files:
            raise DataError("a data file changed while it was read; run the same command again when it is complete")
        return facts

    folder = context.artefact("data", inputs, build)
    return _load(folder, recipe)


def test_key(index: int, source: PairSource) -> str:
    """Return the short unique name of a test set."""
    return f"test{index}-{source.source}-{source.target}"


def _build(context: Context, room: Room | None, folder: Path) -> dict[str, Any]:
    recipe = context.recipe
    counts: dict[str, Counter[str]] = {}
    rows_read: dict[str, int] = {}
    with line_writer(folder / "rejected.jsonl") as write:

        def reject(path: str, item: Rejected) -> None:
            counts.setdefault(path, Counter())[item.reason] += 1
            write(item.to_json())

        index = _freeze_tests(context, folder, reject, rows_read)
        dev = read_dev(context, index, reject, rows_read)
        accepted, failures = _check_sources(context, folder, index, reject, rows_read)
        if recipe.pairs.dev_share and not failures:
            dev, accepted = take_share(recipe.pairs.dev_share, accepted, recipe.seed, reject)
        sources = recipe.prompts or []
        prompts: list[list[Prompt]] = [[] for _ in sources]
        for number, row in prompts_read(sources, room):
            path = sources[number].path
            rows_read[path] = rows_read.get(path, 0) + 1
            if isinstance(row, Rejected):
                reject(path, row)
            else:
                prompts[number].append(row)
    write_lines(context.root / "rejected.jsonl", read_lines(folder / "rejected.jsonl"))
    if failures:
        raise failures[0]
    amounts: dict[tuple[str, str], list[int]] = {}
    mixture = sample_mixture(accepted, recipe.pairs.mixture, recipe.seed)
    weighted = by_direction(mixture, recipe.pairs.direction_weights, recipe.seed)
    counted = _counted(weighted, context.renderer.count_many, amounts)
    trained = write_lines(folder / "train.jsonl", (pair.to_json() for pair in counted))
    if recipe.pairs.direction_weights and not trained:
        raise DataError("pairs.direction_weights leave no training pair; raise them, or give more pairs")
    for _, rows in accepted:
        rows.path.unlink()
    halves = split_sources(prompts, recipe.seed)
    usable = list(map(len, prompts))
    refuse_too_few(sources, usable, len(halves.retention), counts, context.place("rejected.jsonl"))
    replay, dev_prompts = halves.replay, list[Prompt]()
    if recipe.pairs.has_dev:
        replay, dev_prompts = held_back(halves.replay)
        write_lines(folder / "dev.jsonl", (pair.to_json() for pair in dev))
        write_lines(folder / "dev-prompts.jsonl", (prompt.to_json() for prompt in dev_prompts))
        tested = list(read_lines(folder / UNMEASURED))
        write_lines(folder / UNMEASURED, [*tested, *(pair.to_json() for pair in dev)])
    write_lines(folder / "replay.jsonl", (prompt.to_json() for prompt in replay))
    write_lines(folder / "retention.jsonl", (prompt.to_json() for prompt in halves.retention))
    facts = {
        "counts": {file: dict(counter) for file, counter in counts.items() if counter},
        "rows_read": rows_read,
        "tests": [[test_key(i, source), source.name] for i, source in enumerate(recipe.pairs.test)],
        "pairs": trained,
        "directions": [list(direction) for direction in amounts],
        "amounts": list(amounts.values()),
        **({"prompts": shares} if (shares := halves_by_source(sources, prompts, halves)) else {}),
    }
    write_json(folder / "counts.json", facts)
    return {"pairs": trained}


def _counted(
    pairs: Iterator[Pair], count_tokens: Callable[[list[str]], list[int]], amounts: dict[tuple[str, str], list[int]]
) -> Iterator[Pair]:
    """Pass pairs on, and count for each direction its pairs and the tokens of their targets."""
    while batch := list(islice(pairs, BATCH)):
        for pair, tokens in zip(batch, count_tokens([pair.target for pair in batch]), strict=True):
            amount = amounts.setdefault((pair.source_lang, pair.target_lang), [0, 0])
            amount[0] += 1
            amount[1] += tokens
        yield from batch


def _freeze_tests(context: Context, folder: Path, reject: Reject, rows_read: dict[str, int]) -> OverlapIndex:
    """Write the test sets, and return what must not be trained on."""
    index = OverlapIndex()
    with line_writer(folder / UNMEASURED) as keep:
        for i, source in enumerate(context.recipe.pairs.test):
            pairs: list[Pair] = []
            refused, remarks = 0, Remarks()
            rows = read_test_rows(source, remarks)
            limits = context.recipe.checks
            if source.task == "code":  # no natural language is looked for
                limits = limits.model_copy(update={"language_check": False})
            for item in check_test_rows(
                rows, limits, file=source.path, remark=lambda text: context.reporter.say(f"Note: {text}")
            ):
                if isinstance(item, Rejected):
                    reject(source.path, item)
                    refused += 1
                    continue
                index.add(item)  # rows beyond the limit too: they are test data all the same
                if source.limit is None or len(pairs) < source.limit:
                    pairs.append(item)
                else:
                    keep(item.to_json())
            if not pairs:
                raise DataError(f"{source.path}: the test set has no usable row")
            _say_remarks(context, source, remarks)
            rows_read[source.path] = rows_read.get(source.path, 0) + len(pairs) + refused
            write_lines(folder / f"{test_key(i, source)}.jsonl", (pair.to_json() for pair in pairs))
    return index


def _check_sources(
    context: Context,
    folder: Path,
    index: OverlapIndex,
    reject: Reject,
    rows_read: dict[str, int],
) -> tuple[list[tuple[PairSource, RecordFile[Pair]]], list[DataError]]:
    """Write the accepted pairs of each training source; return them, and why sources as a whole cannot be used."""
    recipe, limits = context.recipe, context.recipe.checks
    names = ", ".join(source.path for source in [*recipe.pairs.test, *recipe.pairs.dev])
    seen = Duplicates()
    accepted: list[tuple[PairSource, RecordFile[Pair]]] = []
    failures: list[DataError] = []
    for i, source in enumerate(recipe.pairs.train):
        tally, path = CheckTally(), folder / f"accepted-{i}.jsonl"
        remarks = Remarks()
        with context.reporter.task(f"reading {source.name}", source.limit or 0) as task, line_writer(path) as write:
            rows = check_pairs(
                read_pairs(source, remarks=remarks),
                limits,
                file=source.path,
                count_tokens=context.renderer.count_many,
                overlap=index,
                seen=seen,
                overview=tally.overview,
            )
            for item in _until(rows, source.limit, task):
                tally.add(item)
                if isinstance(item, Rejected):
                    reject(source.path, item)
                else:
                    write(item.to_json())
        rows_read[source.path] = rows_read.get(source.path, 0) + tally.rows
        _say_remarks(context, source, remarks)
        try:
            refuse_test_set(tally.rejected["overlap_with_test"], tally.rows, source.path, names)
            enforce_limit(tally, limits, source.path, context.place("rejected.jsonl"))
        except DataError as error:
            failures.append(error)
        accepted.append((source, RecordFile(path, Pair)))
    return accepted, failures


def _say_remarks(context: Context, source: PairSource, remarks: Remarks) -> None:
    for remark in remarks.sentences(source.inline_codes):
        context.reporter.say(f"Note: {source.path}: {remark}")


def _until(rows: Iterator[Pair | Rejected], limit: int | None, task: ProgressTask) -> Iterator[Pair | Rejected]:
    """Pass rows on until `limit` are accepted."""
    accepted = 0
    for item in rows:
        yield item
        accepted += not isinstance(item, Rejected)
        task.update(accepted)
        if accepted == limit:
            return


def _room(context: Context) -> Room | None:
    """Return what says which general prompts can be asked, None where the recipe has none."""
    recipe = context.recipe
    if recipe.prompts is None:
        return None
    return Room.of(recipe, context.renderer, context.longest)


def _load(folder: Path, recipe: Recipe) -> Data:
    tasks = [source.task for source in recipe.pairs.test]
    facts = json.loads((folder / "counts.json").read_text("utf-8"))
    return Data(
        folder=folder,
        train=RecordFile(folder / "train.jsonl", Pair),
        tests=[
            PreparedTestSet(key, name, list(RecordFile(folder / f"{key}.jsonl", Pair)), task)
            for (key, name), task in zip(facts["tests"], tasks, strict=True)
        ],
        replay=RecordFile(folder / "replay.jsonl", Prompt),
        retention=list(RecordFile(folder / "retention.jsonl", Prompt)),
        rejected=RecordFile(folder / "rejected.jsonl", Rejected),
        counts=facts["counts"],
        rows_read=facts["rows_read"],
        directions=[(source, target) for source, target in facts["directions"]],
        amounts=[(pairs, tokens) for pairs, tokens in facts.get("amounts", ())],
        prompt_counts=facts.get("prompts", {}),
        unmeasured=RecordFile(folder / UNMEASURED, Pair),
        dev=list(RecordFile(folder / "dev.jsonl", Pair)) if (folder / "dev.jsonl").exists() else (),
        dev_prompts=list(RecordFile(folder / "dev-prompts.jsonl", Prompt)) if (folder / "dev.jsonl").exists() else (),
    )
