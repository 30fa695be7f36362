"""Rendering of plain text, outside of the chat template, as in pre-training.

A document is tokenised as a whole, as the tokenizer itself would (with its BOS token in front if it puts one there),
ended by its EOS token, and cut into rows of about equal length. The rows' ids, one after the other, are those of the
document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lingraft.core.errors import DataError, ExampleError
from lingraft.data.records import Example
from lingraft.rendering.encoder import Encoder
from lingraft.rendering.rows import Rendered
from lingraft.rendering.turn import END_WEIGHT, Turn, assign, open_turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOGETHER = 500_000
"""Characters of documents that are tokenised at once: bounds the memory, about 100 bytes a character."""


class PlainText:
    """Renders plain text for one tokenizer.

    Args:
        tokenizer: decides about BOS and EOS tokens.
        encoder: of the same tokenizer.
        gap: white space between a marker and its text.
        end_id: ends a text if the tokenizer has no EOS token.

    Attributes:
        bos: ids that go before a text: none, or one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoder: Encoder, gap: str, end_id: int) -> None:
        self._encoder, self._gap = encoder, gap
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        opened = tokenizer("a").input_ids[:1]
        self.bos: tuple[int, ...] = tuple(opened) if isinstance(bos, int) and opened == [bos] else ()
        self._eos = eos if isinstance(eos, int) else end_id

    def render(self, examples: Sequence[Example], max_length: int | None) -> Iterator[Rendered | ExampleError]:
        """Yield the rows of each example, or why it has none.

        Args:
            examples: without messages.
            max_length: longest row that the model can hold, in tokens; None: no limit.
        """
        waiting: list[Example] = []
        size = 0
        for example in examples:
            waiting.append(example)
            size += sum(len(span.text) for span in example.spans)
            if size >= TOGETHER:
                yield from self._together(waiting, max_length)
                waiting, size = [], 0
        yield from self._together(waiting, max_length)

    def _together(self, examples: Sequence[Example], max_length: int | None) -> Iterator[Rendered | ExampleError]:
        opened = [self._open(example) for example in examples]
        turns = [turn for turn in opened if isinstance(turn, Turn)]
        encoded = iter(self._encoder.continue_many([([], turn.pieces) for turn in turns]))
        for example, turn in zip(examples, opened, strict=True):
            if isinstance(turn, ExampleError):
                yield turn
                continue
            found = next(encoded)
            if isinstance(found, DataError):
                yield ExampleError(example.id, str(found))
                continue
            placed = found[0]
            weights, span_of = assign(turn, placed.starts, 0)
            end = [self._eos] if example.end_turn else []
            yield from _rows(
                example,
                [*self.bos, *placed.ids, *end],
                [0.0] * len(self.bos) + weights + [END_WEIGHT] * len(end),
                [-1] * len(self.bos) + span_of + [number for number in span_of[-1:] if end],
                max_length,
            )

    def _open(self, example: Example) -> Turn | ExampleError:
        if example.group or example.sign:
            return ExampleError(example.id, "it has no messages: plain text cannot be in a group")
        try:
            turn = open_turn(example.spans, self._encoder, "", self._gap, end=example.end_turn)
        except DataError as error:
            return ExampleError(example.id, str(error))
        if not turn.supervised:
            return ExampleError(example.id, "no supervised token: every span is empty or has weight 0")
        return turn


def _rows(
    example: Example, ids: list[int], weights: list[float], span_of: list[int], max_length: int | None
) -> Iterator[Rendered | ExampleError]:
    """Cut into rows; the first token of each has nothing before it from which it could be predicted."""
    if not example.block and max_length is not None and len(ids) > max_length:
        yield ExampleError(example.id, f"{len(ids)} tokens, more than the {max_length} allowed")
        return
    longest = min(example.block or len(ids), max_length or len(ids))
    if longest < 2:
        yield ExampleError(example.id, "no supervised token: it takes two in a row, of which the second is learnt")
        return
    count = -(-len(ids) // longest)
    losses, roles = tuple(span.loss for span in example.spans), tuple(span.role for span in example.spans)
    supervised = False
    for number in range(count):
        # Rows of like length: a short last one would be learnt with hardly any text before it.
        begin, end = number * len(ids) // count, (number + 1) * len(ids) // count
        row_weights = (0.0, *weights[begin + 1 : end])
        if not any(row_weights):
            continue
        supervised = True
        yield Rendered(
            f"{example.id}#{number}" if count > 1 else example.id,
            tuple(ids[begin:end]),
            row_weights,
            tuple(span_of[begin:end]),
            losses,
            roles,
        )
    if not supervised:
        yield ExampleError(example.id, "no supervised token: only the first of a row has a weight")
