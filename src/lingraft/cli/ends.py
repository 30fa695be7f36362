"""How a command ends that does not succeed: one sentence on stderr, and what the same command would do."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from lingraft.core.printable import printable

CONTINUING = {
    **dict.fromkeys(("run", "tune", "bench", "evaluate"), "run the same command again to continue"),
    "translate": "what is finished is written; the same command begins anew",
}
"""What becomes of work that is stopped, by command; others keep nothing."""

_command: list[str] = []


def begin(command: str | None) -> None:
    """Remember which command runs."""
    _command[:] = [command or ""]


def stop(how: str, code: int) -> NoReturn:
    """End a command that was stopped from outside ("interrupted")."""
    fail(f"{how}; {CONTINUING.get(''.join(_command), 'the same command begins anew')}", code)


def refused(error: OSError) -> NoReturn:
    """End after a refusal of the system that nothing explained."""
    from lingraft.store.disk import failure

    place = f" ({error.filename})" if error.filename else ""
    said = failure(error) or f"the system refused: {error.strerror}{place}; see to it and run the same command again"
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    fail(said, 1)


def unexpected(error: Exception) -> NoReturn:
    """End with one sentence where a library passes a full disk on by an error of its own; else raise the error."""
    from lingraft.store.disk import failure

    said = failure(error)
    if said is None:
        sys.excepthook = _shown  # set now: typer puts its own there
        raise error
    fail(said, 1)


def _shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a fault of Lingraft's own; the error may hold words of strangers."""
    with suppress(OSError):
        lines = printable("".join(traceback.format_exception(kind, error, trace)), None, lines=True)
        print(lines, end="", file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    """End with a sentence on stderr and an exit code."""
    with suppress(OSError):  # nobody reads it any more
        print(f"lingraft: {printable(message, 1000)}", file=sys.stderr, flush=True)
    sys.exit(code)
