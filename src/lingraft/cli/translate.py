"""`lingraft translate`: lines or a text, in a file or a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lingraft import api
from lingraft.cli.completion import names_of
from lingraft.cli.layouts import LANGUAGES
from lingraft.cli.options import DecoderOption, GlossaryOption, ParamOption, decoder_choice
from lingraft.cli.translate_document import TEXT, format_params, is_document, translate_document
from lingraft.core.errors import DataError, TooLongError, UsageError
from lingraft.core.errors import options as names
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.data import packed
from lingraft.data.files import MAX_LINE, UNSUPPORTED, open_file, refuse_carriage_returns
from lingraft.language.characters import is_blank
from lingraft.store.disk import explain_os_errors, refuse_output

if TYPE_CHECKING:
    from lingraft.translation.blocks import TextBlock
    from lingraft.translation.direct import Translation

MAX_INPUT = 100_000_000
"""Most bytes that are taken at once."""

PLAIN = {".rst": "reStructuredText", ".tex": "LaTeX", ".jsonl": "JSON", ".adoc": "AsciiDoc"}
PLAIN |= dict.fromkeys((".ass", ".sub", ".sbv"), "a subtitle file")
PLAIN |= dict.fromkeys((".toml", ".ini", ".properties", ".strings"), "a file of settings")
"""Formats that are read as lines of text, which is said: numbers, times and fenced code are copied, marks are not."""

REFUSED = (UNSUPPORTED.keys() | packed.SUFFIXES.keys() | {".tmx", ".parquet"}) - PLAIN.keys()
"""Formats that lines of translations would destroy."""


@dataclass(frozen=True)
class TranslateOptions:
    """How to translate. `source`, `target`: "" for the graft's only direction. `decoder`: its kind and
    parameters; None asks for each text once."""

    source: str = ""
    target: str = ""
    document: bool = False
    model: str | None = None
    engine: str = "transformers"
    max_new_tokens: int = 512
    strict: bool = False
    as_json: bool = False
    decoder: Mapping[str, Any] | None = None


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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Translate text: one line out per line in, in order, as they are finished. A file of a format that `lingraft list
    documents` names (Markdown, HTML, subtitles and others) keeps its structure, and is written as a whole.

    Of plain text, lines without a letter and fenced code are copied; a line that is too long for the model leaves an
    empty line, and the exit code is 1. Of a file with structure, what no translation keeps whole (codes, placeholders,
    ends of lines) is left as in the source and named, and the exit code is 1.
    """
    chosen = decoder_choice(decoder, param or [], glossary)
    options = TranslateOptions(source, target, document, model, engine, max_new_tokens, strict, as_json, chosen)
    params = format_params(format_param or [], column)
    place = None if file == Path("-") else file
    with names(LANGUAGES):
        if is_document(place, name):
            from lingraft.conversation.file_translation import FileOptions

            how = FileOptions(source, target, name, params, max_new_tokens, chosen)
            idle = {"--document": document, "--json": as_json, "--strict": strict}
            out = None if out == Path("-") else out
            translate_document(place, graft, out, how, quiet, model=model, engine=engine, idle=idle)
            return
        if params:
            raise UsageError("--column and --format-param are of a format with structure; name it with --format")
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
    reporter = Reporter(quiet)
    file, out = (None if place == Path("-") else place for place in (file, out))
    _check_places(file, out, reporter, plain)
    with api.open_graft(graft or None, model=options.model, engine=options.engine, quiet=quiet) as opened:
        source, target = opened.direction(options.source, options.target)
        decoder = None if options.decoder is None else opened.decoder(options.decoder, source, target)
        lines = _input_lines(file)
        blocks = opened.blocks(lines, source, target, options.max_new_tokens, document=options.document)
        wanted = dict.fromkeys(block.text for block in blocks if block.translate)
        texts = {str(number): text for number, text in enumerate(wanted)}
        found = opened.translations(texts, source, target, options.max_new_tokens, decoder)
        page = _Page(blocks, texts, options, out)
        with reporter.task("translating", len(texts)) as task, page:
            page.write()
            for done, one in enumerate(found, start=1):
                if isinstance(one, TooLongError):
                    page.give_up(one)
                else:
                    page.add(one)
                task.update(done)
    _sum_up(page, options, reporter)


def _check_places(file: Path | None, out: Path | None, reporter: Reporter, plain: bool) -> None:
    """Refuse what cannot be read or written as lines, before a model is loaded."""
    if file is not None and file.is_dir():
        graft = any((file / place / "lingraft.json").exists() for place in (".", "graft"))
        remedy = f"; give the graft, or the folder of its run, as --graft {file}" if graft else "; give a text file"
        raise UsageError(f"{file} is a folder{remedy}")
    suffix = file.suffix.lower() if file else ""
    if suffix in REFUSED and not plain:
        raise UsageError(
            f"{file} is no plain text, and lines of translations would destroy its format; save it as text (.txt)"
        )
    if suffix in PLAIN and not plain:
        reporter.say(
            f"Note: {file} is {PLAIN[suffix]}, translated as plain lines; lines without letters and fenced code are "
            f"copied",
            always=True,
        )
    if out is not None:
        refuse_output(out, "--out", [file] if file else [], replaced=False)


@dataclass
class _Page:
    """The output: blocks are written in order, each once all before it are known.

    Attributes:
        blocks: of the input.
        texts: id -> text of what is asked for; the same text is asked for once.
        out: file to write; None for standard output.
        too_long: text -> why it is not asked for.
        found: text -> its translation.
    """

    blocks: Sequence[TextBlock]
    texts: dict[str, str]
    options: TranslateOptions
    out: Path | None = None
    too_long: dict[str, str] = field(default_factory=dict)
    found: dict[str, Translation] = field(default_factory=dict)
    _next: int = 0
    _stream: TextIO = field(default_factory=lambda: sys.stdout)

    def __enter__(self) -> _Page:
        if self.out is not None:
            with explain_os_errors(self.out):
                self._stream = self.out.open("w", encoding="utf-8", newline="\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self.out is not None:
            with explain_os_errors(self.out):
                self._stream.close()

    def add(self, translation: Translation) -> None:
        """Take a translation, and write what can be written now."""
        self.found[self.texts[translation.id]] = translation
        self.write()

    def give_up(self, error: TooLongError) -> None:
        """Leave a text out, and write what can be written now."""
        self.too_long[self.texts[error.request_id]] = error.reason
        self.write()

    def write(self) -> None:
        """Write the blocks that are known, up to the first that is not."""
        with explain_os_errors(self.out) if self.out is not None else nullcontext():
            self._write()

    def _write(self) -> None:
        begin = self._next
        while self._next < len(self.blocks) and self._known(self.blocks[self._next]):
            if not (self.options.as_json and self.options.document):
                self._put(self._written(self.blocks[self._next]))
            self._next += 1
        if self.options.as_json and self.options.document and self._next == len(self.blocks):
            self._put(self._whole() + "\n")
        if self._next > begin:
            self._stream.flush()

    def _put(self, text: str) -> None:
        """Write text: to a terminal without what it would obey, else as it is."""
        self._stream.write(printable(text, None, lines=True) if self._stream.isatty() else text)

    def _known(self, block: TextBlock) -> bool:
        return not block.translate or block.text in self.found or block.text in self.too_long

    def failure(self, block: TextBlock) -> str:
        """Return what went wrong with a block; "" if nothing did."""
        if not block.translate:
            return ""
        return "too_long" if block.text in self.too_long else self.found[block.text].failure

    def _translated(self, block: TextBlock) -> str:
        if not block.translate:
            return block.text
        return "" if block.text in self.too_long else self.found[block.text].text

    def _tokens(self, block: TextBlock) -> int:
        return self.found[block.text].tokens if block.translate and block.text in self.found else 0

    def _calls(self, *blocks: TextBlock) -> dict[str, int]:
        """Return what a decoder asked for blocks; nothing without one."""
        if self.options.decoder is None:
            return {}
        return {"calls": sum(self.found[one.text].calls for one in blocks if one.translate and one.text in self.found)}

    def _written(self, block: TextBlock) -> str:
        from lingraft.translation.direct import one_line

        text = self._translated(block)
        if self.options.as_json:
            values = {"id": block.line - 1, "line": block.line, "translation": text, "tokens": self._tokens(block)}
            return json_text({**values, "failure": self.failure(block), **self._calls(block)}) + "\n"
        flat = block.translate and not self.options.document
        return (one_line(text) if flat else text) + block.end

    def _whole(self) -> str:
        """Return the JSON of a document: its text, and the failures of its parts."""
        text = "".join(self._translated(block) + block.end for block in self.blocks).removesuffix("\n")
        failures = [
            {"line": block.line, "failure": self.failure(block)} for block in self.blocks if self.failure(block)
        ]
        values = {
            "id": 0,
            "line": 1,
            "translation": text,
            "tokens": sum(self._tokens(block) for block in self.blocks),
            "failure": str(failures[0]["failure"]) if failures else "",
            "failures": failures,
            **self._calls(*self.blocks),
        }
        return json_text(values)


def _sum_up(page: _Page, options: TranslateOptions, reporter: Reporter) -> None:
    """Say what went wrong.

    Raises:
        DataError: see `translate_command`.
    """
    if options.decoder is not None and page.found:
        calls, texts = sum(one.calls for one in page.found.values()), len(page.found)
        reporter.say(f"{options.decoder['kind']}: {calls:,} calls for {texts:,} translations, {calls / texts:.3g} each")
    failed = [(page.failure(block), block) for block in page.blocks if page.failure(block)]
    total = sum(block.translate for block in page.blocks)
    unit = "part" if options.document else "line"
    fatal = []
    if long := [block for kind, block in failed if kind == "too_long"]:
        where = f"line{'s' if len(long) > 1 else ''} {', '.join(str(block.line) for block in long[:5])}"
        fatal.append(
            f"{_of(len(long), total, unit)} too long for the model and left empty ({where}"
            f"{', ...' if len(long) > 5 else ''}: {page.too_long[long[0].text]}); shorten "
            f"{'it' if len(long) == 1 else 'them'}, or lower --max-new-tokens"
        )
    cut = [block for kind, block in failed if kind == "unfinished"]
    if options.document and cut:
        fatal.append(
            f"{_of(len(cut), total, unit)} cut at --max-new-tokens {options.max_new_tokens} (the first begins in line "
            f"{cut[0].line}); raise it"
        )
    told = {"too_long", "unfinished"} if options.document else {"too_long"}
    if others := Counter(kind for kind, _ in failed if kind not in told):
        message = (
            f"{others.total()} of {total} translations could not be extracted cleanly ({', '.join(sorted(others))}); "
            f"see them with --json"
        )
        if options.strict:
            fatal.append(f"{message}, or raise --max-new-tokens")
        else:
            reporter.say(f"Note: {message}", always=True)
    if fatal:
        raise DataError("; ".join(fatal))


def _of(count: int, total: int, unit: str) -> str:
    return f"{count} of {total} {unit}{'' if total == 1 else 's'} {'is' if count == 1 else 'are'}"


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
