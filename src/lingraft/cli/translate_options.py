"""`lingraft translate`: lines or a text, in a file or a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def translate(
    file: Annotated[Path | None, typer.Argument(help="Text to translate; standard input by default.")] = None,
    graft: Annotated[
        Path | None,
        typer.Option("--graft", help="Folder of the graft or of its run; without it the base itself translates."),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="Source language, e.g. de; by default that of the graft's only direction.")
    ] = "",
    target: Annotated[str, typer.Option("--to", help="Target language, e.g. en; by default as --from.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write to this file; what is finished stays in it if the work is broken off."),
    ] = None,
    document: Annotated[
        bool, typer.Option("--document", help="The input is one text: translate it paragraph by paragraph.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The base, if it is not where it was; or, without a graft, what translates."),
    ] = None,
    engine: Annotated[str, typer.Option(help="See `lingraft list engines`.")] = "transformers",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest translation of a line or paragraph, in tokens.")
    ] = 512,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a translation could not be extracted.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line of input, with failures and tokens.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Translate text: one line out per line in, in order, as they are finished.

    Lines without a letter (blank ones, numbers, times of subtitles) and fenced code are copied. A line that is too
    long for the model leaves an empty line, and the exit code is 1.
    """
    from lingraft.cli.translate import TranslateOptions, translate_command

    options = TranslateOptions(source, target, document, model, engine, max_new_tokens, strict, as_json)
    translate_command(file, graft, out, options, quiet)
