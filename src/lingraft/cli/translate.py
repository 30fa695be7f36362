"""`lingraft translate`: lines or a text, in a file or a pipe."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.cli.layouts import LANGUAGES, RUN_CODE
from lingraft.cli.options import DecoderOption, GlossaryOption, ParamOption, decoder_choice
from lingraft.cli.translate_document import TEXT, format_params, is_document, translate_document
from lingraft.cli.translate_page import Page, TranslateOptions, sum_up
from lingraft.core.errors import DataError, TooLongError, UsageError
from lingraft.core.errors import options as names
from lingraft.core.progress import Reporter
from lingraft.data import packed
from lingraft.data.files import MAX_LINE, UNSUPPORTED, open_file, refuse_carriage_returns
from lingraft.language.characters import is_blank
from lingraft.recipe.strict_yaml import plain_values
from lingraft.store.disk import refuse_output

MAX_INPUT = 100_000_000
"""Most bytes that are taken at once."""

PLAIN = {".rst": "reStructuredText", ".tex": "LaTeX", ".jsonl": "JSON", ".adoc": "AsciiDoc"}
PLAIN |= dict.fromkeys((".ass", ".sub", ".sbv"), "a subtitle file")
PLAIN |= dict.fromkeys((".toml", ".ini", ".properties", ".strings"), "a file of settings")
"""Formats that are read as lines of text, which is said: numbers, times and fenced code are copied, marks are not."""

REFUSED = (UNSUPPORTED.keys() | packed.SUFFIXES.keys() | {".tmx", ".parquet"}) - PLAIN.keys()
"""Formats that lines of translations would destroy."""


def translate(
    file: Annotated[Path | None, typer.Argument(help="Text to translate; standard input by default.")] = None,
    graft: Annotated[
        list[str] | None,
        typer.Option(
            "--graft",
            help="Folder of the graft or of its run, or org/name[@revision] of the hub; several are added; without it "
            "the base itself translates.",
        ),
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
    engine: Annotated[
        str, typer.Option(help="See `lingraft list engines`.", autocompletion=names_of("engines"))
    ] = "transformers",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest translation of a line or paragraph, in tokens.")
    ] = 512,
    decoder: DecoderOption = "",
    param: ParamOption = None,
    glossary: GlossaryOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a translation could not be extracted.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line of input, with failures and tokens.")
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format with structure (`lingraft list documents`), or `text` for plain lines; by default as the name "
            "of the file says.",
            autocompletion=names_of("documents"),
        ),
    ] = "",
    column: Annotated[str, typer.Option("--column", help="Of a table (CSV, TSV): the column to translate.")] = "",
    format_param: Annotated[
        list[str] | None, typer.Option("--format-param", help="A parameter of the format: NAME=VALUE; once for each.")
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option("--memory", help="Of a format: TMX or pairs; what is in it is taken over, what is near is shown."),
    ] = None,
    scores: Annotated[
        str,
        typer.Option(
            "--scores",
            help="Of a format: estimate each segment: `model`, or a metric without references; doubtful "
            "ones are marked.",
        ),
    ] = "",
    doubtful_below: Annotated[
        float | None, typer.Option("--doubtful-below", help="Score below which a segment is doubtful; of `model` -1.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Translate text: one line out per line in, in order, as they are finished. A file of a format that `lingraft list
    documents` names (Markdown, HTML, subtitles and others) keeps its structure, and is written as a whole.

    Of plain text, lines without a letter and fenced code are copied; a line that is too long for the model leaves an
    empty line, and the exit code is 1. Of a file with structure, what no translation keeps whole (codes, placeholders,
    ends of lines) is left as in the source and named, and the exit code is 1.

    A decoder of summaries (sitr) takes the input as one document, and gives its summary in the other language; one of
    programs (code) takes it as one program, with --from and --to one of python, java, cpp and javascript.
    """
    from lingraft.conversation.decoding import task_of

    chosen = decoder_choice(decoder, param or [], glossary)
    options = TranslateOptions(source, target, document, model, engine, max_new_tokens, strict, as_json, chosen)
    params = format_params(format_param or [], column)
    place = None if file == Path("-") else file
    with names({**LANGUAGES, **RUN_CODE}):
        if is_document(place, name, whole=task_of(chosen) != "translation"):
            from lingraft.conversation.file_translation import FileOptions

            if doubtful_below is not None and not scores:
                raise UsageError("--doubtful-below is of scores; add --scores")
            estimator = plain_values(scores, "--scores") if scores else ""
            how = FileOptions(
                source,
                target,
                name,
                params,
                max_new_tokens,
                chosen,
                memory=memory,
                scores=estimator,
                doubtful_below=doubtful_below,
            )
            idle = {"--document": document, "--json": as_json, "--strict": strict}
            out = None if out == Path("-") else out
            translate_document(place, graft, out, how, quiet, model=model, engine=engine, idle=idle)
            return
        if params or memory or scores or doubtful_below is not None:
            raise UsageError(
                "--column, --format-param, --memory, --scores and --doubtful-below are of a format with structure; "
                "name it with --format"
            )
        translate_command(file, graft, out, options, quiet, name == TEXT)


def translate_command(
    file: Path | None,
    graft: list[str] | None,
    out: Path | None,
    options: TranslateOptions,
    quiet: bool,
    plain: bool = False,
) -> None:
    """Translate standard input or a file; each block is written as soon as it and all before it are finished.

    Args:
        file: its place; None for standard input.
        graft: folders of grafts.
        out: where it is written; None for standard output.
        options: how it is translated.
        quiet: show no progress.
        plain: the user says that it is plain text, whatever its name says.

    Raises:
        LingraftError: the input, the graft or the model cannot be used (nothing is written then), or an answer fails.
        DataError: after all else is written: a line is too long for the model; a paragraph was cut at the token limit;
            with `strict`, a translation could not be extracted.
    """
    from lingraft.conversation.decoding import task_of
    from lingraft.translation.blocks import TextBlock

    reporter = Reporter(quiet)
    file, out = (None if place == Path("-") else place for place in (file, out))
    asked_for = task_of(options.decoder)
    _check_places(file, out, reporter, plain, whole=asked_for != "translation")
    with api.open_graft(graft or None, model=options.model, engine=options.engine, quiet=quiet) as opened:
        source, target = opened.direction(options.source, options.target, asked_for)
        decoder = None if options.decoder is None else opened.decoder(options.decoder, source, target)
        lines = _input_lines(file)
        if asked_for == "translation":
            blocks = opened.blocks(lines, source, target, options.max_new_tokens, document=options.document)
        else:
            options = replace(options, document=True)
            blocks = [TextBlock(1, "\n".join(lines), "\n")]
        wanted = dict.fromkeys(block.text for block in blocks if block.translate)
        texts = {str(number): text for number, text in enumerate(wanted)}
        found = opened.translations(texts, source, target, options.max_new_tokens, decoder)
        page = Page(blocks, texts, options, out)
        with reporter.task("translating", len(texts)) as task, page:
            page.write()
            for done, one in enumerate(found, start=1):
                if isinstance(one, TooLongError):
                    page.give_up(one)
                else:
                    page.add(one)
                task.update(done)
    sum_up(page, options, reporter)


def _check_places(file: Path | None, out: Path | None, reporter: Reporter, plain: bool, whole: bool) -> None:
    """Refuse what cannot be read or written as text, before a model is loaded; `whole`: lines mean nothing."""
    if file is not None and file.is_dir():
        graft = any((file / place / "lingraft.json").exists() for place in (".", "graft"))
        remedy = f"; give the graft, or the folder of its run, as --graft {file}" if graft else "; give a text file"
        raise UsageError(f"{file} is a folder{remedy}")
    suffix = file.suffix.lower() if file else ""
    if suffix in REFUSED and not plain:
        raise UsageError(
            f"{file} is no plain text, and lines of translations would destroy its format; save it as text (.txt)"
        )
    if suffix in PLAIN and not (plain or whole):
        reporter.say(
            f"Note: {file} is {PLAIN[suffix]}, translated as plain lines; lines without letters and fenced code are "
            f"copied",
            always=True,
        )
    if out is not None:
        refuse_output(out, "--out", [file] if file else [], replaced=False)


def _input_lines(file: Path | None) -> list[str]:
    place = str(file) if file else "standard input"
    try:
        with open_file(file, place) if file else nullcontext(sys.stdin.buffer) as stream:
            raw = stream.read(MAX_INPUT + 1)
        if len(raw) > MAX_INPUT:
            raise DataError(f"{place} holds more than {MAX_INPUT // 1_000_000} MB; translate it in pieces")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}; give a text file") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{place} is not UTF-8 (line {line}); convert it with `iconv -t utf-8`") from error
    if is_blank(text):
        raise DataError(f"{place} holds no text to translate")
    text = text.replace("\r\n", "\n")
    refuse_carriage_returns(text.rstrip("\r").count("\r"), text.count("\n"), place)
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise DataError(f"{place}: line {number:,} has more than {MAX_LINE:,} characters; is it text?")
    return lines
