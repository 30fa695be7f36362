"""What a method sees and gives beside its examples: the data of a run, what scores, counts for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.data.records import Pair, Prompt, Text, UserTurn
from lingraft.translation.markers import Markers


@dataclass(frozen=True, kw_only=True)
class Available:
    """What a recipe has for its methods, as far as it says so itself: before any file is read.

    Attributes:
        directions: (source, target) languages of the pairs that are trained on.
        prompts, texts: whether there are any.
    """

    directions: tuple[tuple[str, str], ...] = ()
    prompts: bool = False
    texts: bool = False


Score = Callable[[str | Mapping[str, Any], Sequence[Pair], Sequence[str]], list[float]]
"""See `MethodInputs.score`."""


def unscored(metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
    """Refuse to score: nobody has given inputs what scores.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"the metric {metric!r} is asked for, and nothing scores here; give `MethodInputs` a `score`")


@dataclass(frozen=True)
class MethodInputs:
    """What a method sees.

    Attributes:
        pairs: training pairs.
        prompts: general prompts of the replay half.
        seed: of the run.
        prepared: what the method's own `prepare` decided.
        texts: documents to pre-train on.
        markers: of the recipe's extended vocabulary; None where it has none.
        english_opening: where there are markers, whether what is trained will be asked for English answers behind the
            marker that opens them: whether it holds conversations through the translation chain of thought.
        user_turn: opens the base's chat template where a user's text begins, behind a system message (None: what the
            template has); raises UsageError where that cannot be done.
        numbers: token ids of the base that are a whole number from 0 to 10, with these.
        most_prompts: that the base is let write, where a method has it write prompts; None: as many as it wants.
        held_out: whether a text shares a whole text or a long run of words with what the run measures on; None: not
            known.
        score: gives each text its score as a translation of the pair at its place, by a metric's name or by its `kind`
            and parameters; NaN where that has nothing to measure. In a run scores are kept: none is made twice.
    """

    pairs: Sequence[Pair]
    prompts: Sequence[Prompt] = ()
    seed: int = 0
    prepared: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[Text] = ()
    markers: Markers | None = None
    english_opening: bool = True
    user_turn: Callable[[str | None], UserTurn] | None = None
    numbers: Mapping[int, int] = field(default_factory=dict)
    most_prompts: int | None = None
    held_out: Callable[[str], bool] | None = None
    score: Score = unscored


@dataclass
class Tally:
    """Counts a method keeps for the report: rationales (or answers) kept and dropped, by reason."""

    filters: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Likeness:
    """Two sets of texts whose similarity is told before anything is trained.

    Attributes:
        taught: makes the texts that are trained on.
        own: makes those that the base itself has written.
        embedder: embedding model that compares them, by path or hub id; None: the base's hidden states.
    """

    taught: Callable[[], Iterator[str]]
    own: Callable[[], Iterator[str]]
    embedder: str | None = None
