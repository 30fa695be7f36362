"""How a training is measured while it goes on: translations of the development set, and divergence from the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from peft import PeftModel

from lingraft.core.errors import DataError, ExampleError
from lingraft.core.hashing import content_hash, list_hash, text_hash
from lingraft.data.records import Example, Generation, Pair, Request, Sampling, Span
from lingraft.engines.divergence import DIVERGENCE, kl_from_base
from lingraft.engines.transformers import TransformersEngine
from lingraft.metrics.sacrebleu import Chrf
from lingraft.models.loading import LoadedModel
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data
from lingraft.rendering.rows import Rendered
from lingraft.statistics.items import aggregation
from lingraft.training.development import Development
from lingraft.training.settings import TrainSettings
from lingraft.translation.direct import Source, extract
from lingraft.translation.direct import requests as translation_requests
from lingraft.translation.wording import TranslationSystem, ask_for

MOST_ROWS = 1000
"""Pairs of a development set whose loss is taken."""
ANSWER_TOKENS = 64
"""Of the base's answers to general prompts, on which the divergence is measured."""
BATCH_TOKENS = 8192
"""Less than an engine holds by itself: what the optimiser holds stays in memory."""


def development(
    context: Context,
    data: Data,
    settings: TrainSettings,
    loaded: LoadedModel,
    how: TranslationSystem,
    opening: Sequence[int] = (),
) -> Development | None:
    """Return what a stage's training is measured on; None without a development set.

    Args:
        context: of the run.
        data: with the development set.
        settings: of the stage.
        loaded: the base that is trained, with its vocabulary.
        how: the graft is asked for translations.
        opening: ids with which the graft's answers to other questions begin and the base's do not.

    Raises:
        DataError: no pair fits the model.
    """
    if not data.dev:
        return None
    # In an order of its own, so that the sample is of all sources and directions.
    pairs = sorted(data.dev, key=lambda pair: text_hash(pair.id, pair.source_lang, pair.target_lang))
    rows = _references(context, pairs[:MOST_ROWS], loaded, how)
    if not rows:
        raise DataError("pairs.dev: no pair of the development set fits the model; give shorter ones")
    limit = context.recipe.evaluate.translation.max_new_tokens
    fitting = _fitting(context, pairs, loaded, how, limit, settings.dev_sample)
    asked = [
        Request(f"dev/{prompt.id}", prompt.messages, Sampling(ANSWER_TOKENS, temperature=1.0, seed=context.recipe.seed))
        for prompt in data.dev_prompts[: settings.dev_sample]
    ]
    meter = _Meter(
        loaded=loaded,
        attention=loaded.model.config._attn_implementation,
        how=how,
        pairs=fitting,
        limit=limit,
        asked=[request for request in asked if _has_room(context, loaded, request)],
        base_tokens=int(context.config.vocab_size),
        context=context,
        opening=tuple(opening),
    )
    identity = content_hash(
        {
            "rows": list_hash([row.id, row.input_ids, row.weights] for row in rows)[0],
            "translated": list_hash([pair.to_dict() for pair in fitting])[0],
            "asked": list_hash(request.to_dict() for request in meter.asked)[0],
            "how": [how.instruction, list(how.stop), limit, list(opening)],
            "code": DIVERGENCE,
        }
    )
    return Development(rows=rows, measure=meter, identity=identity)


def _references(context: Context, pairs: Sequence[Pair], loaded: LoadedModel, how: TranslationSystem) -> list[Rendered]:
    """Return the references as the graft is asked for them; where it goes on behind them is not measured."""
    rows = []
    for number, pair in enumerate(pairs):
        messages = ask_for(pair, [how.instruction], 0)
        example = Example(f"dev/{number}", messages, (Span(pair.target, "translation"),), end_turn=False)
        try:
            rows.append(loaded.renderer.render(example, context.longest))
        except ExampleError:
            continue
    return rows


def _source(number: int, pair: Pair) -> Source:
    return Source(f"dev/{number}", pair.source, pair.source_lang, pair.target_lang)


def _fitting(
    context: Context, pairs: Sequence[Pair], loaded: LoadedModel, how: TranslationSystem, limit: int, count: int
) -> list[Pair]:
    """Return the first pairs whose translations have room."""
    found: list[Pair] = []
    for pair in pairs:
        (request,) = translation_requests([_source(0, pair)], how, Sampling(limit))
        if _has_room(context, loaded, request):
            found.append(pair)
        if len(found) == count:
            break
    return found


def _has_room(context: Context, loaded: LoadedModel, request: Request) -> bool:
    prompt = len(loaded.renderer.prompt_ids(request.messages, request.prefill).ids)
    return context.longest is None or prompt + request.sampling.max_new_tokens <= context.longest


@dataclass(kw_only=True)
class _Meter:
    """Measures a model in training: chrF of greedy translations, and divergence on answers that the base has sampled.

    Attributes:
        loaded: the base that is trained.
        attention: of the model outside of training.
        how: it is asked for translations.
        pairs: that are translated.
        limit: tokens of a translation.
        asked: general prompts.
        base_tokens: size of the base's vocabulary.
        context: of the run.
        opening: see `kl_from_base`.
        answers: of the base; they are sampled at the first call.
    """

    loaded: LoadedModel
    attention: str
    how: TranslationSystem
    pairs: Sequence[Pair]
    limit: int
    asked: Sequence[Request]
    base_tokens: int
    context: Context
    opening: tuple[int, ...]
    answers: dict[str, Generation] | None = None

    def __call__(self, adapted: PeftModel) -> Mapping[str, float]:
        """Return "chrf" and "kl" of the model, as far as there is something to measure them on."""
        base: Any = adapted.get_base_model()
        in_training = base.config._attn_implementation
        if in_training != self.attention:
            base.set_attn_implementation(self.attention)
        try:
            on = replace(self.loaded, model=cast(Any, adapted))
            with self.context.reporter.working("measuring the development set"):
                return {**self._translated(on), **self._diverged(on, adapted)}
        finally:
            if base.config._attn_implementation != in_training:
                base.set_attn_implementation(in_training)

    def _translated(self, on: LoadedModel) -> dict[str, float]:
        if not self.pairs:
            return {}
        sources = [_source(number, pair) for number, pair in enumerate(self.pairs)]
        wanted = translation_requests(sources, self.how, Sampling(self.limit, seed=self.context.recipe.seed))
        written = _written(on, list(wanted))
        texts = [extract(source, written[source.id], self.how.stop).text for source in sources]
        measured = Chrf(Chrf.Params()).build("", "", ())
        statistics = measured.statistics(texts, self.pairs)
        return {"chrf": float(aggregation(measured.aggregation)(statistics.sum(axis=0, keepdims=True))[0])}

    def _diverged(self, on: LoadedModel, adapted: PeftModel) -> dict[str, float]:
        if not self.asked:
            return {}
        if self.answers is None:
            with adapted.disable_adapter():
                self.answers = _written(replace(on, renderer=self.context.renderer), self.asked)
        found = kl_from_base(
            on,
            self.asked,
            self.answers,
            renderer=self.context.renderer,
            base_tokens=self.base_tokens,
            opening=self.opening,
            batch_tokens=BATCH_TOKENS // 4,
        )
        tokens = sum(one.tokens for one in found.values())
        return {"kl": sum(one.nats for one in found.values()) / tokens} if tokens else {}


def _written(on: LoadedModel, asked: Sequence[Request]) -> dict[str, Generation]:
    engine = TransformersEngine(on, batch_tokens=BATCH_TOKENS)
    return {answer.id: answer for answer in engine.generate(asked)}
