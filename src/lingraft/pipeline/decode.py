"""Stage `decode-<system>`: what each system answers, in writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.conversation.chain import CHAIN
from lingraft.conversation.chain_engine import ChainEngine
from lingraft.core.errors import ModelError
from lingraft.core.tasks import Task
from lingraft.data.records import KL, Generation, Pair, Request, Sampling
from lingraft.engines.base import Engine
from lingraft.engines.divergence import end_written
from lingraft.pipeline.answers import Through, answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.suites import OpenSuite, merge_rounds, rounds
from lingraft.recipe.schema import Recipe
from lingraft.suites.base import Answers, WithoutThoughts
from lingraft.translation import code, summaries
from lingraft.translation.direct import Source, Translation, extract
from lingraft.translation.direct import requests as translation_requests
from lingraft.translation.wording import TranslationSystem


@dataclass(frozen=True, kw_only=True)
class SystemAnswers:
    """All answers of one system.

    Attributes:
        system: that has answered.
        artefacts: where the answers come from, for the costs; the first holds the translations.
        translations: test-set key -> pair id -> translation.
        answers: to the suites' questions.
        suites: as they ask this system.
    """

    system: MeasuredSystem
    artefacts: tuple[Path, ...]
    translations: dict[str, dict[str, Translation]]
    answers: Answers
    suites: tuple[OpenSuite, ...] = ()

    @property
    def name(self) -> str:
        """The system's."""
        return self.system.name

    def beside(self, measured: Sequence[SystemAnswers]) -> SystemAnswers:
        """Return a system that translates by a decoder with the answers of its weights, once they are measured."""
        own = next(one for one in measured if one.name == self.system.weights)
        return replace(own, system=self.system, artefacts=self.artefacts, translations=self.translations)


def sources_of(pairs: Sequence[Pair], key: str) -> list[Source]:
    """Return the texts of a test set to translate."""
    return [
        Source(f"{key}/{pair.id}", pair.source, pair.source_lang, pair.target_lang, pair.declaration) for pair in pairs
    ]


def task_requests(recipe: Recipe, task: Task, sources: Sequence[Source], how: TranslationSystem) -> Iterator[Request]:
    """Yield what a system is asked about the texts of a test set, in one step.

    Args:
        recipe: of the run.
        task: of the test set; its limit of tokens is the recipe's.
        sources: the texts.
        how: the system is asked for translations, and where they end.
    """
    sampling = Sampling(recipe.evaluate.measured(task).max_new_tokens, seed=recipe.seed)
    if recipe.evaluate.summary is not None and task == "summary":
        return summaries.requests(sources, recipe.evaluate.summary.instruction, sampling, how.stop)
    if task == "code":
        return code.requests(sources, sampling)
    return translation_requests(sources, how, sampling)


def task_answer(task: Task, source: Source, generation: Generation, how: TranslationSystem) -> Translation:
    """Return what a system answered to a request of `task_requests`; `Translation.failure` says what went wrong."""
    if task == "code":
        return code.extract(source, generation)
    return (summaries.extract if task == "summary" else extract)(source, generation, how.stop)


def decode(
    context: Context, data: Data, suites: Sequence[OpenSuite], system: MeasuredSystem, wordings: Sequence[str]
) -> SystemAnswers:
    """Let one system translate all test sets and answer all suites, round after round.

    Args:
        context: of the run.
        data: whose test sets are translated.
        suites: of the run.
        system: that answers.
        wordings: in which any system is asked for translations; what the divergence from the base is measured on, the
            base writes in all of them.

    Raises:
        ModelError: the system cannot be used.
        UsageError: a suite asks on for ever.
    """
    how = system.translating
    suites = [suite.of_system(system.renderer, system.markers, how) for suite in suites]
    wanted: list[Request] = []
    sources = {test.key: sources_of(test.pairs, test.key) for test in data.tests}
    for test in data.tests:
        wanted.extend(task_requests(context.recipe, test.task, sources[test.key], how))
    for suite in suites:
        wanted.extend(suite.requests())
    sampled = _sampled(suites, wordings) if system.graft is None else []
    wanted.extend(sampled)

    def answered(stage: str, asked: Sequence[Request], earlier: Answers | None = None) -> Path:
        through = chain_of(context, system, suites, earlier)
        engine = context.recipe.evaluate.engine
        return answer(
            context, stage, asked, graft=system.graft, graft_hash=system.graft_hash, choice=engine, through=through
        )

    artefacts = [answered(f"decode-{system.name}", wanted)]
    generations = read_answers(artefacts[0])
    known = {request.id: request for request in wanted}
    answers = Answers(WithoutThoughts(generations, known))
    for number in rounds(suites):
        asked = [request for suite in suites for request in suite.follow_ups(answers)]
        if not asked:
            break
        artefacts.append(answered(f"decode-{system.name}-round{number}", asked, answers))
        known |= {request.id: request for request in asked}
        answers = Answers(WithoutThoughts(merge_rounds([read_answers(folder) for folder in artefacts]), known))
    translations = {
        test.key: {
            pair.id: task_answer(test.task, source, generations[source.id], how)
            for pair, source in zip(test.pairs, sources[test.key], strict=True)
        }
        for test in data.tests
    }
    if sampled:
        written = {request.id: generations[request.id] for request in sampled}
        zero = {id_: KL(0.0, len(one.token_ids) + end_written(one)) for id_, one in written.items()}
        answers = Answers(answers.generations, zero)
    return SystemAnswers(
        system=system,
        artefacts=tuple(artefacts),
        translations=translations,
        answers=answers,
        suites=tuple(suites),
    )


def _sampled(suites: Sequence[OpenSuite], wordings: Sequence[str]) -> list[Request]:
    """Return what the base alone is asked, translations in each of the wordings; what does not depend on them once."""
    asked = {
        request.id: request
        for wording in wordings
        for suite in suites
        for request in suite.asking(TranslationSystem(wording)).sampled()
    }
    return list(asked.values())


def chain_of(
    context: Context, system: MeasuredSystem, suites: Sequence[OpenSuite] = (), given: Answers | None = None
) -> Through | None:
    """Let conversations go through the translation chain of thought where the system holds them so; translations are
    asked directly.

    Args:
        context: of the run.
        system: that answers.
        suites: as they ask it.
        given: what was answered to the suites in earlier rounds, which the conversations quote.
    """
    markers = system.markers
    if system.chat != "tcot":
        return None
    if markers is None:
        raise ModelError(f"the graft {system.name} chats through markers and has none; train it again")
    longest = context.longest or 0

    def wrap(engine: Engine) -> Engine:
        through = ChainEngine(engine, system.renderer, markers, context=longest)
        if given is not None:
            for request in (request for suite in suites for request in suite.asked(given)):
                through.learn(request, given.generations[request.id])
        return through

    return Through(wrap, {"chain": CHAIN})
