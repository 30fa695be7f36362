"""`lingraft serve`: an endpoint for chats and translations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.cli.layouts import RUN_CODE
from lingraft.cli.options import (
    DecoderOption,
    EnglishTokens,
    GlossaryOption,
    GraftOption,
    ModelOption,
    NativeTokens,
    ParamOption,
    QueryTokens,
    RouteOption,
    decoder_choice,
    given,
    parameters,
    refuse_ignored,
    refuse_without_chain,
)
from lingraft.core.errors import options as names

IN_MEMORY = ("transformers", "auto")
"""Engines with which the model may be in this process."""


def serve(
    context: typer.Context,
    graft: GraftOption = None,
    model: ModelOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    route: RouteOption = "",
    decoder: DecoderOption = "",
    param: ParamOption = None,
    glossary: GlossaryOption = None,
    name: Annotated[str, typer.Option("--name", help="Of the model, for clients; by default its folder's.")] = "",
    max_query_tokens: QueryTokens = 512,
    max_english_tokens: EnglishTokens = 1024,
    max_native_tokens: NativeTokens = 1024,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Where a request names none; 0: always the most probable token.")
    ] = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Requests answered at once; 1: in turn.")] = 32,
    batch_tokens: Annotated[
        int,
        typer.Option("--batch-tokens", min=256, help="Most tokens of these, padding and room for answers included."),
    ] = 24_576,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Requests that may wait beside those.")] = 16,
    queue_tokens: Annotated[
        int, typer.Option("--queue-tokens", min=1, help="Most tokens, read and written, of all requests in it.")
    ] = 131_072,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option("--max-prompt-tokens", min=1, help="Longest conversation; default: the model's context."),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Most open at once; fewer where `ulimit -n` says so.")
    ] = 256,
    glossaries: Annotated[
        Path | None,
        typer.Option("--glossaries", help="Folder that keeps glossaries which clients send; default: in memory."),
    ] = None,
    without_key: Annotated[
        bool,
        typer.Option("--without-key", help="On any address, let whoever reaches it ask, without LINGRAFT_API_KEY."),
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Web pages of this origin may ask (CORS): https://cat.example.org; repeatable; *: all, with a key.",
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside",
            metavar="[NAME=]GRAFT",
            help="A further graft of the same base, asked for by its name; repeatable. The base is `base` then.",
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Serve a page, too, in which base and grafts are asked side by side.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="What writes: transformers (in this process), vllm (on this machine) or openai (a server).",
            autocompletion=names_of("engines"),
        ),
    ] = "transformers",
    engine_param: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-param", help="A parameter of the engine: base_url=http://127.0.0.1:8001/v1; once for each."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Not a line for each answer.")] = False,
) -> None:
    """Serve a graft, or a base, to programs that speak the OpenAI protocol (chat completions, also streamed), and to
    clients of LibreTranslate and of DeepL.

    A graft with a translation chain of thought answers in the language of the question; clients see only that, and
    the English chain where they ask for it. With --decoder, requests that are worded as the graft was trained to be
    asked for translations are answered in its steps, all others as before. Requests are written together in batches.
    If the environment variable LINGRAFT_API_KEY is set, clients must send it; on another address than this machine's
    own it must be set, or --without-key given. Needs the extra `serve`.

    With --beside, one model in memory answers as several: the graft, those beside it and their base, each by its name.
    With --engine vllm or openai, this process has no weights: prompts are worded and rendered here as the graft was
    trained, and the engine writes, many at once; what it cannot give is refused.

    With --page, the address itself is a page for the browser: they answer side by side, translate texts and documents,
    and are rated.
    """
    chosen = decoder_choice(decoder, param or [], glossary)
    refuse_without_chain(context, graft)
    if engine not in IN_MEMORY:
        refuse_ignored(context, given(context).keys() - {"batch_tokens"}, f"with the engine {engine}")
    from lingraft.conversation.chain import Caps
    from lingraft.serving.endpoint import ServeOptions
    from lingraft.serving.systems import named_grafts

    options = ServeOptions(
        host,
        port,
        name,
        Caps(max_query_tokens, max_english_tokens, max_native_tokens),
        temperature,
        queue,
        tokens=queue_tokens,
        batch=batch,
        batch_tokens=batch_tokens,
        most_read=max_prompt_tokens,
        connections=connections,
        without_key=without_key,
        route=route,
        decoder=chosen,
        beside=named_grafts(beside or []),
        glossaries=glossaries,
        page=page,
        origins=allow_origin or [],
        engine={**parameters(engine_param or [], "concurrency=64", "--engine-param"), "kind": engine},
    )
    with names(RUN_CODE):
        api.serve(graft or None, model=model, options=options, quiet=quiet)
