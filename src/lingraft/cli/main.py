"""The command line: thin wrappers over functions. Data goes to stdout, words and progress to stderr.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or a bad recipe, 130 interrupted, 143 terminated.
Heavy imports wait for the command.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from lingraft.cli import (
    adopt,
    agree,
    bench,
    chat,
    check,
    collect,
    doctor,
    ends,
    evaluate,
    export,
    gate,
    init,
    install,
    listing,
    merge,
    preview,
    push,
    route,
    run,
    schema,
    serve,
    sheet,
    show,
    translate,
    watch,
)
from lingraft.cli.options import Command, fill_paragraphs, refuse_empty_places
from lingraft.core import __version__
from lingraft.core.environment import refuse_platform
from lingraft.core.errors import LingraftError
from lingraft.core.hub_kernels import keep_out
from lingraft.core.printable import printable
from lingraft.core.streams import open_streams

app = typer.Typer(
    name="lingraft",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Teach a chat LLM to translate without losing what it knows, and prove both with confidence intervals.",
    epilog="Start with: lingraft run demo. Shipped recipes: lingraft list recipes.",
)

app.add_typer(sheet.app, name="sheet")


class _Terminated(BaseException):
    """SIGTERM, which batch systems send before they kill; raised so that locks and temporary files are cleaned up."""


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _collect_seldom() -> None:
    """Look for garbage after 20 000 new objects, not after 700: libraries make a million when they are imported, none
    of them garbage, and to look through them took a sixth of the start of a command that computes."""
    gc.set_threshold(20_000, *gc.get_threshold()[1:])


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr."""
    # Typer may bring its own copy of click, whose classes are not those of the package click.
    usage_error: Any = typer.BadParameter.__bases__[0]
    keep_out()
    _collect_seldom()
    signal.signal(signal.SIGTERM, _terminate)
    open_streams()
    try:
        refuse_platform()
        refuse_empty_places(sys.argv[1:])
        code = app(standalone_mode=False, prog_name="lingraft")
        if code == 130:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except LingraftError as error:
        ends.fail(str(error), error.exit_code)
    except _Terminated:
        ends.stop("terminated", 143)
    except (typer.Abort, KeyboardInterrupt):
        ends.stop("interrupted", 130)
    except usage_error as error:
        error.message = printable(error.message, 1000)  # it may name a file that a pattern of the shell found
        error.show()
        if folder := _graft_unnamed(error, sys.argv):
            ends.fail(f"give the graft, or the folder of its run, as --graft {folder}", 2)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes standard output once more at its end
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            ends.unexpected(error)
        ends.refused(error)
    except MemoryError:
        ends.fail("out of memory; use smaller files or batches, or a machine with more", 1)
    except Exception as error:
        ends.unexpected(error)


def _graft_unnamed(error: Any, arguments: Sequence[str]) -> str:
    """Return the graft, or the run with one, that a command which wants it as --graft was given as a plain argument."""
    parameters = getattr(getattr(getattr(error, "ctx", None), "command", None), "params", ())
    if not any("--graft" in parameter.opts for parameter in parameters):
        return ""
    plain = (word for before, word in pairwise(arguments) if not before.startswith("-"))
    places = ("lingraft.json", os.path.join("graft", "lingraft.json"))
    return next((word for word in plain if any(os.path.exists(os.path.join(word, place)) for place in places)), "")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lingraft {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    ends.begin(context.invoked_subcommand)


COMMANDS = (
    *(run.run, run.tune, bench.bench, collect.collect, watch.watch, check.check, preview.preview),
    *(translate.translate, chat.chat, serve.serve, export.export, merge.merge, push.push),
    *(adopt.adopt, route.route),
    *(evaluate.evaluate, gate.gate, evaluate.compare),
    *(init.init, show.show, listing.list_things, schema.schema),
    *(doctor.doctor, agree.agree, install.install),
)
for command in COMMANDS:
    name = "list" if command is listing.list_things else None
    app.command(name, cls=watch.WatchCommand if command is watch.watch else Command)(command)
for each in (app, sheet.app):
    fill_paragraphs(each)


if __name__ == "__main__":
    main()
