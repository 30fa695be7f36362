"""Stage `decode-<system>`: what each system answers, in writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.data.records import Pair, Request
from lingraft.decoding.chain import ChainEngine
from lingraft.decoding.direct import Source, Translation, extract
from lingraft.decoding.direct import requests as translation_requests
from lingraft.engines import Engine
from lingraft.errors import ModelError
from lingraft.evaluation.suite import KL, Answers
from lingraft.stages.context import Context
from lingraft.stages.grafts import Grafted
from lingraft.stages.prepare import Data
from lingraft.stages.suites import OpenSuite, rounds, together
from lingraft.stages.synthesise import Through, answer, read_answers


@dataclass(frozen=True)
class Decoded:
    """All answers of one system. `translations`: test-set key -> pair id -> translation.

    `suites`: as they ask this system. `artefacts`: where the answers come from, for the costs; the first holds the
    translations.
    """

    name: str
    artefacts: tuple[Path, ...]
    translations: dict[str, dict[str, Translation]]
    answers: Answers
    suites: tuple[OpenSuite, ...] = ()


def sources_of(pairs: Sequence[Pair], key: str) -> list[Source]:
    """Return the texts of a test set to translate."""
    return [Source(f"{key}/{pair.id}", pair.source, pair.source_lang, pair.target_lang) for pair in pairs]


def decode(
    context: Context, data: Data, suites: Sequence[OpenSuite], trained: Grafted | None, base_instruction: str
) -> Decoded:
    """Let one system (None: the base) translate all test sets and answer all suites, round after round.

    Args:
        base_instruction: wording in which the base is asked: that of the system the run is about.
    """
    name = trained.name if trained else "base"
    if trained:
        suites = [suite.of_system(trained.renderer, trained.markers) for suite in suites]
    instruction = trained.info.instruction if trained else base_instruction
    stop = tuple(trained.info.stop) if trained else ()
    limit = context.recipe.evaluate.translation.max_new_tokens
    wanted: list[Request] = []
    sources = {test.key: sources_of(test.pairs, test.key) for test in data.tests}
    for listed in sources.values():
        wanted.extend(translation_requests(listed, instruction, stop, limit, context.recipe.seed))
    sampled = [request for suite in suites for request in suite.sampled()]
    for suite in suites:
        wanted.extend(suite.requests())
    if trained is None:
        wanted.extend(sampled)
    graft, graft_hash = (trained.graft, trained.graft_hash) if trained else (None, "")
    engine = context.recipe.evaluate.engine
    chains = bool(trained and trained.info.chat == "tcot")
    through = _chain(context, trained, suites) if trained and chains else None
    artefacts = [answer(context, f"decode-{name}", wanted, graft, graft_hash, engine, reuse=True, through=through)]
    generations = read_answers(artefacts[0])
    answers = Answers(generations)
    for number in rounds(suites):
        asked = [request for suite in suites for request in suite.follow_ups(answers)]
        if not asked:
            break
        stage = f"decode-{name}-round{number}"
        through = _chain(context, trained, suites, answers) if trained and chains else None
        artefacts.append(answer(context, stage, asked, graft, graft_hash, engine, reuse=True, through=through))
        answers = Answers(together([read_answers(folder) for folder in artefacts]))
    translations = {
        test.key: {
            pair.id: extract(source, generations[source.id])
            for pair, source in zip(test.pairs, sources[test.key], strict=True)
        }
        for test in data.tests
    }
    if trained is None:
        zero = {request.id: KL(0.0, len(generations[request.id].token_ids)) for request in sampled}
        answers = Answers(answers.generations, zero)
    return Decoded(name, tuple(artefacts), translations, answers, tuple(suites))


def _chain(context: Context, trained: Grafted, suites: Sequence[OpenSuite], given: Answers | None = None) -> Through:
    """Let the suites' conversations go through the translation chain of thought; translations are asked directly.

    Args:
        given: what was answered in earlier rounds, which the conversations quote.
    """
    names = {suite.name for suite in suites}
    markers = trained.markers
    if markers is None:
        raise ModelError(f"the graft {trained.name} chats through markers and has none; train it again")
    longest = context.longest or 0

    def wrap(engine: Engine) -> Engine:
        chain = ChainEngine(
            engine,
            trained.renderer,
            markers,
            context=longest,
            chained=lambda request: request.id.partition("/")[0] in names,
        )
        if given is not None:
            for request in (request for suite in suites for request in suite.asked(given)):
                chain.learn(request, given.generations[request.id])
        return chain

    return Through(wrap, "tcot")
