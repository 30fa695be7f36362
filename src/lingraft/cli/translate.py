"""What `lingraft translate` does; `cli_translate.py` declares it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lingraft.core.errors import DataError, TooLongError, UsageError
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.data import packed
from lingraft.data.files import MAX_LINE, UNSUPPORTED, open_file, refuse_carriage_returns
from lingraft.language.characters import is_blank
from lingraft.language.codes import language, other_region, same_language
from lingraft.store.disk import explain_os_errors, refuse_output

if TYPE_CHECKING:
    from lingraft.data.records import Generation, Request
    from lingraft.engines.base import Engine
    from lingraft.models.graft import GraftInfo
    from lingraft.translation.blocks import TextBlock
    from lingraft.translation.direct import Translation

MAX_INPUT = 100_000_000
"""Most bytes that are taken at once."""

FIRST_WINDOW = 16
"""Lines asked for first by an engine that answers in parts; later parts grow up to `LAST_WINDOW`."""
LAST_WINDOW = 64
"""What a kill may lose, at most: an engine gives the answers of a part in any order."""

PLAIN = {".srt": "a subtitle file", ".md": "Markdown", ".markdown": "Markdown", ".rst": "reStructuredText"}
PLAIN |= {".tex": "LaTeX", ".csv": "a table", ".tsv": "a table", ".json": "JSON", ".jsonl": "JSON"}
PLAIN |= {".ass": "a subtitle file", ".sub": "a subtitle file", ".sbv": "a subtitle file", ".adoc": "AsciiDoc"}
PLAIN |= dict.fromkeys((".yaml", ".yml", ".toml", ".ini", ".properties", ".strings"), "a file of settings")
"""Formats that are read as lines of text, which is said: numbers, times and fenced code are copied, marks are not."""

REFUSED = (UNSUPPORTED.keys() | packed.SUFFIXES.keys() | {".tmx", ".parquet"}) - PLAIN.keys()
"""Formats that lines of translations would destroy."""


@dataclass(frozen=True)
class TranslateOptions:
    """How to translate. `source`, `target`: "" for the graft's only direction."""

    source: str = ""
    target: str = ""
    document: bool = False
    model: str | None = None
    engine: str = "transformers"
    max_new_tokens: int = 512
    strict: bool = False
    as_json: bool = False


def translate_command(
    file: Path | None, graft: Path | None, out: Path | None, options: TranslateOptions, quiet: bool
) -> None:
    """Translate standard input or a file; each block is written as soon as it and all before it are finished.

    Raises:
        LingraftError: the input, the graft or the model cannot be used (nothing is written then), or an answer fails.
        DataError: after all else is written: a line is too long for the model; a paragraph was cut at the token limit;
            with `strict`, a translation could not be extracted.
    """
    from lingraft.conversation.opening import DEFAULT_MODEL
    from lingraft.engines.base import ENGINES, EngineModel
    from lingraft.models.files import find_model, longest_sequence
    from lingraft.models.graft import find_base, find_graft, graft_renderer, is_exported, read_asking, read_info
    from lingraft.translation.blocks import document_blocks, line_blocks
    from lingraft.translation.direct import Source, extract, requests
    from lingraft.translation.wording import TranslationSystem

    reporter = Reporter(quiet)
    file, out = (None if place == Path("-") else place for place in (file, out))
    _check_places(file, out, reporter)
    entry = ENGINES.get(options.engine)
    model, info = options.model, None
    if graft is not None and is_exported(graft):
        model, graft = str(graft), None
    if graft is not None:
        graft = find_graft(graft)
        info = read_info(graft)
    elif model is not None and is_exported(Path(model)):
        info = read_asking(Path(model))
    source, target = _direction(info, options.source, options.target, reporter)
    lines = _input_lines(file)
    files = find_base(info, graft, model) if info and graft else find_model(model or DEFAULT_MODEL)
    base = EngineModel.at(files, variables=info.template if info else None)
    renderer = graft_renderer(files, graft) if graft else base.renderer
    context = entry.longest(entry.Params(), longest_sequence(base.files.folder))
    if options.document:
        # A translation takes up to twice the tokens of its source; longer paragraphs are cut.
        most = max(1, min(options.max_new_tokens, context or options.max_new_tokens) // 2)
        blocks = document_blocks(lines, most, renderer.count, target)
    else:
        blocks = line_blocks(lines)
    how = info.translating if info else TranslationSystem()
    sources = {block.text: Source("", block.text, source, target) for block in blocks if block.translate}
    sources = {text: Source(str(number), text, source, target) for number, text in enumerate(sources)}
    page = _Page(blocks, {one.id: text for text, one in sources.items()}, options, out)
    asked = []
    for one, request in zip(
        sources.values(), requests(sources.values(), how.instruction, how.stop, options.max_new_tokens), strict=True
    ):
        tokens = len(renderer.prompt_ids(request.messages).ids)
        if context is not None and tokens + options.max_new_tokens > context:
            page.too_long[one.text] = f"{tokens:,} tokens leave no room for {options.max_new_tokens:,} of {context:,}"
        else:
            asked.append(request)
    engine = entry.create(base, entry.Params()) if asked else None
    with closing(engine) if engine else nullcontext(), reporter.task("translating", len(asked)) as task, page:
        page.write()
        by_id = {one.id: one for one in sources.values()}
        for done, answer in enumerate(_answers(engine, asked, graft) if engine else (), start=1):
            if isinstance(answer, TooLongError):
                page.give_up(answer)
            else:
                page.add(extract(by_id[answer.id], answer, how.stop))
            task.update(done)
    _sum_up(page, options, reporter)


def _check_places(file: Path | None, out: Path | None, reporter: Reporter) -> None:
    """Refuse what cannot be read or written as lines, before a model is loaded."""
    if file is not None and file.is_dir():
        graft = any((file / place / "lingraft.json").exists() for place in (".", "graft"))
        remedy = f"; give the graft, or the folder of its run, as --graft {file}" if graft else "; give a text file"
        raise UsageError(f"{file} is a folder{remedy}")
    suffix = file.suffix.lower() if file else ""
    if suffix in REFUSED:
        raise UsageError(
            f"{file} is no plain text, and lines of translations would destroy its format; save it as text (.txt)"
        )
    if suffix in PLAIN:
        reporter.say(
            f"Note: {file} is {PLAIN[suffix]}, translated as plain lines; lines without letters and fenced code are "
            f"copied",
            always=True,
        )
    if out is not None:
        refuse_output(out, "--out", [file] if file else [], replaced=False)


def _direction(info: GraftInfo | None, source: str, target: str, reporter: Reporter) -> tuple[str, str]:
    """Return the languages, those that are not given from the graft's directions.

    Raises:
        UsageError: they are not given, and no graft or several directions of it leave them open.
    """
    source, target = (language(code) if code else "" for code in (source, target))
    known = [(one.source, one.target) for one in info.directions] if info else []
    if not (source and target):
        fits = [
            (one, two)
            for one, two in dict.fromkeys(known)
            if (not source or same_language(one, source)) and (not target or same_language(two, target))
        ]
        if len(fits) != 1:
            trained = ", ".join(f"{one}-{two}" for one, two in known)
            raise UsageError(
                f"the graft was trained on {trained}; say which with --from and --to"
                if known
                else "give --from and --to: without a graft there is no direction to go by"
            )
        return source or fits[0][0], target or fits[0][1]
    if known and not any(
        same_language(one, source)
        and same_language(two, target)
        and not (other_region(one, source) or other_region(two, target))
        for one, two in known
    ):
        trained = ", ".join(f"{one}-{two}" for one, two in known)
        reporter.say(f"Note: this graft was trained on {trained}, not on {source}-{target}")
    return source, target


def _answers(engine: Engine, asked: Sequence[Request], graft: Path | None) -> Iterator[Generation | TooLongError]:
    """Yield the answers, the first lines' first: an engine that does not stream is asked window by window.

    What turns out to be too long only when it is asked (a server may hold less than the model) is given as its error.
    """
    begin, size = 0, len(asked) if engine.streams else FIRST_WINDOW
    while begin < len(asked):
        waiting = {request.id: request for request in asked[begin : begin + size]}
        while waiting:
            try:
                for generation in engine.generate(list(waiting.values()), graft):
                    del waiting[generation.id]
                    yield generation
            except TooLongError as error:
                del waiting[error.request_id]
                yield error
        begin, size = begin + size, min(2 * size, max(LAST_WINDOW, engine.part_size // 4))


@dataclass
class _Page:
    """The output: blocks are written in order, each once all before it are known.

    Attributes:
        blocks: of the input. texts: id -> text of what is asked for; the same text is asked for once.
        out: file to write; None for standard output.
        too_long: text -> why it is not asked for. found: text -> its translation.
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

    def _written(self, block: TextBlock) -> str:
        from lingraft.translation.direct import one_line

        text = self._translated(block)
        if self.options.as_json:
            values = {"id": block.line - 1, "line": block.line, "translation": text, "tokens": self._tokens(block)}
            return json_text({**values, "failure": self.failure(block)}) + "\n"
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
        }
        return json_text(values)


def _sum_up(page: _Page, options: TranslateOptions, reporter: Reporter) -> None:
    """Say what went wrong.

    Raises:
        DataError: see `translate_command`.
    """
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
