"""What a run will do and cost: the dry run.

Counts come from the user's own files where they are at hand, else from the recipe's `expected:` section; tokens from
the base's tokenizer where it is at hand, else from a rate. Times are floors from arithmetic (the tuner's floating-point
operations per parameter and token), not promises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from lingraft.core.errors import DataError
from lingraft.core.figures import duration
from lingraft.data.corpora import needs_network, not_fetched
from lingraft.data.file_checks import check_test_rows
from lingraft.data.pair_checks import CheckLimits, CheckTally, enforce_limit
from lingraft.data.readers import PairSource, directions_of, read_pairs
from lingraft.data.records import Pair, Rejected
from lingraft.data.sampling import Mode, mixture_counts
from lingraft.pipeline.dry_run_decoders import decoder_lines
from lingraft.pipeline.dry_run_development import DevPlan
from lingraft.pipeline.dry_run_device import (
    Size,
    device_of,
    generation_hours,
    memory_gib,
    room,
    size_of,
    verdict,
    weights_gib,
)
from lingraft.pipeline.dry_run_judges import JudgeEstimate
from lingraft.pipeline.dry_run_prompts import Documents, Prompts, Ruler
from lingraft.pipeline.dry_run_routes import route_lines
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.dry_run_stages import Line, StagePlan
from lingraft.pipeline.judged_metrics import judged_metrics
from lingraft.recipe.asking import wording_of_run
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.files import check_files, doubts, missing_parts
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tasks import reported_metrics
from lingraft.suites.base import SUITES, AtHand

LEAST_STEPS = 20
"""Optimiser steps that `tune` gives a training at least, where the data allows it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The dry run's figures. Memory in GiB, for the largest stage."""

    pairs: int
    measured: bool
    lines: list[Line]
    memory_gib: float
    weights_gib: float
    judges: list[JudgeEstimate] = field(default_factory=list)
    device: str = ""
    fits: str = ""
    hours_beside: float = 0.0
    size: Size | None = None
    prompts: str = ""

    @property
    def hours(self) -> float:
        """Hours of all stages together; what loads, checks, hashes and scores comes beside them."""
        return sum(line.hours for line in self.lines)


def _pairs(
    sources: Sequence[PairSource],
    limits: CheckLimits,
    weights: Mapping[str, float] | None = None,
    tests: bool = False,
    mixture: Mode = "proportional",
) -> tuple[int, list[Pair]]:
    """Return the number of pairs, each direction counted by its weight, and the first rows of each file.

    Args:
        sources: of the pairs.
        limits: of the checks.
        weights: direction -> share of its pairs that is used; all of those that are not named.
        tests: whether they are measured on.
        mixture: of the sources.

    Raises:
        DataError: these rows look swapped, or otherwise not like the pairs that are declared; or a balanced mixture has
            a source without any.
    """
    counts, sample = list[int](), list[Pair]()
    for source in sources:
        rows, tally = read_pairs(source), CheckTally()
        first = [row for row in islice(rows, 2000) if not isinstance(row, Rejected)]
        good = [row.record for row in first]
        if tests:
            list(check_test_rows(good, limits, file=source.path))
        else:
            tally.overview.add(first, limits.language_check)
            enforce_limit(tally, limits, source.path)
        count = len(good)
        if count and (source.limit is None or source.limit > count):
            count += sum(not isinstance(row, Rejected) for row in rows)
        if source.limit:
            count = min(count, source.limit)
        counts.append(count)
        sample += good[: source.limit]
    pairs = 0.0
    for source, used in zip(sources, mixture_counts(list(zip(sources, counts, strict=True)), mixture), strict=True):
        ways = directions_of([source])
        pairs += sum(used / len(ways) * (weights or {}).get("-".join(way), 1.0) for way in ways)
    return round(pairs), sample


def _at_most(expected: int, sources: Sequence[PairSource]) -> int:
    """Return how many of the expected pairs there are at most, by the limits of their sources."""
    limits = [source.limit * (2 if source.both_directions else 1) for source in sources if source.limit]
    return min(expected, sum(limits)) if len(limits) == len(sources) else expected


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a run works on: rows, and how long they are.

    Attributes:
        pairs: to train on.
        dev: pairs of the development set.
        segments: of all test sets.
        request: tokens of a mean pair as an example, up to the reference.
        answer: tokens of a mean reference.
        prompts: general prompts.
        documents: to pre-train on.
        measured: whether all that was counted, and not expected.
        ruler: by which it was measured.
    """

    pairs: int
    dev: int
    segments: int
    request: float
    answer: float
    prompts: Prompts
    documents: Documents
    measured: bool
    ruler: Ruler


DECIDES_COUNTS = {
    *("model", "revision", "template", "vocabulary", "expected"),
    *("pairs", "checks", "texts", "text_checks", "prompts"),
}
"""Keys of a recipe that decide what is counted, beside the words in which translations are asked for."""


def counted(recipe: Recipe, shared: Shared | None = None) -> Counts:
    """Return what is in a recipe's files, or what it expects where they are on the hub.

    Args:
        recipe: of a run.
        shared: with recipes counted before, so that files are read once; None: nothing.

    Raises:
        DataError: neither the data nor an `expected:` section is at hand; or as `check_files`.
    """
    check_files(recipe)
    shared = shared or Shared()
    inputs = [recipe.model_dump(mode="json", include=DECIDES_COUNTS), wording_of_run(recipe)]
    return shared.once("counts", inputs, partial(_counted, recipe, shared))


def _counted(recipe: Recipe, shared: Shared) -> Counts:
    expected = recipe.expected
    sources = [*recipe.pairs.train, *recipe.pairs.test, *recipe.pairs.dev]
    local = not any(needs_network(source.path, source.source, source.target) for source in sources)
    ruler = Ruler.of(recipe, shared)
    if local:
        if recipe.pairs.train:
            shares, mixture = recipe.pairs.direction_weights, recipe.pairs.mixture
            pairs, sample = _pairs(recipe.pairs.train, recipe.checks, shares, mixture=mixture)
        else:
            _, sample = _pairs(recipe.pairs.test, recipe.checks)
            pairs = 0
        request, answer = ruler.pairs(sample, wording_of_run(recipe))
        dev = _pairs(recipe.pairs.dev, recipe.checks, tests=True)[0] if recipe.pairs.dev else 0
        segments = sum(_pairs([test], recipe.checks, tests=True)[0] for test in recipe.pairs.test)
    elif expected:
        pairs, segments = _at_most(expected.pairs, recipe.pairs.train), expected.test_segments
        segments, answer = _at_most(segments, recipe.pairs.test), expected.supervised_tokens
        dev = _at_most(segments, recipe.pairs.dev) if recipe.pairs.dev else 0  # taken to be as large as the tests
        request = expected.pair_tokens - expected.supervised_tokens
    else:
        unfetched = filter(None, (not_fetched(source.path, source.source, source.target) for source in sources))
        absent = next(unfetched, "the data is on the hub")
        raise DataError(f"{absent}; add an `expected:` section to the recipe for the estimates")
    if recipe.pairs.dev_share:
        dev = round(recipe.pairs.dev_share * pairs)
        pairs -= dev
    return Counts(
        pairs=pairs,
        dev=dev,
        segments=segments,
        request=request,
        answer=answer,
        prompts=Prompts.of(recipe, ruler),
        documents=Documents.of(recipe, ruler),
        measured=local,
        ruler=ruler,
    )


def estimate(
    recipe: Recipe, gpu: str | None = None, counts: Counts | None = None, shared: Shared | None = None
) -> Estimate:
    """Return tokens, time and memory of a recipe.

    Args:
        recipe: with data at hand, or an `expected:` section.
        gpu: name of the card to run on, see `lingraft.pipeline.dry_run_device.GPUS`; default: as `device_of`.
        counts: what it works on, where that is known; default: as `counted`.
        shared: as for `counted`.

    Raises:
        UsageError: an unknown card.
        DataError: as `counted`; or the size of the base is not known.
    """
    counts = counts or counted(recipe, shared)
    expected, size = recipe.expected, size_of(recipe)
    pairs, dev, segments, ruler = counts.pairs, counts.dev, counts.segments, counts.ruler
    request, answer = counts.request, counts.answer
    device = device_of(expected, gpu)
    if size is None:
        raise DataError(
            f"the size of {recipe.model} is not known; add an `expected:` section to the recipe, with `parameters`, "
            f"`hidden_size` and `layers`"
        )
    flops = device.flops
    lines: list[Line] = []
    prompts, documents = counts.prompts, counts.documents
    planned = StagePlan(
        pairs=pairs,
        request=request,
        answer=answer,
        prompts=prompts,
        texts=documents.tokens,
        size=size,
        flops=flops,
        dev=DevPlan(
            pairs=dev,
            prompts=prompts.dev,
            request=request,
            answer=answer,
            question=prompts.request,
            size=size,
            flops=flops,
        ),
    )
    for system in recipe.systems():
        for number in range(len(system.stages)):
            lines += planned.stage_lines(system, number)
    scaled = len(recipe.evaluate.scales) * len(recipe.headliners)
    evaluated = 1 + len(recipe.systems()) + len(recipe.grafts) + scaled + len(recipe.merges())
    through = sum(one.decoder.answers_questions for one in decoded_systems(recipe))
    evaluated += 2 * (through + bool(recipe.evaluate.translate_test))  # answers, and their translations
    answers, measured, judges = 0.0, 0.0, []
    at_hand = AtHand(prompts.held if recipe.prompts else 0, segments, documents.held)
    for suite in recipe.evaluate.retention.suites:
        opened = SUITES.create(suite)
        work = opened.workload(at_hand)
        if work is None:
            each = (suite.params.get("max_new_tokens") or 0) + (suite.params.get("kl_max_new_tokens") or 0)
            answers += 0.7 * (suite.params.get("max_prompts") or 0) * each
            continue
        answers += work.answer_tokens
        measured += work.likelihood_tokens
        if opened.judge is not None:
            judges.append(JudgeEstimate.of(suite, opened.judge, work, evaluated))
    translating = evaluated + len(decoded_systems(recipe))
    judges += [
        JudgeEstimate.of_metric(one, segments, request + 2 * answer, translating) for one in judged_metrics(recipe)
    ]
    written = evaluated * (segments * answer + answers)
    lines.append(
        Line(stage="decode, all systems", tokens=written, supervised=0, hours=generation_hours(written, size, flops))
    )
    lines += route_lines(recipe, ruler, segments, request, size, flops)
    lines += decoder_lines(recipe, segments, answer, size, flops, (pairs + dev + segments) * request)
    if measured:
        hours = 2 * size.parameters * evaluated * measured / flops / 3600
        lines.append(Line(stage="likelihood, all systems", tokens=evaluated * measured, supervised=0, hours=hours))
    weights = weights_gib(size, recipe.precision)
    beside = _hours_beside(weights, evaluated, len(lines)) + _merging_hours(recipe, size)
    memory, fits = memory_gib(recipe, size), verdict(recipe, size, device)
    trained = pairs if recipe.stages else 0
    return Estimate(
        pairs=trained,
        measured=counts.measured,
        lines=lines,
        memory_gib=memory,
        weights_gib=weights,
        judges=judges,
        device=device.name,
        fits=fits,
        hours_beside=beside,
        size=size,
        prompts=str(prompts) if recipe.prompts else "",
    )


def _hours_beside(weights: float, evaluated: int, stages: int) -> float:
    """Return what is no arithmetic on the model: imports, hashes, loading, tokenising, scoring, the report.

    40 s in all and 15 s a system are rounded from two timed runs of the embedded model on two cores, and on other
    machines no more than an order of magnitude. Weights are assumed to be read at 300 MiB a second, once to be hashed
    and once for each second stage.
    """
    return (40 + 15 * evaluated + (1 + stages / 2) * weights * 1024 / 300) / 3600


def _merging_hours(recipe: Recipe, size: Size) -> float:
    """Return what merging takes: each model and the base are read, the result is written, and read again to be compared
    with the base beside it, as above at 300 MiB a second of float32."""
    read = sum(len(plan.of) + 4 for plan in recipe.merges())
    return read * 4 * size.parameters / 1024**2 / 300 / 3600


def fitting_tokens_per_step(recipe: Recipe) -> int | None:
    """Return tokens a step with which the training of each system has at least `LEAST_STEPS` steps.

    None where its own give as many, or the data is not at hand. A power of two, at least 128: gradients of fewer tokens
    are noise.
    """
    try:
        lines = [line for line in estimate(recipe).lines if line.steps]
    except DataError:
        return None
    own = min((stage.train.tokens_per_step for stage in recipe.stages), default=0)
    least = min((line.tokens for line in lines), default=0.0)
    if not least or least >= own * LEAST_STEPS:
        return None
    fits = max(128, 1 << int(math.log2(max(1.0, least / LEAST_STEPS))))
    return fits if fits < own else None


def describe(
    recipe: Recipe,
    folder: Path,
    tried: Sequence[str] = (),
    gpu: str | None = None,
    result: Estimate | None = None,
) -> str:
    """Return the dry run's text.

    Args:
        recipe: as for `estimate`.
        folder: of the run.
        tried: what trying to train has shown, in lines.
        gpu: as for `estimate`.
        result: the estimate, where it is known.
    """
    result = result or estimate(recipe, gpu)
    taught = recipe.pairs.train if recipe.stages else []
    directions = sorted("-".join(way) for way in directions_of(taught or recipe.pairs.test))
    origin = "counted in the files" if result.measured else "from the recipe's `expected:` section"
    trained = f"{result.pairs:,} training pairs ({origin})" if taught else "no training pairs"
    width = max(18, *(len(line.stage) for line in result.lines))
    reported = dict.fromkeys(metric.label for _, _, metric in reported_metrics(recipe))
    out = [
        f"{recipe.name}: {recipe.model}, engine {recipe.engine.kind}, output in {folder}",
        f"{trained}; {'' if taught else 'tested '}directions {', '.join(directions)}",
        *([result.prompts] if result.prompts else []),
        "",
        f"{'stage':{width}}  {'tokens':>14}  {'supervised':>14}  {'steps':>7}  {'time':>8}",
    ]
    for line in result.lines:
        supervised = f"{line.supervised:,.0f}" if line.supervised else "-"
        steps = f"{line.steps:,}" if line.steps else "-"
        figures = f"{line.tokens:14,.0f}  {supervised:>14}  {steps:>7}  {duration(3600 * line.hours):>8}"
        out.append(f"{line.stage:{width}}  {figures}  {line.note}".rstrip())
    out.append(
        f"{'load, check, score':{width}}  {'-':>14}  {'-':>14}  {'-':>7}  {duration(3600 * result.hours_beside):>8}"
    )
    if merges := recipe.merges():
        out.append(f"merged without training: {', '.join(plan.name for plan in merges)}")
    out += [
        "",
        f"total {duration(3600 * (result.hours + result.hours_beside))} on {result.device}; memory about "
        f"{result.memory_gib:.0f} GiB, of which weights {result.weights_gib:.1f} GiB"
        f"{'; ' if result.fits else ''}{result.fits}",
        f"seed {recipe.seed}; evaluation: {', '.join(reported)}; suites "
        f"{', '.join(suite.label for suite in recipe.evaluate.retention.suites)}",
        *map(str, result.judges),
        *tried,
        *(f"Warning: {warning}" for warning in doubts(recipe)),
        *(f"Disk: {lacking}" for lacking in [result.size and room(recipe, result.size, folder)] if lacking),
        *(f"Missing on this machine: {reason}" for reason in missing_parts(recipe)),
        "Estimates are arithmetic, good to a factor of two. Nothing was started.",
    ]
    return "\n".join(out)
