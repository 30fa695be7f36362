"""A chat template opened at the user's turn, so that a model writes itself what it might be asked."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import UsageError
from lingraft.data.records import Message, UserTurn
from lingraft.language.characters import is_blank
from lingraft.rendering.encoder import Encoder, Piece
from lingraft.rendering.template import MARK, ChatTemplate


def open_user_turn(template: ChatTemplate, encoder: Encoder, end_ids: Sequence[int], system: str | None) -> UserTurn:
    """Return a conversation that ends where the user's text begins.

    Blanks at its end, which belong to the first word of a text, are left to the model, as in `Renderer.prompt_ids`.

    Args:
        template: of the model.
        encoder: of its tokenizer.
        end_ids: tokens that end a turn of the model.
        system: the system message; None: what the template puts there by itself, if anything.

    Raises:
        UsageError: nothing stands before the user's text, or behind it; or the template takes no system message.
    """
    mark = MARK.format("user")
    opening = [] if system is None else [Message("system", system)]
    rendered = template.render([*opening, Message("user", mark)], opened=True)
    before, found, after = rendered.rpartition(mark)
    if not found or mark in before or is_blank(before) or is_blank(after):
        raise UsageError(
            f"the chat template of {template.name} does not show where a user's text begins and ends, so that the "
            f"model cannot write prompts itself; give `prompts:` in the recipe and set the parameter `prompts: given`"
        )
    body = before.rstrip(" \t")
    control = encoder.control.search(after)
    if control is None:  # plain text such as `[/INST]`
        return UserTurn(before, _ids(encoder, body, before), stop=(after.strip(),))
    end = encoder.ids([Piece(control.group(), True)])[-1]
    return UserTurn(before, _ids(encoder, body, before), ends=() if end in end_ids else (end,))


def _ids(encoder: Encoder, body: str, before: str) -> tuple[int, ...]:
    """Return the tokens of a text as they are where a word follows it: newlines may split otherwise there."""
    blanks = before[len(body) :]
    word = blanks + "A" if blanks or body[-1].isspace() else "A"
    placed = encoder.encode([Piece(body, True), Piece(word, False)])
    keep = sum(start < len(body) for start in placed.starts)
    if placed.starts[keep : keep + 1] != [len(body)]:  # a token straddles the place
        return tuple(encoder.ids([Piece(body, True)]))
    return tuple(placed.ids[:keep])
