"""String tables in YAML: the values that are texts; keys, comments, anchors and white space keep every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, ClassVar

import yaml
from pydantic import Field

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.json_table import chosen_key, refuse_halves
from lingraft.documents.values import Value, ValueDocument, value_slots
from lingraft.language.codes import base_language

_TEXT = "tag:yaml.org,2002:str"
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
MOST_NODES = 200_000
"""Most values of a file: what has to be held at once."""


class YamlDocument(ValueDocument):
    """A table of YAML. `root`: place and new name of the key that names the language, as Rails has it."""

    def __init__(self, source: Decoded, values: Sequence[Value], root: tuple[int, int, str] | None) -> None:
        super().__init__(source, values)
        self._root = root

    def edits(self, filled: Any) -> list[tuple[int, int, str]]:
        """Return what is changed, the name of the language included."""
        found = super().edits(filled)
        return [*found, self._root] if self._root and filled else found

    def shape(self) -> Sequence[Hashable]:
        """Return what a program reads, without the texts that are translated, and the comments."""
        texts = {value.end for value in self.values if value.slots}
        found = list[Hashable]()
        for number, event in enumerate(yaml.parse(self.source.text, Loader=yaml.SafeLoader)):
            said = [type(event).__name__, getattr(event, "anchor", None), getattr(event, "tag", None)]
            if isinstance(event, yaml.ScalarEvent) and _end(event) not in texts:
                first = number == 3 and self._root is not None
                said += ["" if first else event.value]
            found.append(tuple(map(str, said)))
        return [*found, *_comments(self.source.text, self.values)]


def _end(event: Any) -> int:
    """Return the place behind an event, whose mark types say may be missing."""
    return int(event.end_mark.index)


def _comments(text: str, values: Sequence[Value]) -> list[str]:
    """Return comments of their own lines, outside of texts."""
    found, at = list[str](), 0
    for value in [*values, None]:
        end = value.start if value else len(text)
        found += [one.strip() for one in re.findall(r"^[ \t]*#.*$", text[at:end], re.MULTILINE)]
        at = value.end if value else end
    return found


class YamlTable(DocumentFormat):
    """YAML of keys and texts, as programs and sites keep them."""

    name: ClassVar[str] = "yaml"
    summary: ClassVar[str] = "string tables in YAML: values; keys, comments and order are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".yaml", ".yml")

    class Params(DocumentFormat.Params):
        """Parameters of `yaml`."""

        keys: list[str] = Field(
            default_factory=list,
            description="which values are translated, by their keys with dots between, `*` for anything: "
            "[menu.*, '*.title']; default: all texts, but those of keys that begin with @, _ or $",
        )

    def parse(self, data: bytes, shown: str, source: str, target: str) -> YamlDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file = decoded(data, shown)
        try:
            roots = list(yaml.compose_all(file.text, Loader=yaml.SafeLoader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise DataError(f"{shown}: is not YAML (line {mark.line + 1 if mark else 1}: {error.problem})") from error
        except RecursionError as error:
            raise DataError(f"{shown}: is nested too deeply (from line 1 on)") from error
        except yaml.YAMLError as error:
            raise DataError(f"{shown}: is not YAML (line 1: {' '.join(str(error).split())[:100]})") from error
        values = [one for root in roots if root for one in _values(file, root, self.params.keys, shown)]
        return YamlDocument(file, values, _root(file, roots, source, target))


def _root(file: Decoded, roots: Sequence[Any], source: str, target: str) -> tuple[int, int, str] | None:
    """Return the edit of a lone first key that names the language of the texts."""
    if len(roots) != 1 or not isinstance(roots[0], yaml.MappingNode) or len(roots[0].value) != 1:
        return None
    key, value = roots[0].value[0]
    named = isinstance(key, yaml.ScalarNode) and re.fullmatch(r"[A-Za-z]{2,3}(?:[-_]\w+)?", key.value)
    if not named or not isinstance(value, yaml.MappingNode):
        return None
    if base_language(key.value.replace("_", "-")) not in (base_language(source), base_language(target)):
        return None
    return key.start_mark.index, key.end_mark.index, target


def _values(file: Decoded, root: Any, patterns: Sequence[str], shown: str) -> Iterator[Value]:
    waiting: list[tuple[Any, str]] = [(root, "")]
    seen, count = set[int](), 0
    while waiting:
        node, path = waiting.pop()
        count += 1
        if id(node) in seen:  # an alias: its text is translated where it is written
            continue
        seen.add(id(node))
        if count > MOST_NODES:
            raise DataError(f"{shown}: has more than {MOST_NODES:,} values; translate it in pieces")
        if isinstance(node, yaml.MappingNode):
            inside = [(value, f"{path}.{key.value}" if path else str(key.value)) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inside = [(value, f"{path}.{number}" if path else str(number)) for number, value in enumerate(node.value)]
        else:
            inside = []
            if node.tag == _TEXT and chosen_key(path, patterns):
                start, end = node.start_mark.index, node.end_mark.index
                if properties := _PROPERTIES.match(file.text, start, end):
                    start = properties.end()
                refuse_halves(node.value, node.start_mark.line + 1, shown)
                slots = value_slots(node.value, path or "text", node.start_mark.line + 1)
                yield Value(start, end, node.value, slots, _writer(file.text[start:end], node.style))
        waiting += reversed(inside)


def _writer(raw: str, style: str | None) -> Callable[[str], str]:
    """Return what writes a text in the style of a value."""
    escaped = lambda said: json.dumps(said, ensure_ascii=False).replace("\x7f", "\\x7f")  # noqa: E731
    if style == '"':
        return escaped
    if style == "'":
        return lambda said: "'" + said.replace("'", "''") + "'" if "\n" not in said else escaped(said)
    if style in ("|", ">"):
        return lambda said: _block(raw, said)
    return lambda said: said if _is_plain(said) else escaped(said)


def _is_plain(text: str) -> bool:
    """Say whether a text may stand without quotation marks, in blocks and between brackets."""
    if "\n" in text:
        return False
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text] and yaml.safe_load(f"a: {text}") == {"a": text})
    except yaml.YAMLError:
        return False


def _block(raw: str, text: str) -> str:
    """Return a text as a block, with the header and the indent that it had."""
    header, _, body = raw.partition("\n")
    indent = next((line[: len(line) - len(line.lstrip())] for line in body.split("\n") if line.strip()), "  ")
    tail = raw[len(raw.rstrip()) :]
    lines = text.rstrip("\n").split("\n")
    if header.startswith(">"):
        lines = [part for line in lines for part in (line, "")][:-1]
    if lines[0][:1].isspace():  # its indent would have to be told
        return json.dumps(text, ensure_ascii=False) + tail
    return header + "\n" + "\n".join(f"{indent}{line}" if line else "" for line in lines) + tail
