"""`lingraft route`: when a graft is to answer, and when its base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.api.recipes import PROMPTS
from lingraft.cli.completion import names_of
from lingraft.cli.layouts import CHECK_OPTIONS, FileLayout
from lingraft.cli.options import Aligned, Fields, Format, Quiet, parameters
from lingraft.core.errors import UsageError, options
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def route(
    graft: Annotated[str, typer.Argument(help="Folder of the graft or of its run, or org/name[@revision] of the hub.")],
    pairs: Annotated[
        list[str] | None, typer.Option("--pairs", help="Pairs like those that it was trained on; repeatable.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", help="Source language of the pairs, e.g. de.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="Target language of the pairs, e.g. en.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompts", help="General prompts, half of which are learnt from; repeatable."),
    ] = None,
    by: Annotated[
        str,
        typer.Option("--by", help="What decides: `lingraft list deciders`.", autocompletion=names_of("deciders")),
    ] = "classifier",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="A parameter of it: max_examples=500; once for each.")
    ] = None,
    requests: Annotated[
        str, typer.Option("--requests", help="Requests with `route` (graft or base), by which it is measured.")
    ] = "starter:routing.jsonl",
    model: Annotated[str | None, typer.Option("--model", help="The base, if it is not where it was.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for a copy of the graft; default: its own gets it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 1,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Let a graft answer requests for translations alone, and its base all else: learn when, measure it, store it.

    Nothing is trained but the decider: the graft stays as it is, and whatever is not a request for a translation is
    then answered by the base itself. The errors are measured on requests that the decider was not built for. `serve`,
    `chat` and `export` take what is stored, with --route; `evaluate` measures it, with --set evaluate.route=...
    """
    if bool(pairs) != bool(source) or bool(pairs) != bool(target):
        raise UsageError("--pairs, --from and --to belong together: the files and their languages")
    layout = FileLayout(fields or (), format, aligned or ())
    if not pairs:
        layout.refuse_alone()
    with options(CHECK_OPTIONS):
        found = api.route(
            graft,
            layout.entries(pairs, str(source), str(target)) if pairs else (),
            prompts=prompts or [PROMPTS],
            by=by,
            params=parameters(param or [], "max_examples=500"),
            requests=requests,
            model=model,
            out=out,
            seed=seed,
            quiet=quiet,
        )
    if as_json:
        print(json_text(found.to_dict(), indent=2))
        return
    print(printable(str(found), None, lines=True))
    print(f"Use it: lingraft serve --graft {printable(found.folder)} --route {found.by}")
