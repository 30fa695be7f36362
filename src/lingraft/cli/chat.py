"""`lingraft chat`: a conversation in the terminal."""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lingraft import api
from lingraft.cli.options import (
    ESCAPES,
    EnglishTokens,
    GraftOption,
    ModelOption,
    NativeTokens,
    QueryTokens,
    RouteOption,
    given,
    refuse_ignored,
    refuse_without_chain,
    unescaped,
)
from lingraft.core.errors import DataError, LingraftError, UsageError
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.data.records import NATIVE, QUERY, REPLY, Segment
from lingraft.language.characters import is_blank

if TYPE_CHECKING:
    from lingraft.conversation.session import ChatOptions
    from lingraft.conversation.writing import Done, Event, PartStart, TextDelta
    from lingraft.routing.base import Route

_NAMES = {QUERY: "query", REPLY: "English", NATIVE: "native"}
_WRITING = {QUERY: "the English query", REPLY: "the English answer", NATIVE: "the answer"}
_HELP = "/reset begins anew, /quit ends, Ctrl-C ends a reply."
_COMMAND = re.compile(r"/[a-z]+")
_TO = re.compile(r"/(graft|base)\s+(.*)", re.DOTALL)


def chat(
    context: typer.Context,
    graft: GraftOption = None,
    model: ModelOption = None,
    route: RouteOption = "",
    language: Annotated[
        str, typer.Option("--language", help="Answer in this language, e.g. th; by default in the question's.")
    ] = "",
    show_chain: Annotated[
        bool, typer.Option("--show-chain", help="Print the English query and answer, too, dimmed.")
    ] = False,
    max_query_tokens: QueryTokens = 512,
    max_english_tokens: EnglishTokens = 1024,
    max_native_tokens: NativeTokens = 1024,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: always the most probable token.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = 0,
    system: Annotated[str, typer.Option("--system", help=f"System message. {ESCAPES}")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a turn, with segments, tokens and seconds.")
    ] = False,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Say after each turn: time to the first word, tokens by part, what failed."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")] = False,
) -> None:
    """Talk to a graft, or to a base: each line of standard input is a turn.

    A graft with a translation chain of thought thinks in English and answers in your language; earlier turns are shown
    to it in English. With --route each turn is answered by the graft or by its base, as the decider says; `/graft TEXT`
    and `/base TEXT` say it yourself. /reset begins a new conversation, /quit ends, /help says so; Ctrl-C ends a reply.
    """
    refuse_without_chain(context, graft)
    if as_json and show_chain:
        raise UsageError("--show-chain has no effect with --json, which has the chain in any case; leave it out")
    if not temperature:
        refuse_ignored(context, given(context).keys() - {"seed"}, "without --temperature, which is of sampling")
    from lingraft.conversation.chain import Caps
    from lingraft.conversation.session import ChatOptions

    caps = Caps(max_query_tokens, max_english_tokens, max_native_tokens)
    options = ChatOptions(
        language=language,
        show_chain=show_chain,
        caps=caps,
        temperature=temperature,
        seed=seed,
        system=unescaped(system),
        as_json=as_json,
        stats=stats,
    )
    chat_command(graft, model, options, quiet, route)


def chat_command(
    graft: list[str] | None, model: str | None, options: ChatOptions, quiet: bool, route: str = ""
) -> None:
    """Hold a conversation: standard input has the user's turns.

    Raises:
        LingraftError: the model or the graft cannot be used, standard input is no text, or a turn cannot be answered;
            the last is only said where a person can go on.
    """
    reporter, interactive = Reporter(quiet), sys.stdin.isatty()
    if interactive:
        reporter.say("Loading ...")
    with api.open_graft(graft or None, model=model, route=route, quiet=quiet) as opened:
        talk = opened.chat(options)
        if interactive:
            how = f"; answers in English, {', '.join(talk.languages)}" if talk.languages else ""
            reporter.say(f"{' + '.join(graft or []) or opened.files.name}{how}. {_HELP}")
        screen = _Screen(options, reporter)
        for text in _lines(interactive):
            if text == "/quit":
                break
            if text == "/reset":
                talk.reset()
                reporter.say("A new conversation.")
                continue
            if text == "/help" or (interactive and _COMMAND.fullmatch(text)):
                unknown = "" if text == "/help" else f"There is no command {text}. "
                reporter.say(unknown + _HELP, always=True)
                continue
            try:
                said, to = _addressed(text, routes=bool(route))
                screen.show(said, talk.ask(said, to))
            except KeyboardInterrupt:
                screen.end_line()
                if not interactive:
                    raise
                reporter.say("Stopped; this turn is forgotten.", always=True)
            except LingraftError as error:
                screen.end_line()
                if not interactive:
                    raise
                reporter.say(f"lingraft: {error}", always=True)
        screen.sum_up()


def _addressed(text: str, *, routes: bool) -> tuple[str, Route | None]:
    """Return a turn without the command before it that says who is to answer, and who that is."""
    found = _TO.fullmatch(text) if routes else None
    return (found[2], "graft" if found[1] == "graft" else "base") if found else (text, None)


def _lines(interactive: bool) -> Iterator[str]:
    """Yield the user's turns; Ctrl-C or Ctrl-D at the prompt of a terminal ends them.

    Raises:
        DataError: standard input is not UTF-8.
    """
    number = 0
    if interactive and sys.stdout.isatty():
        with suppress(ImportError):  # not on every system
            importlib.import_module("readline")  # gives `input` editing, earlier lines, and lines of any length
    while True:
        number += 1
        try:
            line = _typed() if interactive else sys.stdin.buffer.readline().decode("utf-8-sig")
        except (EOFError, KeyboardInterrupt):
            if not interactive:
                raise
            print(file=sys.stderr)
            return
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of standard input is not UTF-8; convert it with `iconv -t utf-8`"
            ) from error
        if not interactive and not line:
            return
        if not is_blank(line):
            yield line.strip()


def _typed() -> str:
    """Return a line typed at a prompt, which is on stderr where stdout is not the terminal."""
    if sys.stdout.isatty():
        return input("> ")
    print("> ", end="", file=sys.stderr, flush=True)
    return input("")


class _Screen:
    """Shows answers as they come, and counts what failed in them."""

    def __init__(self, options: ChatOptions, reporter: Reporter) -> None:
        self._options, self._reporter = options, reporter
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._open = False  # whether the line has text
        self._turn = 0
        self._failures: Counter[str] = Counter()

    def show(self, asked: str, events: Iterator[Event]) -> None:
        """Print one answer; a terminal is told what is being written while nothing is to be seen."""
        from lingraft.conversation.writing import Done, PartStart, PromptProgress, TextDelta

        visible, console = False, self._reporter.console
        status = console.status("reading") if console.is_terminal and not self._reporter.quiet else None
        with status or nullcontext():
            for event in events:
                if status and isinstance(event, PartStart) and event.role in _WRITING:
                    status.update(f"writing {_WRITING[event.role]}")
                if isinstance(event, PromptProgress):
                    if status:
                        status.update(f"reading {event.done:,} of {event.total:,} tokens")
                elif isinstance(event, Done):
                    if status:
                        status.stop()
                    self._finish(asked, event, visible)
                elif isinstance(event, PartStart | TextDelta) and not self._options.as_json:
                    if isinstance(event, TextDelta) and event.text:
                        visible = visible or event.visible
                    if status and (event.visible or self._options.show_chain):
                        status.stop()
                    self._print(event)

    def sum_up(self) -> None:
        """Say at the end, where figures are wanted, how many answers failed, and of what."""
        if self._options.stats and self._turn:
            failed = [f"{count} {name}" for name, count in self._failures.most_common() if name]
            answers = f"{self._turn} answer{'' if self._turn == 1 else 's'}"
            self._reporter.say(f"{answers}; failures: {', '.join(failed) or 'none'}", always=True)

    def end_line(self) -> None:
        """Go to a new line, if text stands on this one."""
        if self._open:
            self._console.print()
        self._open = False

    def _print(self, event: PartStart | TextDelta) -> None:
        from lingraft.conversation.writing import PartStart

        if not (event.visible or self._options.show_chain):
            return
        style = "" if event.visible else "dim"
        if isinstance(event, PartStart):
            self.end_line()
            if self._options.show_chain and event.role in _NAMES:
                self._write(f"[{_NAMES[event.role]}{', put' if event.forced else ''}] ", "dim")
        elif event.text:
            self._write(event.text, style)

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(printable(text, None, lines=True), style=style or None, end="")
        self._console.file.flush()
        self._open = True

    def _finish(self, asked: str, done: Done, visible: bool) -> None:
        self._turn += 1
        self._failures[done.failure] += 1
        if self._options.as_json:
            print(json_text(self._as_json(asked, done)), flush=True)
        else:
            if not visible:  # the answer is another part than the one that was waited for
                self.end_line()
                self._write(done.text)
            self._open = True
            self.end_line()
            if not visible and done.lang not in ("", "en"):
                shown = "the English answer is shown" if done.text else "there is nothing to show"
                self._reporter.say(f"Note: there is no answer in {done.lang!r} ({done.state}); {shown}", always=True)
            elif visible and done.state == "unfinished":
                option = "--max-english-tokens" if done.lang == "en" else "--max-native-tokens"
                self._reporter.say(f"Note: the answer was cut at {option}, or where the model's context ends")
        if self._options.stats:
            self._reporter.say(_figures(done), always=True)

    def _as_json(self, asked: str, done: Done) -> dict[str, object]:
        timing = done.timing
        return {
            "turn": self._turn,
            "user": asked,
            "answer": done.text,
            "language": done.lang,
            **({"route": done.route} if done.route else {}),
            "state": done.state,
            "failure": done.failure,
            "segments": [segment.to_dict() for segment in done.segments],
            "prompt_tokens": timing.prompt_tokens,
            "seconds": {
                "first_token": round(timing.first_token, 4),
                "first_visible": None if timing.first_visible is None else round(timing.first_visible, 4),
                "total": round(timing.total, 4),
            },
        }


def _figures(done: Done) -> str:
    """Return one line on time and tokens."""
    timing = done.timing
    first = "no text" if timing.first_visible is None else f"first text after {timing.first_visible:.2f} s"
    failure = f"; {done.failure}" if done.failure else ""
    tokens = f"{_tokens(done.segments)} tokens after {timing.prompt_tokens} read"
    by = f" by the {done.route}" if done.route else ""
    return f"{first}, {timing.total:.2f} s in all; {tokens}{by}{failure}"


def _tokens(segments: Sequence[Segment]) -> str:
    return " + ".join(f"{segment.tokens} {_NAMES.get(segment.role, '')}".strip() for segment in segments) or "0"
