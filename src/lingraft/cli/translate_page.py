"""Plain text translated: its blocks are written in order, each once all before it are known."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lingraft.core.errors import DataError, TooLongError
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.store.disk import explain_os_errors

if TYPE_CHECKING:
    from lingraft.translation.blocks import TextBlock
    from lingraft.translation.direct import Translation


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


@dataclass
class Page:
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

    def __enter__(self) -> Page:
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


def sum_up(page: Page, options: TranslateOptions, reporter: Reporter) -> None:
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
