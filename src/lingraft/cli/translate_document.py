"""`lingraft translate FILE` of a format with structure: the file again, in the other language."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft import api
from lingraft.cli.options import parameters
from lingraft.core.errors import DataError, UsageError
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter

if TYPE_CHECKING:
    from lingraft.conversation.file_translation import FileOptions, TranslatedFile

TEXT = "text"
"""Name of plain text, which is no format of documents."""


READABLE = "markdown"
"""Name of the format that is plain text as well, for what reads a text as a whole."""


def is_document(file: Path | None, name: str, *, whole: bool = False) -> bool:
    """Say whether a file is translated with its structure.

    Args:
        file: its place; None for standard input, of which only `name` tells.
        name: of the format, as the user gave it; "" if not.
        whole: whether its text is taken as a whole, for a summary or a program.

    Raises:
        UsageError: as a whole it is taken, and has a structure that would be lost.
    """
    from lingraft.documents.base import format_named

    if not name:
        kind = format_named(file.name) if file is not None else None
        name = TEXT if kind is None or (whole and kind.name == READABLE) else kind.name
    if whole and name != TEXT:
        raise UsageError(
            f"the decoder takes the text of {file or 'standard input'} as a whole, and the structure of the format "
            f"{name} would be lost; save it as plain text, or give --format {TEXT} to have it read as it is"
        )
    return name != TEXT


def format_params(param: Sequence[str], column: str) -> dict[str, Any]:
    """Return the parameters of a format that options give.

    Raises:
        UsageError: one is no parameter, or given twice.
    """
    given = parameters(param, "column=text", "--format-param")
    if column:
        if "column" in given:
            raise UsageError("--column and --format-param column= are given; give one of them")
        given["column"] = column
    return given


def translate_document(
    file: Path | None,
    graft: list[str] | None,
    out: Path | None,
    options: FileOptions,
    quiet: bool,
    *,
    model: str | None,
    engine: str,
    idle: Mapping[str, bool],
) -> None:
    """Translate a file of a format, or standard input, and write it as a whole.

    Args:
        file: its place; None for standard input.
        graft: folders of grafts.
        out: where it is written; None for standard output.
        options: how it is translated.
        quiet: show no progress.
        model: the base.
        engine: what answers.
        idle: options that are of plain text, and whether they are given.

    Raises:
        UsageError: the options do not go together.
        LingraftError: as `translate_file` raises.
        DataError: when all is written: segments were lost.
    """
    from lingraft.conversation.file_translation import chosen_format, losses

    name = chosen_format(file, options.format, options.format_params).name
    if given := [option for option, there in idle.items() if there]:
        raise UsageError(
            f"{', '.join(given)}: of plain text, and {file or 'standard input'} is translated as a file of a format; "
            f"leave it out, or give --format {TEXT}"
        )
    if out is None and name == "docx" and sys.stdout.isatty():
        raise UsageError("a DOCX file is no text for a terminal; give -o, or a pipe")
    data = file if file is not None else _standard_input()
    with api.open_graft(graft or None, model=model, engine=engine, quiet=quiet) as opened:
        found = api.translate_file(opened, data, out, options=options, quiet=quiet)
    if out is None:
        _print(found.data)
    _say(found, out, Reporter(quiet))
    if said := losses(found):
        raise DataError(said)


def _standard_input() -> bytes:
    """Return what comes in.

    Raises:
        DataError: it is empty or too large.
    """
    from lingraft.conversation.file_translation import MAX_BYTES

    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"standard input holds more than {MAX_BYTES // 1_000_000} MB; translate it in pieces")
    if not data.strip():
        raise DataError("standard input holds no text to translate")
    return data


def _print(data: bytes) -> None:
    """Write a file to standard output: as it is, but to a terminal without what it would obey."""
    if sys.stdout.isatty():
        sys.stdout.write(printable(data.decode("utf-8", "replace"), None, lines=True))
    else:
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _say(found: TranslatedFile, out: Path | None, reporter: Reporter) -> None:
    """Say what took more than one attempt, and where the segments are listed."""
    hows = {how: sum(one.how == how and one.state != "lost" for one in found.segments) for how in ("drawn", "pieces")}
    words = [f"{hows['drawn']} drawn again"] * bool(hows["drawn"]) + [f"{hows['pieces']} in pieces"] * bool(
        hows["pieces"]
    )
    if memory := sum(one.how == "memory" for one in found.segments):
        reporter.say(f"{memory} of {len(found.segments)} segments are of the memory")
    if doubtful := len(found.doubtful):
        reporter.say(f"Note: {doubtful} of {len(found.segments)} segments are doubtful", always=True)
    if words:
        reporter.say(f"{len(found.segments)} segments; to keep codes, placeholders and lines, {', '.join(words)}")
