"""Settings of a vocabulary that is learnt for the new language."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from lingraft.core.validation import Needs, Positive, Settings


class VocabularySettings(Settings):
    """How to extend the base's tokenizer; the defaults suit a language that the base hardly knows."""

    model_config = ConfigDict(frozen=True)
    needs: ClassVar[Needs] = {
        **{key: ("`size: auto`", lambda own: own.size == "auto") for key in ("min_gain", "max_size")},
        **{
            key: ("pieces to learn (`size`)", lambda own: own.size != 0)
            for key in ("min_count", "sample_characters", "marks_join_letters", "max_piece_characters")
        },
    }

    size: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Pieces to add; 0 adds the markers alone, auto weighs size against shorter texts."
    )
    languages: tuple[str, ...] = Field(
        (), description="Languages to learn from; default: all of the texts but English."
    )
    pad_multiple: Annotated[int, Field(gt=0, le=4096)] = Field(
        8, description="The embeddings get a multiple of this many rows."
    )
    init: Literal["mean", "random"] = Field(
        "mean", description="First value of a new row: the mean of the tokens it replaces, or random like the base's."
    )
    min_gain: float = Field(
        0.05, gt=0, lt=1, description="With auto: stop where twice the size shortens texts by a smaller share."
    )
    max_size: Positive = Field(32_000, description="With auto: the largest size tried.")
    min_count: Positive = Field(
        10, description="Occurrences in the texts that a piece needs: a rarer one would hardly be trained."
    )
    sample_characters: Positive = Field(
        20_000_000, description="Characters to learn from at most, shared by the languages; a random part of the texts."
    )
    marks_join_letters: bool = Field(
        True,
        description="Let combining marks stay in words, where a byte-level tokenizer would cut at every vowel sign.",
    )
    max_piece_characters: Positive = Field(16, description="Longest piece, the space before it not counted.")
