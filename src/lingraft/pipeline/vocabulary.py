"""Stages `texts` and `vocabulary`: documents to pre-train on, and tokens that the base lacks for their languages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.data.records import Text
from lingraft.language.codes import base_language
from lingraft.models.vocabulary import Vocabulary, VocabularyInfo
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, OwnVocabulary
from lingraft.pipeline.texts import prepare_texts
from lingraft.store.artefacts import artefact_contents
from lingraft.translation.markers import Markers
from lingraft.vocabulary.learn import learn_vocabulary

LAYOUT = 2
"""Of the tokenizer: one of another layout is made anew. 2: each row of the embeddings has a token."""


def add_languages(context: Context, data: Data) -> Data:
    """Return the data with the recipe's texts and its extended vocabulary, if it has them.

    Raises:
        DataError: the texts cannot be used.
        UsageError: there is no text to learn a vocabulary from.
    """
    recipe = context.recipe
    if recipe.texts:
        texts = prepare_texts(context, data, recipe.texts, recipe.text_checks)
        data = replace(data, texts=texts.train, heldout=texts.heldout, texts_folder=texts.folder)
    if recipe.vocabulary is not None:
        data = replace(data, vocabulary=_vocabulary(context, data))
    return data


def vocabulary_line(info: VocabularyInfo) -> str:
    """Say in a line what a vocabulary adds, and how much shorter texts get."""
    shorter = "; ".join(f"{one.lang} {one.before:.2f} to {one.after:.2f} tokens a {one.unit}" for one in info.fertility)
    return f"Vocabulary: {info.pieces:,} pieces and {', '.join(info.marker_tokens().tokens)}" + (
        f"; {shorter}" if shorter else ""
    )


def _vocabulary(context: Context, data: Data) -> OwnVocabulary:
    settings, languages = context.recipe.vocabulary, context.recipe.native_languages
    assert settings is not None, "asked only where the recipe has one"
    if not languages:
        raise UsageError("vocabulary: no language to carry the model to; set `languages`, or add `texts` in one")
    markers = Markers.for_languages(languages)

    def texts() -> Iterator[Text]:
        return (text for text in data.texts if base_language(text.lang) in languages)

    if settings.size != 0 and next(texts(), None) is None:
        raise UsageError(
            f"vocabulary: there are no `texts` in {', '.join(languages)} to learn from; add some, or set `size: 0` for "
            f"markers alone"
        )
    inputs = {
        "model": context.files.sha256,
        "texts": artefact_contents(data.texts_folder, "texts.jsonl") if data.texts_folder and settings.size else [],
        "settings": settings.model_dump(mode="json"),
        "markers": markers.to_dict(),
        "seed": context.recipe.seed,
        "layout": LAYOUT,
    }

    def build(folder: Path) -> dict[str, Any]:
        info = learn_vocabulary(
            context.files, texts, settings, markers, folder, seed=context.recipe.seed, say=context.reporter.say
        )
        return {"tokens_added": info.tokens - info.base_tokens}

    folder = context.artefact("vocabulary", inputs, build)
    vocabulary = Vocabulary.of(folder)
    context.reporter.say(vocabulary_line(vocabulary.info))
    return OwnVocabulary(vocabulary, vocabulary.renderer(context.files, context.recipe.template))
