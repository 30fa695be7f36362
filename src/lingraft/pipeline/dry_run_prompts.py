"""What a dry run can know of texts, prompts and their answers: how many, how long, and what translating them takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from lingraft.core.errors import DataError, ModelError, UsageError
from lingraft.data.readers import read_texts
from lingraft.data.records import Pair, Prompt, Rejected
from lingraft.language.codes import base_language
from lingraft.language.sentences import split_text
from lingraft.methods.base import METHODS
from lingraft.methods.vanilla import translation_example
from lingraft.models.files import local_folder
from lingraft.pipeline.dev_set import held_count
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.prompt_sources import Sources, labels, prompts_read
from lingraft.pipeline.texts import held_out
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import Expected, Part
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 3.0
PROMPT_OVERHEAD_TOKENS = 35
SENTENCE_TOKENS = 25
"""Of a sentence of text that is not written yet: about 75 characters."""


BY_BEFORE = "the graft of the stage before"
"""The end of a note on who writes what has to wait for the training before."""

COUNTED = 200
"""Rows whose tokens are counted, of those that were read."""


@dataclass(frozen=True)
class Ruler:
    """How a dry run measures text in tokens: with the base's own tokenizer, or by a rate where there is none.

    A recipe with a vocabulary is measured by the rate: its pieces are not learnt yet, and without them text in a
    language that the base does not know has several times the tokens.
    """

    renderer: Renderer | None = None

    @classmethod
    def of(cls, recipe: Recipe, shared: Shared | None = None) -> Ruler:
        """Return the ruler of a recipe's base.

        Args:
            recipe: of a run.
            shared: with recipes looked at before; None: nothing.

        Raises:
            UsageError: as `load_renderer`.
        """
        folder = local_folder(recipe.model, recipe.revision)
        if folder is None or recipe.vocabulary is not None:
            return cls()
        try:
            return cls((shared or Shared()).renderer(recipe, folder))
        except ModelError:  # a run cannot use it either, which the trial tells
            return cls()

    def tokens(self, texts: Sequence[str]) -> float:
        """Return the mean tokens of texts."""
        if self.renderer is None:
            return sum(map(len, texts)) / CHARACTERS_PER_TOKEN / max(1, len(texts))
        sample = _evenly(texts)
        return sum(self.renderer.count_many(sample)) / max(1, len(sample))

    def pairs(self, pairs: Sequence[Pair], wording: str) -> tuple[float, float]:
        """Return the mean tokens of a pair as an example: of the request, and of the reference as the answer.

        Args:
            pairs: of many, some are counted, spread evenly.
            wording: of the request.
        """
        if self.renderer is None:
            request = PROMPT_OVERHEAD_TOKENS + self.tokens([pair.source for pair in pairs])
            return request, self.tokens([pair.target for pair in pairs])
        rendered = self.renderer.render_many([translation_example(pair, [wording], 0) for pair in _evenly(pairs)])
        rows = [row for row in rendered if isinstance(row, Rendered)]
        learnt = sum(row.supervised for row in rows) / max(1, len(rows))
        return sum(len(row.input_ids) for row in rows) / max(1, len(rows)) - learnt, learnt

    def prompts(self, prompts: Sequence[Prompt]) -> float:
        """Return the mean tokens of conversations up to the answer, with all that the chat template adds."""
        counts = []
        for prompt in _evenly(prompts) if self.renderer else ():
            with suppress(UsageError, DataError):  # a run rejects this prompt with its reason
                counts.append(len(self.renderer.prompt_ids(prompt.messages).ids))  # type: ignore[union-attr]
        return sum(counts) / len(counts) if counts else 2.0 * PROMPT_OVERHEAD_TOKENS


def _evenly(rows: Sequence[T]) -> Sequence[T]:
    return rows[:: max(1, -(-len(rows) // COUNTED))]


@dataclass(frozen=True)
class TextEstimate:
    """The mean of some texts."""

    tokens: float
    sentences: float

    @classmethod
    def of(cls, texts: list[str], ruler: Ruler) -> TextEstimate:
        """Measure texts; sentences are those that a graft would be asked to translate."""
        count = max(1, len(texts))
        sentences = sum(piece.translate for text in texts for piece in split_text(text.strip(), lang="en"))
        return cls(ruler.tokens(texts), sentences / count)

    @classmethod
    def long(cls, tokens: float) -> TextEstimate:
        """Return texts of so many tokens that are not at hand."""
        return cls(tokens, max(1.0, tokens / SENTENCE_TOKENS))


def _at_most(expected: int, sources: Sources) -> int:
    """Return how many of the expected prompts there are at most, by the limits of their sources."""
    limits = [source.limit for source in sources if source.limit]
    return min(expected, sum(limits)) if limits and len(limits) == len(sources) else expected


def _halves(recipe: Recipe, count: int) -> dict[str, Any]:
    """Return how so many prompts are divided: for replay, to measure what is kept, to measure training while it goes
    on."""
    replay = count // 2
    dev = held_count(replay) if recipe.prompts and recipe.pairs.has_dev else 0
    return {"count": replay - dev, "held": count - replay, "dev": dev}


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts of the replay half: about how many, their last questions, and the answers that came with them.

    `count`: without `dev`, those that a development set holds back. `held`: how many the retention half has.
    `request`: tokens of a whole conversation up to its answer. `sources`: prompts of each source, both halves; nothing
    where they are not at hand.
    """

    count: int
    held: int
    dev: int
    questions: TextEstimate
    references: TextEstimate | None = None
    request: float = 2.0 * PROMPT_OVERHEAD_TOKENS
    sources: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, ruler: Ruler) -> Prompts:
        """Count a recipe's prompts in their files, or take what it expects where any are on the hub."""
        sources = recipe.prompts or []
        if not sources or any(source.path.startswith("hub:") for source in sources):
            rows = recipe.expected.prompts if recipe.expected else Expected().prompts
            count = _at_most(rows, sources)
            return cls(**_halves(recipe, count), questions=TextEstimate.long(PROMPT_OVERHEAD_TOKENS))
        read = [(number, row) for number, row in prompts_read(sources, None) if not isinstance(row, Rejected)]
        found, counts = [prompt for _, prompt in read], Counter(number for number, _ in read)
        references = [prompt.reference for prompt in found if prompt.reference]
        questions = TextEstimate.of([prompt.messages[-1].content for prompt in found], ruler)
        answers = TextEstimate.of(references, ruler) if references else None
        return cls(
            **_halves(recipe, len(found)),
            questions=questions,
            references=answers,
            request=ruler.prompts(found),
            sources={label: counts[number] for number, label in enumerate(labels(sources))},
        )

    def __str__(self) -> str:
        """How many there are, of which sources."""
        from_each = ", ".join(f"{count:,} of {label}" for label, count in self.sources.items())
        total = self.count + self.dev + self.held
        return f"{total:,} general prompts{f' ({from_each})' if from_each else ''}, about half of them for replay"

    def used(self, part: Part) -> int:
        """Return how many prompts a method uses: of these, or as many as it lets the base write."""
        count = METHODS.create(part).own_prompts or self.count
        return min(count, part.params.get("max_prompts") or count)

    def answers(self, part: Part) -> TextEstimate:
        """Return the answers that a method with its parameters trains on."""
        method, params = METHODS.read(part)
        written = method.expected_tokens(params)
        if not written and self.references:
            return self.references
        return TextEstimate.long(written or 0.75 * part.params.get("max_answer_tokens", 0))


@dataclass(frozen=True)
class Documents:
    """The documents to pre-train on: their tokens, and of each language how many are held out, of what mean length."""

    tokens: float
    held: Sequence[tuple[int, float]] = ()

    @classmethod
    def of(cls, recipe: Recipe, ruler: Ruler) -> Documents:
        """Count a recipe's documents in their files, or take what it expects of those on the hub."""
        limits = recipe.text_checks
        if any(source.path.startswith("hub:") for source in recipe.texts):
            languages = {base_language(source.lang) for source in recipe.texts}
            held = [(limits.heldout_documents if limits.heldout_share else 0, math.inf)] * len(languages)
            return cls(recipe.expected.text_tokens if recipe.expected else 0.0, held)
        found: dict[str, list[int]] = {}  # documents and characters of each language
        tokens = 0.0
        for source in recipe.texts:
            documents, characters, sample = 0, 0, list[str]()
            for row in islice(read_texts(source), source.limit):
                if not isinstance(row, Rejected):
                    documents, characters = documents + 1, characters + len(row.record.text)
                    if len(sample) < COUNTED:
                        sample.append(row.record.text)
            tokens += characters * ruler.tokens(sample) * len(sample) / max(1, sum(map(len, sample)))
            counts = found.setdefault(base_language(source.lang), [0, 0])
            counts[0] += documents
            counts[1] += characters
        held = [(held_out(count, limits), characters / max(1, count)) for count, characters in found.values()]
        return cls(tokens, held)


@dataclass(frozen=True)
class TranslationEstimate:
    """What is carried to another language so that a stage can be trained: prompts and answers, sentence by sentence.

    `engine`: who translates; "" is the graft of the stage before.
    """

    prompts: int
    sentences: float
    tokens: float
    engine: str

    @property
    def note(self) -> str:
        """What the number of tokens is made of, and who writes them."""
        by = f"engine {self.engine}; its time is not counted" if self.engine else BY_BEFORE
        return f"{self.sentences:,.0f} sentences of {self.prompts:,} prompts and answers, by {by}"


def translation(prompts: Prompts, part: Part, engine: str) -> TranslationEstimate:
    """Return what a method has translated, by an engine of this kind ("": by the graft of the stage before).

    A translation is taken to be as long as its source: the vocabulary is extended to that end.
    """
    used, answers = prompts.used(part), prompts.answers(part)
    return TranslationEstimate(
        used,
        used * (prompts.questions.sentences + answers.sentences),
        used * (prompts.questions.tokens + answers.tokens),
        engine,
    )
