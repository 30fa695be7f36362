"""`lingraft adopt`: an adapter of another program as a graft."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import ESCAPES, parameters, unescaped
from lingraft.core.errors import options
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def adopt(
    adapter: Annotated[
        str, typer.Argument(help="Folder of a PEFT adapter (LoRA, SHiRA; safetensors), or org/name[@revision].")
    ],
    source: Annotated[
        list[str], typer.Option("--from", help="Language it translates from, e.g. de; repeatable, with --to.")
    ],
    target: Annotated[list[str], typer.Option("--to", help="Language it translates to, e.g. en; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist yet.")],
    both: Annotated[bool, typer.Option("--both-directions", help="It translates in the opposite ones, too.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Its base: alias, folder or hub id; default: what it names.")
    ] = None,
    instruction: Annotated[
        str,
        typer.Option(
            "--instruction",
            help="The wording it was trained on: 'Translate from {source_name} to {target_name}:\\n{source}'. "
            + ESCAPES,
        ),
    ] = "",
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help=f"A text at which a translation ends; repeatable. {ESCAPES}")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="A variable of the chat template in training: enable_thinking=false."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a graft of a PEFT adapter that another program has trained.

    It is checked, copied, and told which base it is of, by hash, and how it is asked; the adapter itself is left as it
    is. What it gained and what its base lost can then be measured (`evaluate`), the base be kept for all but
    translations (`route`), and it translates, chats, serves and merges as any graft.
    """
    with options({"source": "--from", "target": "--to", "instruction": "--instruction"}):
        found = api.adopt(
            adapter,
            out,
            source=source,
            target=target,
            both_directions=both,
            model=model,
            instruction=unescaped(instruction),
            stop=[unescaped(one) for one in stop or ()],
            template=parameters(template or [], "enable_thinking=false", "--template"),
        )
    for note in found["notes"]:
        print(f"Note: {printable(note, 1000)}", file=sys.stderr)
    if as_json:
        print(json_text(found, indent=2))
        return
    print(f"{printable(found['folder'])}: a graft of {printable(found['base'])}, {found['layers']} layers changed")
    print(f"Measure it: lingraft evaluate --graft {printable(found['folder'])} --test FILE --from .. --to .. --out DIR")
