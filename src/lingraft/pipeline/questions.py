"""Test segments, questions of suites and verdicts of judges that the model's context cannot hold: refused before
anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from lingraft.core.errors import DataError
from lingraft.core.tasks import Task
from lingraft.data.corpora import needs_network
from lingraft.data.files import REMOTE
from lingraft.data.readers import MeasuredSource
from lingraft.data.records import Generation, Pair, Prompt, Rejected, Request
from lingraft.data.sampling import split_sources
from lingraft.metrics.base import OpenMetric
from lingraft.metrics.judged import JudgedMetric
from lingraft.models.files import local_folder, longest_sequence
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import sources_of, task_requests
from lingraft.pipeline.decoder_lengths import check_decoders
from lingraft.pipeline.decoders import Exemplars
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.judged_metrics import judged_metrics
from lingraft.pipeline.judged_metrics import verdicts_wanted as metric_verdicts
from lingraft.pipeline.judges import Judge, in_roles, verdicts_wanted
from lingraft.pipeline.lengths import Room, Window, context_tokens, engine_tokens, refuse
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.prompt_sources import prompts_read, refuse_too_few
from lingraft.pipeline.sources import read_test_rows
from lingraft.pipeline.suites import OpenSuite, rounds
from lingraft.recipe.asking import wording_of, wording_of_run
from lingraft.recipe.schema import Recipe
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import SUITES, Answers, SuiteInputs
from lingraft.translation.direct import Source
from lingraft.translation.wording import TranslationSystem

MOST_EXEMPLARS = 2000
"""Pairs of a file from which a dry run draws what is shown: their lengths are those of all."""


def check_lengths(context: Context, data: Data, suites: Sequence[OpenSuite]) -> None:
    """Refuse test segments and questions that leave no room for their answers, whatever decoder asks.

    Raises:
        DataError: names the first of a file, suite or decoder's step, and how many there are.
    """
    recipe, longest = context.recipe, context_tokens(context.recipe, context.longest)
    window = Window(context.renderer, longest)
    for source, test in zip(recipe.pairs.test, data.tests, strict=True):
        _check_segments(recipe, window, source, test.pairs)
    for suite in suites:
        _check_questions(recipe, window, suite)
        if own := data.vocabulary:
            grown = suite.of_system(own.renderer, own.markers, suite.inputs.translating)
            _check_questions(recipe, Window(own.renderer, longest), grown)
        _check_verdicts(context.renderer, context.longest, suite)
    for metric in judged_metrics(recipe):
        _check_metric(recipe, context.renderer, context.longest, metric, data)
    pairs = {number: test.pairs for number, test in enumerate(data.tests)}
    for note in _check_decoders(recipe, context.renderer, context.longest, pairs, Exemplars(data)):
        context.reporter.say(f"Warning: {note}", always=True)


def check_unstarted(recipe: Recipe, shared: Shared | None = None) -> list[str]:
    """Check the lengths of a run's rows before it starts, as far as model and files are on this machine, and return
    what else there is to say of them.

    Args:
        recipe: of the run.
        shared: with recipes looked at before: where all that decides what is asked is the same, so are the lengths;
            how a model is trained does not. None: nothing.

    Raises:
        DataError: as `check_lengths`.
    """
    folder = local_folder(recipe.model, recipe.revision)
    if folder is None:
        return ["Lengths were not checked: the model is not on this machine."]
    shared = shared or Shared()
    values = recipe.model_dump(mode="json", exclude={"name", "stages"})
    stages = [stage.model_dump(mode="json", exclude={"train", "tuner"}) for stage in recipe.stages]
    return shared.once("lengths", [values, stages], partial(_checked, recipe, folder, shared))


def _checked(recipe: Recipe, folder: Path, shared: Shared) -> list[str]:
    renderer, longest = shared.renderer(recipe, folder), longest_sequence(folder)
    window = Window(renderer, context_tokens(recipe, longest))
    pairs: list[Pair] = []
    tests: dict[int, Sequence[Pair]] = {}
    for number, source in enumerate(recipe.pairs.test):
        if not needs_network(source.path, source.source, source.target):
            rows = (item for item in read_test_rows(source) if isinstance(item, Pair))
            found = list(islice(rows, source.limit))
            pairs += found if source.task == "translation" else []
            tests[number] = found
            _check_segments(recipe, window, source, found)
    prompts, notes = _prompts(recipe, Room.of(recipe, renderer, longest))
    notes += [f"Warning: {note}" for note in _check_decoders(recipe, renderer, longest, tests, _exemplars(recipe))]
    inputs = SuiteInputs(
        prompts,
        [],
        seed=recipe.seed,
        renderer=renderer,
        pairs=pairs,
        context_tokens=longest or SuiteInputs.context_tokens,
    )
    for choice in recipe.evaluate.retention.suites:
        suite = SUITES.create(choice)
        if not suite.fetches and (prompts or not suite.answer_tokens):
            opened = OpenSuite(choice.label, suite, inputs)
            _check_questions(recipe, window, opened, likelihoods=False)
            _check_verdicts(renderer, longest, opened)
    return notes


def _check_decoders(
    recipe: Recipe,
    renderer: Renderer,
    longest: int | None,
    tests: Mapping[int, Sequence[Pair]],
    exemplars: Iterable[Pair],
) -> list[str]:
    """Check what decoders ask about the test sets that are at hand, by their numbers, as `check_decoders` does."""
    window = Window(renderer, engine_tokens(recipe.evaluate.engine or recipe.engine, longest))
    sources: dict[Task, list[Source]] = {}
    for number, pairs in tests.items():
        own = sources_of(pairs, recipe.pairs.test_names[number])
        sources.setdefault(recipe.pairs.test[number].task, []).extend(own)
    return check_decoders(recipe, window, sources, _wordings(recipe), exemplars)


def _exemplars(recipe: Recipe) -> list[Pair]:
    """Return the first pairs of each file that is trained on, or a development set, and at hand."""
    if not recipe.evaluate.decoders:
        return []
    found: list[Pair] = []
    for source in [*recipe.pairs.train, *recipe.pairs.dev]:
        if not needs_network(source.path, source.source, source.target):
            rows = (row for row in read_test_rows(source) if isinstance(row, Pair))
            own = list(islice(rows, min(MOST_EXEMPLARS, source.limit or MOST_EXEMPLARS)))
            found += own + ([pair.reversed() for pair in own] if source.both_directions else [])
    return found


def _prompts(recipe: Recipe, room: Room) -> tuple[list[Prompt], list[str]]:
    """Return the prompts on which suites measure, and how many are rejected; none where they are not at hand.

    Raises:
        DataError: too few are left.
    """
    known = recipe.prompts or []
    sources = [source for source in known if not source.path.startswith(REMOTE)]
    rejected: dict[str, Counter[str]] = {source.path: Counter() for source in sources}
    fit: list[list[Prompt]] = [[] for _ in sources]
    for number, row in prompts_read(sources, room):
        if isinstance(row, Rejected):
            rejected[sources[number].path][row.reason] += 1
        else:
            fit[number].append(row)
    held = split_sources(fit, recipe.seed).retention
    if len(sources) == len(known):
        refuse_too_few(sources, list(map(len, fit)), len(held), rejected)
    return held, [
        f"{path}: {n:,} prompts will be rejected as {reason}."
        for path, counts in rejected.items()
        for reason, n in counts.items()
    ]


def _check_segments(recipe: Recipe, window: Window, source: MeasuredSource, pairs: Sequence[Pair]) -> None:
    sources = [Source(pair.id, pair.source, pair.source_lang, pair.target_lang, pair.declaration) for pair in pairs]
    systems = map(TranslationSystem, _wordings(recipe))
    asked = (one for how in systems for one in task_requests(recipe, source.task, sources, how))
    what, all_of_them = ("document", "documents") if source.task == "summary" else ("segment", "segments")
    remedy = f"shorten the {what} or leave it out, or lower evaluate.{source.task}.max_new_tokens"
    refuse(window, ((request, 0) for request in asked), f"test set {source.path}", all_of_them, remedy)


def _wordings(recipe: Recipe) -> list[str]:
    """Return in which words translations may be asked for."""
    taught = (wording_of(system.stages[: n + 1]) for system in recipe.systems() for n in range(len(system.stages)))
    return list(dict.fromkeys([wording_of_run(recipe), *filter(None, taught)]))


def _check_questions(recipe: Recipe, window: Window, suite: OpenSuite, likelihoods: bool = True) -> None:
    for wording in _wordings(recipe):
        asked = _asked(suite.asking(TranslationSystem(wording)))
        remedy = "shorten that question or leave it out, or lower the suite's max_new_tokens"
        refuse(window, asked, f"suite {suite.name!r}", "questions", remedy, f"{suite.name}/")
    if window.context is None or not likelihoods:
        return
    for one in suite.continuations():
        if len(one.continuation) > window.context:
            raise DataError(
                f"suite {suite.name!r}: the likelihood of {one.id!r} is wanted, whose {len(one.continuation)} tokens "
                f"are more than the model's context of {window.context}; shorten it or leave it out"
            )


def _check_verdicts(base: Renderer, longest: int | None, suite: OpenSuite) -> None:
    """Refuse a suite whose judge may be shown more than it can hold, as far as its context is known.

    Args:
        base: renderer of the base, which judges where the suite names no other model.
        longest: sequence of the base, in tokens; None: not known.
        suite: with or without a judge.
    """
    if suite.suite.judge is None:
        return
    window = Judge.of(suite.suite.judge).window(base, longest)
    if window is None or window.context is None:
        return
    wanted = list(verdicts_wanted(suite))
    asked = in_roles(window.renderer, [request for request, _ in wanted]) if wanted else []
    remedy = "lower the suite's max_new_tokens or verdict_tokens, or take a judge with a longer context"
    shown = ((request, more) for request, (_, more) in zip(asked, wanted, strict=True))
    refuse(window, shown, f"judge of suite {suite.name!r}", "verdicts", remedy, f"{suite.name}/")


def _check_metric(recipe: Recipe, base: Renderer, longest: int | None, opened: OpenMetric, data: Data) -> None:
    """Refuse a metric whose judge may be shown more than it can hold, as far as its context is known."""
    metric = opened.metric
    assert isinstance(metric, JudgedMetric)
    window = Judge.of(metric.judge).window(base, longest)
    if window is None or window.context is None:
        return
    for test in (test for test in data.tests if test.task in type(metric).tasks):
        wanted = metric_verdicts(metric, test.pairs, recipe.evaluate.measured(test.task).max_new_tokens)
        remedy = "shorten the segment, lower the metric's verdict_tokens, or take a judge with a longer context"
        refuse(window, wanted, f"judge of metric {opened.name!r}", "verdicts", remedy)


def _asked(suite: OpenSuite) -> Iterator[tuple[Request, int]]:
    """Yield all questions of a suite, each with the tokens that the answers that it quotes may have at most."""
    yield from ((request, 0) for request in (*suite.requests(), *suite.sampled()))
    asked, given = suite.requests(), dict[str, Generation]()
    for _ in rounds([suite]):
        given |= {request.id: Generation(request.id, "-", (), "stop") for request in asked}
        asked = suite.follow_ups(Answers(given))
        if not asked:
            return
        for request in asked:
            quoted = sum(message.role == "assistant" for message in request.messages)
            yield request, quoted * request.sampling.max_new_tokens
