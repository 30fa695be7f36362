"""`lingraft chat`: a conversation in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft.cli.options import EnglishTokens, GraftOption, ModelOption, NativeTokens, QueryTokens


def chat(
    graft: GraftOption = None,
    model: ModelOption = None,
    language: Annotated[
        str, typer.Option("--language", help="Answer in this language, e.g. th; by default in the question's.")
    ] = "",
    show_chain: Annotated[
        bool, typer.Option("--show-chain", help="Print the English query and answer, too, dimmed.")
    ] = False,
    max_query_tokens: QueryTokens = 512,
    max_english_tokens: EnglishTokens = 1024,
    max_native_tokens: NativeTokens = 1024,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: always the most probable token.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = 0,
    system: Annotated[str, typer.Option("--system", help="System message.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a turn, with segments, tokens and seconds.")
    ] = False,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Say after each turn: time to the first word, tokens by part, what failed."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Talk to a graft, or to a base: each line of standard input is a turn.

    A graft with a translation chain of thought thinks in English and answers in your language; earlier turns are shown
    to it in English. /reset begins a new conversation, /quit ends, /help says so; Ctrl-C ends a reply.
    """
    from lingraft.cli.chat import chat_command
    from lingraft.conversation.chain import Caps
    from lingraft.conversation.session import ChatOptions

    caps = Caps(max_query_tokens, max_english_tokens, max_native_tokens)
    options = ChatOptions(language, show_chain, caps, temperature, seed, system, as_json, stats)
    chat_command(graft, model, options, quiet)
