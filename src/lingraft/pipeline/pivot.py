"""Stages `translate-test-...`: the system of a translator before and after the untouched base, where one is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lingraft.conversation.history import History
from lingraft.conversation.pivot import AskedTranslator, MarkedTranslator, Round, Translator, bounded
from lingraft.data.records import Generation, Request
from lingraft.methods.base import METHODS
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.answers import answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers, sources_of
from lingraft.pipeline.measured_system import MeasuredSystem, own_system
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.suites import merge_rounds, rounds
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.evaluation import TRANSLATE_TEST, TranslateTest
from lingraft.suites.base import Answers, WithoutThoughts
from lingraft.translation.direct import Translation, extract


@dataclass(kw_only=True)
class _Asking:
    """Lets translator and base answer, and keeps where the answers are.

    Attributes:
        context: of the run.
        translator: how translations are asked for.
        system: that translates: a graft, or the base where an engine of its own does.
        choice: the engine on which it does.
        base: that answers in English.
        artefacts: the answers so far.
    """

    context: Context
    translator: Translator
    system: MeasuredSystem
    choice: EngineChoice | None
    base: MeasuredSystem
    artefacts: list[Path] = field(default_factory=list)

    def translated(self, step: str, requests: Iterable[Request]) -> Mapping[str, Generation]:
        """Return the translator's answers."""
        return self._answered(step, list(requests), self.system, self.choice)

    def based(self, step: str, requests: Iterable[Request]) -> Mapping[str, Generation]:
        """Return the base's answers; what it was asked for itself is not asked again."""
        return self._answered(step, list(requests), self.base, self.context.recipe.evaluate.engine)

    def _answered(
        self, step: str, requests: list[Request], system: MeasuredSystem, choice: EngineChoice | None
    ) -> Mapping[str, Generation]:
        if not requests:
            return {}
        folder = answer(
            self.context,
            f"decode-{TRANSLATE_TEST}-{step}",
            requests,
            graft=system.graft,
            graft_hash=system.graft_hash,
            choice=choice,
            renderer=system.renderer,
        )
        self.artefacts.append(folder)
        return read_answers(folder)


def translate_test(
    context: Context, data: Data, systems: Sequence[MeasuredSystem], base: SystemAnswers
) -> SystemAnswers | None:
    """Return what the base answers through a translator, None where the recipe does not want it.

    Args:
        context: of the run.
        data: whose test sets are translated.
        systems: of the run, one of which may translate.
        base: the base's own answers, which it keeps where nothing is to be translated.

    Raises:
        ModelError: the translator cannot be used.
        UsageError: a suite asks on for ever.
    """
    settings, suites = context.recipe.evaluate.translate_test, base.suites
    if settings is None:
        return None
    asking = _asking(context, systems, base.system, settings)
    languages = settings.languages or context.recipe.native_languages
    history = History()
    translations = _translations(asking, data, base)
    asked = [request for suite in suites for request in suite.requests()]
    found: list[Mapping[str, Generation]] = [_round(asking, asked, languages, history, 1)]
    known = {request.id: request for request in asked}
    for number in rounds(suites):
        answers = Answers(WithoutThoughts(merge_rounds(found), known))
        asked = [request for suite in suites for request in suite.follow_ups(answers)]
        if not asked:
            break
        known |= {request.id: request for request in asked}
        found.append(_round(asking, asked, languages, history, number))
    # English is answered by the base itself, so that it does not diverge.
    answers = Answers(WithoutThoughts(merge_rounds(found), known), base.answers.kl)
    return SystemAnswers(
        system=replace(base.system, name=TRANSLATE_TEST, translated=True),
        artefacts=tuple(dict.fromkeys(asking.artefacts)),
        translations=translations,
        answers=answers,
        suites=suites,
    )


def _asking(
    context: Context, systems: Sequence[MeasuredSystem], base: MeasuredSystem, settings: TranslateTest
) -> _Asking:
    """Return the translator: an engine; or the run's own graft, as it was after its pre-training on translations if it
    had one, and otherwise asked as it was trained to be."""
    seed, engine = context.recipe.seed, context.recipe.evaluate.engine
    if settings.translator != "graft":
        by_engine = AskedTranslator(settings.instruction, seed)
        return _Asking(context=context, translator=by_engine, system=base, choice=settings.translator, base=base)
    own = own_system(context, systems)
    for trained in reversed(own.trained.lineage if own.trained else []):
        stage, vocabulary = trained.synthesised.stage, Vocabulary.in_folder(trained.graft)
        if vocabulary and any(METHODS.get(part.kind).translates_text for part in stage.parts):
            by_markers = MarkedTranslator(vocabulary.markers, seed)
            earlier = replace(own, graft=trained.graft, graft_hash=trained.graft_hash)
            return _Asking(context=context, translator=by_markers, system=earlier, choice=engine, base=base)
    asked = AskedTranslator(own.translating.instruction, seed, own.translating.stop)
    return _Asking(context=context, translator=asked, system=own, choice=engine, base=base)


def _translations(asking: _Asking, data: Data, base: SystemAnswers) -> dict[str, dict[str, Translation]]:
    """Return the test sets as the translator translates them, as the base does where it does not know a language."""
    translator = asking.translator
    sources = {
        test.key: [
            source
            for source in sources_of(test.pairs, test.key)
            if translator.knows(source.source_lang) and translator.knows(source.target_lang)
        ]
        for test in data.tests
        if test.task == "translation"
    }
    given = asking.translated(
        "tests",
        (
            request
            for listed in sources.values()
            for source in listed
            for request in bounded(
                translator.requests(source.id, source.text, source.source_lang, source.target_lang),
                asking.context.recipe.evaluate.translation.max_new_tokens,
            )
        ),
    )
    found = {key: dict(base.translations[key]) for key in sources}
    for key, listed in sources.items():
        for source in listed:
            written = translator.written(source.id, source.text, source.target_lang, given)
            reason = "length" if written.cut else "stop"
            generation = Generation(source.id, written.text, written.token_ids, reason)
            translation = extract(source, generation)
            if written.thinking:
                translation = replace(translation, failure="thinking", thought=True)
            found[key][source.id.removeprefix(f"{key}/")] = translation
    return found


def _round(
    asking: _Asking,
    requests: Sequence[Request],
    languages: Sequence[str],
    history: History,
    number: int,
) -> dict[str, Generation]:
    """Return the answers to one round of questions."""
    steps = Round(requests, asking.translator, languages, history)
    suffix = f"-round{number}" if number > 1 else ""
    queries = asking.translated(f"queries{suffix}", steps.inward())
    replies = asking.based(f"answers{suffix}", steps.english(queries))
    back = asking.translated(f"replies{suffix}", steps.outward(replies))
    return {generation.id: generation for generation in steps.answers(back)}
