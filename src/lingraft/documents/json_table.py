"""String tables in JSON: the values that are texts; keys, order, numbers and white space keep every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import Field

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.values import Value, ValueDocument, value_slots

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_HALF = re.compile(r"[\ud800-\udfff]")
_COMMENT_KEY = re.compile(r"^[@_$]")


class JsonDocument(ValueDocument):
    """A table of JSON."""

    def shape(self) -> Sequence[Hashable]:
        """Return all but the texts that are translated."""
        texts = {value.start for value in self.values if value.slots}
        found = _TOKEN.finditer(self.source.text)
        return [one[0] if one.start() not in texts else '""' for one in found]


class JsonTable(DocumentFormat):
    """JSON of keys and texts, as programs and sites keep them."""

    name: ClassVar[str] = "json"
    summary: ClassVar[str] = "string tables in JSON: values; keys, order and escapes are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".json", ".arb")

    class Params(DocumentFormat.Params):
        """Parameters of `json`."""

        keys: list[str] = Field(
            default_factory=list,
            description="which values are translated, by their keys with dots between, `*` for anything: "
            "[menu.*, '*.title']; default: all texts, but those of keys that begin with @, _ or $",
        )

    def parse(self, data: bytes, shown: str, source: str, target: str) -> JsonDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        try:
            json.loads(file.text, parse_int=str)  # Python reads no number of thousands of digits
        except json.JSONDecodeError as error:
            raise DataError(f"{shown}: is not JSON (line {error.lineno}: {error.msg}); correct it") from error
        except RecursionError as error:
            raise DataError(f"{shown}: is nested too deeply (from line 1 on)") from error
        escaped = file.text.isascii() and "\\u" in file.text
        return JsonDocument(file, _values(file, shown, self.params.keys, escaped))


def chosen_key(key: str, patterns: Sequence[str]) -> bool:
    """Say whether the value of a key is translated.

    Args:
        key: with dots between.
        patterns: that are translated; none for all but keys of programs.
    """
    if patterns:
        return any(fnmatchcase(key, pattern) for pattern in patterns)
    return not any(_COMMENT_KEY.match(part) for part in key.split("."))


def refuse_halves(text: str, line: int, shown: str) -> None:
    """Refuse what no model can be asked.

    Args:
        text: a value.
        line: where it stands.
        shown: name of the file.

    Raises:
        DataError: it holds half of a surrogate pair.
    """
    if _HALF.search(text):
        raise DataError(f"{shown}: line {line}: half of a surrogate pair, which is no letter; correct it")


def _values(file: Decoded, shown: str, patterns: Sequence[str], escaped: bool) -> Iterator[Value]:
    path = list[str | int]()
    is_key = False
    for found in _TOKEN.finditer(file.text):
        token = found[0]
        if token == "{":
            path.append("")
            is_key = True
        elif token == "[":
            path.append(0)
            is_key = False
        elif token in "}]":
            path.pop()
            is_key = False
        elif token == ":":
            is_key = False
        elif token == ",":
            last = path[-1]
            is_key = isinstance(last, str)
            if isinstance(last, int):
                path[-1] = last + 1
        elif token[0] == '"':
            text = json.loads(token, strict=False)
            if is_key:
                path[-1] = text
            elif chosen_key(key := ".".join(map(str, path)), patterns):
                refuse_halves(text, file.line_at(found.start()), shown)
                slots = value_slots(text, key or "text", file.line_at(found.start()))
                yield Value(
                    found.start(), found.end(), text, slots, lambda said: json.dumps(said, ensure_ascii=escaped)
                )
