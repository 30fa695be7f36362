"""Running text that a model goes on with, token by token, without a chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from lingraft.conversation.chain import COMPLETE
from lingraft.conversation.writing import (
    Clock,
    Done,
    Event,
    MakeWriter,
    PartStart,
    TextDelta,
    TokenWriter,
    Written,
    never,
)
from lingraft.data.records import TEXT, Segment
from lingraft.models.loading import AskedModel


def stream_text(
    loaded: AskedModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    enough: Callable[[], bool] = never,
    top: int | None = None,
    writing: MakeWriter = TokenWriter,
) -> Iterator[Event]:
    """Yield the events of what a model writes behind a text: one visible part of role "text", then `Done`.

    The text is given as it comes, white space and tags of thoughts included, up to the end that the model writes.

    Args:
        loaded: the model, its graft on.
        prompt: ids; not empty.
        max_new_tokens: most tokens that are written.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from; 1 for all.
        seed: of the sampling.
        enough: asked before each token; True ends the text as if the model had ended it.
        top: see `TokenWriter`.
        writing: begins to write behind a prompt.

    Raises:
        EngineError: the prompt fills the model's context.
    """
    clock, renderer = Clock(), loaded.renderer
    writer = writing(loaded, prompt, temperature=temperature, top_p=top_p, seed=seed, most=max_new_tokens, top=top)
    text, state, given, count = writer.text(behind=prompt), "unfinished", "", 0
    waiting: list[Written] = []
    with closing(writer):
        yield from writer.read()
        yield PartStart(TEXT, False, True)
        while writer.room > 0:
            if enough():
                state = COMPLETE
                break
            token = yield from writer.next()
            if token is None:
                break
            clock.token()
            if token in renderer.end_ids:
                state = COMPLETE
                break
            writer.accept(token)
            count += 1
            waiting += [writer.noted] if writer.noted else []
            if more := text.step(token):
                clock.shown(more)
                given += more
                yield TextDelta(TEXT, more, True, tuple(waiting))
                waiting.clear()
        if left := text.rest():
            clock.shown(left)
            given += left
            yield TextDelta(TEXT, left, True, tuple(waiting))
    yield Done(
        text=given,
        segments=(Segment(TEXT, given, count),),
        timing=clock.timing(len(prompt)),
        state=state,
        failure="" if state == COMPLETE else state,
        lang="",
    )
