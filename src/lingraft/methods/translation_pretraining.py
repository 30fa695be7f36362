"""Pre-training on translations as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Generation, Pair, Request, Span
from lingraft.methods.base import Method, MethodInputs, MethodParams, Tally
from lingraft.translation.by_sentence import opened
from lingraft.translation.markers import Markers


class TranslationPretrainingParams(MethodParams):
    """Parameters of pre-training on translations."""

    both_orders: bool = Field(True, description="use each pair as source before target and as target before source")


class TranslationPretraining(Method):
    """Translation pre-training, stage 2 of TransLLM (Geng et al. 2024, arXiv 2405.13923, section 3.2): next-token
    prediction on parallel text, in both orders. The English of the base is held by English documents beside it:
    `beside: [{method: pretraining, params: {languages: [en]}, share: 0.2}]`.

    Departures: the paper's template is not published. Here a pair is `<EN> source <TH> target` and, on a line of its
    own, `<TH> target <EN> source`, each sentence behind the marker of its language and the whole ended by the
    tokenizer's EOS token, so that the markers mean the same as in the translation chain of thought. Pairs without
    English have the markers of their two languages.
    """

    name: ClassVar[str] = "translation_pretraining"
    summary: ClassVar[str] = "pre-training on pairs as plain text behind markers, in both orders"
    paper: ClassVar[str] = "arXiv 2405.13923"
    cite: ClassVar[tuple[str, ...]] = ("geng-2024-transllm",)
    Params: ClassVar[type[MethodParams]] = TranslationPretrainingParams
    needs_markers: ClassVar[bool] = True
    translates_text: ClassVar[bool] = True
    params: TranslationPretrainingParams

    def teaches_translation(self) -> bool:
        """Say no: it translates as it reads text, behind markers, and not when asked to."""
        return False

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask nothing."""
        return iter(())

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield each pair as one text, or as two.

        Raises:
            UsageError: there are no markers.
        """
        if inputs.markers is None:
            raise UsageError(
                "method translation_pretraining needs the markers of an extended vocabulary; "
                "add `vocabulary:` to the recipe"
            )
        for pair in inputs.pairs:
            yield self._example(pair, pair, inputs.markers)
            if self.params.both_orders:
                yield self._example(pair, pair.reversed(), inputs.markers)

    def _example(self, pair: Pair, ordered: Pair, markers: Markers) -> Example:
        # Not the id of the reversed pair: that may be among the pairs, too.
        id_ = f"{pair.id}:{ordered.source_lang}-{ordered.target_lang}"
        source = opened(markers, ordered.source, ordered.source_lang, ordered.target_lang)
        return Example(id_, (), (*source, Span(ordered.target, "translation")))
