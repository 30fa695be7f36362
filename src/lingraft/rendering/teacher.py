"""How the distributions that a teacher recorded are laid on the tokens of a rendered example.

A teacher's text is rendered as part of a whole assistant turn, whose tokens need not be those the teacher wrote: at
its edges text merges with its neighbours, and its end may have been cut. A token gets the teacher's distribution only
where the teacher wrote the same token for the same characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lingraft.core.errors import ExampleError
from lingraft.data.records import Example, Teacher
from lingraft.rendering.rows import Placed, RenderedTeacher


def place(tokenizer: Tokenizer, anchor: Sequence[int], ids: Sequence[int]) -> Placed:
    """Return generated ids with the characters they stand for; those after the last whole character are left out.

    Args:
        tokenizer: decodes the ids.
        anchor: ids of some text to go before them: some tokenizers drop a space at the beginning of a text.
        ids: in running text.
    """
    stream = DecodeStream(skip_special_tokens=True)
    for token in anchor:
        stream.step(tokenizer, token)
    placed = Placed([], [], [], "")
    parts: list[str] = []
    waiting = at = 0
    for token in ids:
        waiting += 1
        part = stream.step(tokenizer, token)
        if part is not None:  # else within a character
            parts.append(part)
            placed.starts.extend([at] * waiting)
            placed.ends.extend([at + len(part)] * waiting)
            at += len(part)
            waiting = 0
    return Placed(list(ids[: len(placed.starts)]), placed.starts, placed.ends, "".join(parts))


Found = tuple[int, tuple[tuple[int, float], ...]]
"""Position of a token, and the recorded (id, log-probability) pairs of it."""


def align(
    teacher: Teacher, written: Placed, turn: Placed, tokens: range, begin: int, end: int, end_ids: Sequence[int]
) -> Iterator[Found]:
    """Yield the distributions of a span's tokens.

    The span's text must begin as the teacher's text does, but for white space; where they part, nothing more is found.
    A recorded distribution after the last token is that of the end of the turn.

    Args:
        teacher: what was recorded.
        written: the recorded tokens, placed.
        turn: the tokens of the whole example, placed.
        tokens: those of the span, end-of-turn tokens left out.
        begin: first character of the span in `turn.text`.
        end: character after its last.
        end_ids: ids that end a turn.
    """
    text = turn.text[begin:end]
    blank, blank_written = (len(t) - len(t.lstrip()) for t in (text, written.text))
    both = zip(text[blank:], written.text[blank_written:], strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
    shift = begin + blank - blank_written
    runs = {(start, stop): (first, after) for first, after, start, stop in turn.runs(tokens.start, tokens.stop)}
    for first, after, start, stop in written.runs(0, len(written.ids)):
        own_first, own_after = runs.get((start + shift, stop + shift), (0, 0))
        if (
            stop <= blank_written + same
            and written.ids[first:after] == turn.ids[own_first:own_after]
            and written.text[start:stop] == turn.text[start + shift : stop + shift]
        ):
            yield from zip(range(own_first, own_after), teacher.logprobs[first:after], strict=True)
    finished = len(teacher.logprobs) == len(teacher.token_ids) + 1 and len(written.ids) == len(teacher.token_ids)
    last = tokens.stop
    if (
        finished
        and blank_written + same == len(written.text)
        and len(written.text) + shift == end
        and turn.ids[last : last + 1]
        and turn.ids[last] in end_ids
        and turn.starts[last] == end
    ):
        yield last, teacher.logprobs[-1]


def recorded(
    example: Example,
    turn: Placed,
    span_of: Sequence[int],
    bounds: Sequence[int],
    written: Callable[[Sequence[int]], Placed],
    end_ids: Sequence[int],
) -> RenderedTeacher | None:
    """Return the recorded distributions of an example's supervised tokens, None if no span has a teacher.

    Args:
        example: whose spans may have teachers.
        turn: its tokens, placed.
        span_of: index of the span of each token, -1 for the prompt.
        bounds: where the texts of the spans begin, and the end of the last.
        written: places what a teacher wrote.
        end_ids: ids that end a turn.

    Raises:
        ExampleError: a teacher's tokens and its distributions differ in number.
    """
    if all(span.teacher is None for span in example.spans):
        return None
    found: list[Found] = []
    for index, span in enumerate(example.spans):
        if span.teacher is None or not span.weight or index not in span_of:
            continue
        teacher = span.teacher
        if len(teacher.logprobs) - len(teacher.token_ids) not in (0, 1) or not all(teacher.logprobs):
            raise ExampleError(
                example.id,
                f"its teacher wrote {len(teacher.token_ids)} tokens, but {sum(map(bool, teacher.logprobs))} "
                f"distributions are recorded; synthesise it again",
            )
        begin, end = bounds[index : index + 2]
        first = span_of.index(index)
        tokens = range(first, first + sum(start < end for start in turn.starts[first:]))
        found += align(teacher, written(teacher.token_ids), turn, tokens, begin, end, end_ids)
    return as_arrays(found)


def as_arrays(found: Sequence[Found]) -> RenderedTeacher:
    """Return aligned distributions as arrays."""
    k = max((len(best) for _, best in found), default=1)
    ids = [[token for token, _ in best] + [best[0][0]] * (k - len(best)) for _, best in found]
    logprobs = [[value for _, value in best] + [-math.inf] * (k - len(best)) for _, best in found]
    return RenderedTeacher(
        np.array([position for position, _ in found], dtype=np.int64),
        np.array(ids, dtype=np.int64).reshape(-1, k),
        np.array(logprobs, dtype=np.float32).reshape(-1, k),
    )
