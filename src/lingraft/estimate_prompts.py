"""What a dry run can know of general prompts and their answers: how many, how long, and what translating them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lingraft.data.readers import read_prompts
from lingraft.data.records import Rejected
from lingraft.data.sentences import split_text
from lingraft.methods import METHODS
from lingraft.recipe import Recipe
from lingraft.recipe_stages import Expected

CHARACTERS_PER_TOKEN = 3.0
PROMPT_OVERHEAD_TOKENS = 35
SENTENCE_TOKENS = 25
"""Of a sentence of text that is not written yet: about 75 characters."""


@dataclass(frozen=True)
class Texts:
    """The mean of some texts."""

    tokens: float
    sentences: float

    @classmethod
    def of(cls, texts: list[str]) -> Texts:
        """Measure texts; sentences are those that a graft would be asked to translate."""
        count = max(1, len(texts))
        sentences = sum(piece.translate for text in texts for piece in split_text(text.strip()))
        return cls(sum(map(len, texts)) / CHARACTERS_PER_TOKEN / count, sentences / count)

    @classmethod
    def long(cls, tokens: float) -> Texts:
        """Return texts of so many tokens that are not at hand."""
        return cls(tokens, max(1.0, tokens / SENTENCE_TOKENS))


@dataclass(frozen=True)
class Prompts:
    """The prompts of the replay half: about how many, their last questions, and the answers that came with them."""

    count: int
    questions: Texts
    references: Texts | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Prompts:
        """Count a recipe's prompts in their file, or take what it expects of those on the hub."""
        if recipe.prompts is None or recipe.prompts.path.startswith("hub:"):
            rows = recipe.expected.prompts if recipe.expected else Expected().prompts
            count = min(rows, (recipe.prompts.limit if recipe.prompts else None) or rows)
            return cls(count // 2, Texts.long(PROMPT_OVERHEAD_TOKENS))
        found = [row.record for row in read_prompts(recipe.prompts) if not isinstance(row, Rejected)]
        count = min(len(found), recipe.prompts.limit or len(found))
        references = [prompt.reference for prompt in found[:count] if prompt.reference]
        questions = Texts.of([prompt.messages[-1].content for prompt in found[:count]])
        return cls(count // 2, questions, Texts.of(references) if references else None)

    def used(self, params: Mapping[str, Any]) -> int:
        """Return how many of them a method with these parameters uses."""
        return min(self.count, params.get("max_prompts") or self.count)

    def answers(self, method: str, params: Mapping[str, Any]) -> Texts:
        """Return the answers that a method with these parameters trains on."""
        entry = METHODS.get(method)
        written = entry.expected_tokens(entry.Params.model_validate(dict(params)))
        if not written and self.references:
            return self.references
        return Texts.long(written or 0.75 * params.get("max_answer_tokens", 0))


@dataclass(frozen=True)
class Translation:
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
        by = f"engine {self.engine}; its time is not counted" if self.engine else "the graft of the stage before"
        return f"{self.sentences:,.0f} sentences of {self.prompts:,} prompts and answers, by {by}"


def translation(prompts: Prompts, method: str, params: Mapping[str, Any]) -> Translation | None:
    """Return what a method has translated, None where it asks nobody.

    A translation is taken to be as long as its source: the vocabulary is extended to that end.
    """
    entry = METHODS.get(method)
    opened = entry(entry.Params.model_validate(dict(params)))
    if not (opened.asks_before or opened.translator):
        return None
    used, answers = prompts.used(params), prompts.answers(method, params)
    return Translation(
        used,
        used * (prompts.questions.sentences + answers.sentences),
        used * (prompts.questions.tokens + answers.tokens),
        str(opened.translator["kind"]) if opened.translator else "",
    )
