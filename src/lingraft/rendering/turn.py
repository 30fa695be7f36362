"""From spans to the pieces that are tokenised, and from the tokens back to the spans they belong to.

A marker (span of role "marker") is a control token, and one token only. White space beside it is none of the text's: it
is removed, and where the tokenizer by itself opens the stretch after a control token as it opens a text, nothing stands
between marker and text. Where it does not (Mistral v0.3) the gap is the space with which its template opens an answer.
So the words after a marker are the tokens that the base writes where it answers, in training text, in the turns that
are continued, and in what is written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from lingraft.core.errors import DataError
from lingraft.data.records import Span
from lingraft.rendering.encoder import Encoder, Piece

MARKER = "marker"
END_WEIGHT = 1.0
"""Of the tokens that end a turn. They belong to the last span, but that its text counts little (a rationale's, say) is
no reason to learn less well where to stop."""


@dataclass(frozen=True)
class Turn:
    """Spans before they are tokenised.

    Attributes:
        texts: what stands for each span.
        lead: white space before the first of them.
    """

    spans: tuple[Span, ...]
    texts: list[str]
    lead: str

    @property
    def pieces(self) -> list[Piece]:
        """The lead and the texts."""
        texts = (Piece(text, span.role == MARKER) for text, span in zip(self.texts, self.spans, strict=True))
        return [Piece(self.lead, True), *texts]

    @property
    def beginning(self) -> list[Piece]:
        """The pieces of a turn that is to be continued: empty ones are left out, texts without marker between joined.

        Empty if there is no text at all.
        """
        joined: list[Piece] = []
        for piece in self.pieces[1:]:
            if not piece.literal and joined and not joined[-1].literal:
                joined[-1] = Piece(joined[-1].text + piece.text, False)
            elif piece.text:
                joined.append(piece)
        return [Piece(self.lead, True), *joined] if joined else []

    @property
    def supervised(self) -> bool:
        """Whether any text has a weight."""
        return any(text and span.weight > 0 for text, span in zip(self.texts, self.spans, strict=True))


def open_turn(spans: Sequence[Span], encoder: Encoder, lead: str, gap: str, *, end: bool) -> Turn:
    """Return a turn: white space at its beginning, beside markers and, if it comes to its `end`, there is removed.

    Args:
        spans: texts and markers, in order.
        encoder: tells which markers are control tokens.
        lead: white space that the template puts before an answer's text.
        gap: the same after a marker.
        end: whether the turn ends here; else it is to be continued.

    Raises:
        DataError: a marker that is no control token of the tokenizer.
    """
    texts = [span.text for span in spans]
    fresh, opening = True, ""
    for number, span in enumerate(spans):
        if span.role == MARKER:
            if not encoder.control.fullmatch(span.text):
                raise DataError(
                    f"the tokenizer has no token {span.text!r}: extend the vocabulary by it (`vocabulary:` of the "
                    f"recipe), or use the model that was trained with it"
                )
            lead = lead if any(texts[:number]) else ""  # it belongs to words
            _strip_end(texts, spans, number)
            fresh, opening = True, gap
        elif fresh:
            text = texts[number].lstrip()
            texts[number] = opening + text if text else ""
            fresh = not text
    if end:
        _strip_end(texts, spans, len(spans))
    return Turn(tuple(spans), texts, lead)


def _strip_end(texts: list[str], spans: Sequence[Span], before: int) -> None:
    """Remove the white space at the end of the text before a place."""
    for number in reversed(range(before)):
        if spans[number].role == MARKER:
            return
        texts[number] = texts[number].rstrip()
        if texts[number]:
            return


def assign(turn: Turn, starts: Sequence[int], begin: int) -> tuple[list[float], list[int]]:
    """Return weight and span of each token of a turn; a token belongs to the span that holds its first character.

    The last span has what comes after it, too: the end of the turn, whose tokens weigh `END_WEIGHT`, or nothing where
    no token of the texts has a weight.

    Args:
        turn: from `open_turn`.
        starts: first character of each token.
        begin: first character of the turn, its lead included.
    """
    bounds = [begin + len(turn.lead) + length for length in accumulate(map(len, turn.texts))]
    reached = list(accumulate(starts, max))
    filled = [number for number, text in enumerate(turn.texts) if text]
    ends = [bisect_left(reached, bounds[number]) for number in filled[:-1]] + [len(reached)]
    weights: list[float] = []
    span_of: list[int] = []
    for number, (start, stop) in zip(filled, pairwise([0, *ends]), strict=True):
        weights += [turn.spans[number].weight] * (stop - start)
        span_of += [number] * (stop - start)
    last = bisect_left(reached, bounds[-1])
    if any(weights[:last]):
        weights[last:] = [END_WEIGHT] * (len(weights) - last)
    return weights, span_of
