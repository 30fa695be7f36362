"""Stages of `translate-test` and of decoders that answer questions: a translator before and after the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lingraft.conversation.history import History
from lingraft.conversation.pivot import Round
from lingraft.data.records import Generation, Request
from lingraft.decoders.pivot import Pivot
from lingraft.methods.base import METHODS
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.decoders import RunAsk, decoded_tests
from lingraft.pipeline.measured_system import MeasuredSystem, own_system
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.scores import Scoring
from lingraft.pipeline.suites import merge_rounds, rounds
from lingraft.recipe.evaluation import TRANSLATE_TEST
from lingraft.suites.base import Answers, WithoutThoughts
from lingraft.translation.markers import Markers


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
    settings = context.recipe.evaluate.translate_test
    if settings is None:
        return None
    translator = settings.translator
    who = "system" if isinstance(translator, str) else {"kind": translator.kind, **translator.params}
    params = {"translator": who, "languages": settings.languages, "instruction": settings.instruction}
    own = base.system if who != "system" else own_system(context, systems)
    found = pivot(context, data, Pivot(Pivot.Params.model_validate(params)), TRANSLATE_TEST, own, base)
    return replace(found, system=replace(base.system, name=TRANSLATE_TEST, translated=True))


def pivot(
    context: Context, data: Data, decoder: Pivot, name: str, weights: MeasuredSystem, base: SystemAnswers
) -> SystemAnswers:
    """Return what the base answers through a translator, and what that translates.

    Args:
        context: of the run.
        data: whose test sets are translated.
        decoder: says who translates.
        name: of the system.
        weights: that may translate.
        base: the base's own answers.

    Raises:
        ModelError: the translator cannot be used.
        UsageError: a suite asks on for ever.
    """
    system, markers = _translating(weights)
    ask = RunAsk(context=context, name=name, system=system, base=base.system, chained=False)
    translations = decoded_tests(context, data, decoder, ask, Scoring(context, data.languages), markers)
    translator = decoder.translator(system.translating, context.recipe.seed, markers)
    languages = decoder.params.languages or context.recipe.native_languages
    suites, history = base.suites, History()

    def answered(questions: Sequence[Request], number: int) -> dict[str, Generation]:
        """Return the answers to one round of questions."""
        steps = Round(questions, translator, languages, history)
        suffix = f"-round{number}" if number > 1 else ""
        queries = ask(f"queries{suffix}", list(steps.inward()), decoder.of)
        replies = ask(f"answers{suffix}", list(steps.english(queries)), "base")
        back = ask(f"replies{suffix}", list(steps.outward(replies)), decoder.of)
        return {generation.id: generation for generation in steps.answers(back)}

    asked = [request for suite in suites for request in suite.requests()]
    found: list[Mapping[str, Generation]] = [answered(asked, 1)]
    known = {request.id: request for request in asked}
    for number in rounds(suites):
        answers = Answers(WithoutThoughts(merge_rounds(found), known))
        asked = [request for suite in suites for request in suite.follow_ups(answers)]
        if not asked:
            break
        known |= {request.id: request for request in asked}
        found.append(answered(asked, number))
    # English is answered by the base itself, so that it does not diverge.
    answers = Answers(WithoutThoughts(merge_rounds(found), known), base.answers.kl)
    return SystemAnswers(
        system=replace(base.system, name=name, translated=True, decoder=decoder.name, cites_decoder=decoder.cite),
        artefacts=tuple(dict.fromkeys(ask.artefacts)),
        translations=translations,
        answers=answers,
        suites=suites,
    )


def _translating(weights: MeasuredSystem) -> tuple[MeasuredSystem, Markers | None]:
    """Return the weights that translate: as they were after their pre-training on translations if they had one, with
    the markers behind which they translate plain text."""
    for trained in reversed(weights.trained.lineage if weights.trained else []):
        stage, vocabulary = trained.synthesised.stage, Vocabulary.in_folder(trained.graft)
        if vocabulary and any(METHODS.get(part.kind).translates_text for part in stage.parts):
            earlier = replace(weights, graft=trained.graft, graft_hash=trained.graft_hash)
            return earlier, vocabulary.markers
    return weights, None
