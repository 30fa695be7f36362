"""Stages `decode-<system>-<step>`: systems that translate by a decoder, with weights that the run measures anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.decoders.base import Decoder, DecoderInputs, Of, decoded
from lingraft.pipeline.answers import answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers, chain_of, sources_of
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.scores import Scoring
from lingraft.pipeline.vectors import Embedding
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.decoders import DecodedSystem
from lingraft.translation.direct import Translation
from lingraft.translation.markers import Markers


@dataclass(kw_only=True)
class RunAsk:
    """An `Ask` whose every step is an artefact. What the run has answered before, in any step, is not asked again.

    Attributes:
        context: of the run.
        name: of the system that decodes.
        system: whose weights are asked.
        base: of the run.
        chained: whether a system that converses through the translation chain of thought is asked through it.
        artefacts: where the answers are, in the order of the steps.
    """

    context: Context
    name: str
    system: MeasuredSystem
    base: MeasuredSystem
    chained: bool = True
    artefacts: list[Path] = field(default_factory=list)

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return the answers to a step; nothing is kept of a step that asks nothing."""
        if next(iter(requests), None) is None:
            return {}
        asked = self.system if of == "system" else self.base
        choice = self.context.recipe.evaluate.engine if isinstance(of, str) else EngineChoice.model_validate(dict(of))
        folder = answer(
            self.context,
            f"decode-{self.name}-{step}",
            requests,
            graft=asked.graft,
            graft_hash=asked.graft_hash,
            choice=choice,
            through=chain_of(self.context, asked) if self.chained else None,
            renderer=asked.renderer,
        )
        self.artefacts.append(folder)
        return read_answers(folder)


def decode_by(
    context: Context,
    data: Data,
    one: DecodedSystem,
    weights: SystemAnswers,
    base: MeasuredSystem,
    ask: RunAsk | None = None,
) -> SystemAnswers:
    """Let a decoder translate all test sets of the tasks that it is for.

    Args:
        context: of the run.
        data: whose test sets are translated.
        one: the decoder, and the name of the system.
        weights: what the weights answer by themselves: to the suites they answer the same.
        base: of the run.
        ask: lets its steps be answered; None: by the weights alone.

    Raises:
        ModelError: the weights cannot be used.
        EngineError: an answer fails, or the decoder leaves a segment out.
    """
    ask = ask or RunAsk(context=context, name=one.name, system=weights.system, base=base)
    decoder, scoring, embedding = one.decoder, Scoring(context, data.languages), Embedding(context)
    translations = decoded_tests(context, data, decoder, ask, scoring, embedding=embedding)
    return replace(
        weights,
        system=weights.system.decoding(one.name, decoder),
        artefacts=tuple(dict.fromkeys((*ask.artefacts, *scoring.used, *embedding.used))),
        translations=translations,
    )


def decoded_tests(
    context: Context,
    data: Data,
    decoder: Decoder,
    ask: RunAsk,
    scoring: Scoring,
    markers: Markers | None = None,
    embedding: Embedding | None = None,
) -> dict[str, dict[str, Translation]]:
    """Return what a decoder makes of the test sets of the tasks that it is for: key -> pair id -> translation.

    Args:
        context: of the run.
        data: with the test sets.
        decoder: that translates.
        ask: lets its steps be answered.
        scoring: scores what it chooses from.
        markers: of weights that translate plain text behind them.
        embedding: embeds what it chooses from.
    """
    recipe, translations = context.recipe, dict[str, dict[str, Translation]]()
    for task in recipe.pairs.tasks:
        sources = {test.key: sources_of(test.pairs, test.key) for test in data.tests if test.task == task}
        if task not in decoder.tasks:
            continue
        inputs = DecoderInputs(
            ask=ask,
            sampling=Sampling(recipe.evaluate.measured(task).max_new_tokens, seed=recipe.seed),
            task=task,
            **({"summarising": recipe.evaluate.summary.instruction} if recipe.evaluate.summary else {}),
            seed=recipe.seed,
            exemplars=Exemplars(data),
            score=scoring,
            embed=embedding,
            markers=markers,
        )
        found = decoded(decoder, list(chain(*sources.values())), ask.system.translating, inputs)
        for key, listed in sources.items():
            translations[key] = {source.id.removeprefix(f"{key}/"): found[source.id] for source in listed}
    return translations


@dataclass(frozen=True)
class Exemplars:
    """The pairs to learn from by example: those that are trained on, then the development set."""

    data: Data

    def __iter__(self) -> Iterator[Pair]:
        return chain(self.data.train, self.data.dev)
