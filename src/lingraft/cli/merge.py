"""`lingraft merge`: one graft or model of the weights of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.cli.options import parameters
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def merge(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Grafts, runs with one, or whole models, in order: folders, or org/name[@revision] of the hub; "
            "`base` is the base itself."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist yet.")],
    kind: Annotated[
        str,
        typer.Option("--kind", help="What merges them: `lingraft list mergers`.", autocompletion=names_of("mergers")),
    ] = "linear",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="A parameter of the merger: strength=0.5, weights=[1,2]; once for each."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", "--model", help="The base, if no graft is merged, or it is not where it was."),
    ] = None,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Write a model of its own, for any program, instead of a graft.")
    ] = False,
    dtype: Annotated[
        str, typer.Option("--dtype", help="With --checkpoint: bf16 | fp16 | fp32; by default as the base.")
    ] = "",
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="With --checkpoint: of a file of weights, such as 5GB; else 50GB.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Make one graft of the weights of several of one base, without training.

    With one graft, `--param strength=0.5` is that graft at half its strength: a point between the base and itself.

    The result is a graft of whole layers, as large as the model, which translate, chat, serve, export, evaluate and
    recipes take as any other; with --checkpoint it is a model, to be given as --model. It is read again, and its logits
    are compared, before it gets its name; a killed command goes on where it was.
    """
    found = api.merge(
        models,
        out,
        kind=kind,
        params=parameters(param or [], "strength=0.5"),
        base=base,
        checkpoint=checkpoint,
        dtype=dtype,
        max_shard_size=max_shard_size,
        quiet=quiet,
    )
    if as_json:
        print(json_text(found, indent=2))
        return
    size = f"{found['parameters']:,} parameters, {found['bytes'] / 1024**2:,.0f} MiB"
    print(f"{printable(found['folder'])}: {found['form']}, {size}")
    print(f"Read again, its logits are those of the merged weights, to {found['max_logit_difference']:.2g}")
