"""From written tokens to a `Generation`: the conventions on text, end and stop strings that all engines share."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import TooLongError
from lingraft.data.records import Generation, Request
from lingraft.rendering.renderer import PromptIds, Renderer
from lingraft.rendering.turn import MARKER

TopLogprobs = tuple[tuple[int, float], ...]


def prompt_of(renderer: Renderer, request: Request) -> PromptIds:
    """Return the token ids of a request's prompt: its own, or those of its messages in the chat template."""
    if request.prompt_ids:
        return PromptIds(request.prompt_ids)
    return renderer.prompt_ids(request.messages, request.prefill, request.turn)


def prompt_within(renderer: Renderer, request: Request, context: int) -> PromptIds:
    """Return the token ids of a request's prompt.

    Args:
        renderer: of the model's tokenizer.
        request: with the number of tokens that its answer may have.
        context: tokens that the model can hold, prompt and answer together.

    Raises:
        TooLongError: they leave no room for the answer.
    """
    prompt = prompt_of(renderer, request)
    if context - len(prompt.ids) < request.sampling.max_new_tokens:
        raise TooLongError(
            request.id,
            f"{len(prompt.ids)} prompt tokens leave no room for {request.sampling.max_new_tokens} more in the model's "
            f"context of {context}",
        )
    return prompt


def finished(
    renderer: Renderer,
    request: Request,
    prompt: PromptIds,
    tokens: Sequence[int],
    logprobs: Sequence[TopLogprobs] = (),
) -> Generation | None:
    """Return the generation that `tokens` are, None if it has not ended.

    It ends before the first token that ends a turn or the request's text, before the first stop string (its last token
    is kept in `token_ids`) or with the last token allowed. Tokens behind the end are padding of a row that waited for
    others.

    Args:
        renderer: of the model's tokenizer.
        request: that is answered.
        prompt: its ids, as `prompt_within` returns them.
        tokens: written after the prompt.
        logprobs: of each token, if the request asks for them.
    """
    ends = (*renderer.end_ids, *request.ends)
    length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    kept, reason = list(tokens[:length]), "stop" if length < len(tokens) else "length"
    text = _text(renderer, request, prompt, kept)
    cut, stop = before_stop(text, request.sampling.stop)
    if stop:
        text, reason = cut, "stop_string"
        while stop in _text(renderer, request, prompt, kept[:-1]):
            kept = kept[:-1]
    elif reason == "length" and length < request.sampling.max_new_tokens:
        return None
    steps = len(kept) + (reason == "stop")  # that of the end token, too
    best = tuple(logprobs[:steps]) if request.top_logprobs else None
    return Generation(request.id, without_lead(text, request, prompt), tuple(kept), reason, best)


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """Return the text before the first stop string, and that string; all of it and "" if there is none."""
    hits = [(text.find(stop), stop) for stop in stops if stop in text]
    if not hits:
        return text, ""
    position, stop = min(hits)
    return text[:position], stop


def without_lead(text: str, request: Request, prompt: PromptIds) -> str:
    """Remove the white space that belongs to the prefill, or that SentencePiece puts before the first word of a text
    or after a marker.

    It goes last: a stop string may begin with it.

    Args:
        text: as decoded, behind the prompt.
        request: that is answered; one with token ids of its own gets the text as it is.
        prompt: its ids, and the white space dropped at its end.
    """
    if request.prompt_ids:
        return text
    within = request.turn[-1].role != MARKER if request.turn else bool(request.prefill)
    return text.removeprefix(prompt.dropped or ("" if within else " "))


def _text(renderer: Renderer, request: Request, prompt: PromptIds, tokens: Sequence[int]) -> str:
    """Decode; in running text with a little context, because some tokenizers drop the space before a first word."""
    if not (request.prefill or request.turn or request.prompt_ids):
        return renderer.decode(tokens)
    for length in (4, 32, len(prompt.ids)):
        context = prompt.ids[-length:]
        before = renderer.decode(context)
        if "\ufffd" not in before:  # else it begins within a character, which can spoil the ones after it
            break
    return renderer.decode([*context, *tokens])[len(before) :]
