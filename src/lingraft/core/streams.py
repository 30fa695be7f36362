"""Standard streams: what is data on stdout is UTF-8 whatever the locale, and a stream that is closed stops nothing."""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import sys
from typing import Any

_HANDLER = "lingraft.names"
_LEAST_COLUMNS = 40

_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))}
"""What JSON lets stand though it ends a line to Unicode (an object a line must stay on it for every reader), or is a
command to a terminal or to the direction of what follows."""


def open_streams() -> None:
    """Make standard input, output and error fit for use; called once, before anything is read or written.

    - One that is closed becomes the null device: reading ends at once, what is written is dropped. Else the first file
      that is opened would take its number, and be written into.
    - Output that is no terminal is UTF-8, as input is: data must not depend on where it is made. Names of files that
      are no text keep their bytes.
    - Error messages, and terminals, show a letter that they do not know as an escape.
    - `COLUMNS` is at least 40: in none, tables and help would be empty, and in few nobody could read them.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < _LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(_LEAST_COLUMNS)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (for the process's life)
    codecs.register_error(_HANDLER, _as_bytes)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is sys.stderr or stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors=_HANDLER)


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what stands for bytes that are no text as those bytes, and other halves of surrogate pairs as escapes."""
    assert isinstance(error, UnicodeEncodeError), "registered for streams that are written"
    found = error.object[error.start : error.end]
    if all("\udc80" <= char <= "\udcff" for char in found):
        return found.encode("utf-8", "surrogateescape"), error.end
    return codecs.backslashreplace_errors(error)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that every parser reads, for standard output.

    Numbers that JSON lacks (NaN, infinity) are null. Letters are themselves, but escapes where the stream does not know
    them; halves of surrogate pairs always are. Without `indent` it is one line.
    """
    known = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")
    text = json.dumps(_finite(value), ensure_ascii=not known, indent=indent, allow_nan=False).translate(_ESCAPED)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
