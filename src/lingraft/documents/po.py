"""Catalogues of gettext (PO): what has no translation yet, or a fuzzy one; all else keeps every byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import ClassVar

from lingraft.core.errors import DataError
from lingraft.data.po_entries import Entry, entries
from lingraft.documents.base import Decoded, DocumentFormat, Filled, decoded
from lingraft.documents.inline import Slot
from lingraft.documents.values import Value, ValueDocument, value_slots
from lingraft.language.codes import base_language

_CHARSET = re.compile(rb"charset=([\w-]+)", re.IGNORECASE)
_FLAG = re.compile(r",\s*fuzzy\b|\bfuzzy\s*,\s*")


class PoDocument(ValueDocument):
    """A catalogue. `entries`: all; `of`: id of a segment -> its entry; `unsure`: segments of forms nobody can tell."""

    marks: ClassVar[bool] = True

    def __init__(
        self,
        source: Decoded,
        values: Sequence[Value],
        entries: Sequence[Entry],
        of: Mapping[str, Entry],
        unsure: Sequence[str],
        fixed: Sequence[tuple[int, int, str]],
    ) -> None:
        super().__init__(source, values)
        self._entries, self._of, self._unsure, self._fixed = entries, of, set(unsure), fixed

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; where its encoding lacks letters of translations, as UTF-8, which its header then names."""
        text = self.text(filled)
        try:
            return self.source.encoded(text)
        except UnicodeEncodeError:
            return re.sub(r"(charset=)[\w-]+", r"\1UTF-8", text, count=1, flags=re.IGNORECASE).encode("utf-8")

    def edits(self, filled: Mapping[str, Filled]) -> list[tuple[int, int, str]]:
        """Return what is changed: translations, the flag `fuzzy`, what was translated before, and the language."""
        found = super().edits(filled)
        states: dict[int, list[tuple[str, Filled]]] = {}
        for key, one in filled.items():
            states.setdefault(id(self._of[key]), []).append((key, one))
        for entry in self._entries:
            own = states.get(id(entry), [])
            if not own or any(one.state == "lost" for _, one in own):
                continue
            doubtful = any(one.state == "doubtful" or key in self._unsure for key, one in own)
            if entry.fuzzy(self.source.text) != doubtful:
                found += self._flagged(entry, doubtful)
            if not doubtful:
                found += [(start, end, "") for start, end in entry.before]
        return [*found, *(self._fixed if found else ())]

    def _flagged(self, entry: Entry, fuzzy: bool) -> Iterator[tuple[int, int, str]]:
        text = self.source.text
        if not fuzzy:
            for start, end in entry.flags:
                left = _FLAG.sub("", text[start:end])
                bare = left.strip().lstrip("#").strip(", \t")
                yield start, end, left if bare and bare != "fuzzy" else ""
            return
        if entry.flags:
            start, _ = entry.flags[0]
            yield start + 2, start + 2, " fuzzy,"
            return
        yield entry.start, entry.start, f"#, fuzzy{self.source.newline}"

    def shape(self) -> Sequence[Hashable]:
        """Return contexts, ids, comments, flags but fuzzy, and which forms there are."""
        text, found = self.source.text, list[Hashable]()
        for one in self._entries:
            if one.texts.get("msgid") == "":
                continue
            flags = {flag for start, end in one.flags for flag in re.split(r"[,\s]+", text[start + 2 : end]) if flag}
            found.append((*sorted(one.texts.items()), *one.comments, *sorted(flags - {"fuzzy"}), *sorted(one.strings)))
        return found


class Po(DocumentFormat):
    """Catalogues of gettext."""

    name: ClassVar[str] = "po"
    summary: ClassVar[str] = (
        "gettext catalogues: entries without a translation or with a fuzzy one; doubtful ones are fuzzy"
    )
    suffixes: ClassVar[tuple[str, ...]] = (".po", ".pot")

    def parse(self, data: bytes, shown: str, source: str, target: str) -> PoDocument:
        """Read a file; see `DocumentFormat.parse`."""
        declared = _CHARSET.search(data[:4096])
        name = declared[1].decode("ascii").lower() if declared else "utf-8"
        file = decoded(data, shown, name if re.match(r"iso-8859-\d+$|windows-125\d$", name) else "utf-8")
        found = list(entries(file.text, shown))
        header = next((one for one in found if one.texts.get("msgid") == "" and "msgctxt" not in one.texts), None)
        forms, fixed = _head(file, header, shown, target)
        values, of, unsure = list[Value](), dict[str, Entry](), list[str]()
        for entry in found:
            if entry is header or "msgid" not in entry.texts or not entry.strings:
                continue
            if all(text for _, _, text in entry.strings.values()) and not entry.fuzzy(file.text):
                continue
            own, guess = _values(file, entry, forms)
            values += own
            for value in own:
                for slot in value.slots:
                    of[slot.segment.id] = entry
                    unsure += [slot.segment.id] * guess
        return PoDocument(file, values, found, of, unsure, fixed)


def _head(file: Decoded, header: Entry | None, shown: str, target: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Return how many plural forms the translations have, and the edit that names their language.

    Raises:
        DataError: the file is of translations into another language.
    """
    if header is None or -1 not in header.strings:
        return 2, []
    start, end, text = header.strings[-1]
    found = re.search(r"^Language:[ \t]*(\S*)", text, re.MULTILINE)
    fixed = list[tuple[int, int, str]]()
    if found and found[1] and base_language(found[1].replace("_", "-").partition("@")[0]) != base_language(target):
        raise DataError(
            f"{shown}: says that its translations are in {found[1]!r} (line {header.line}), not in {target!r}; correct "
            f"its header (Language:), or the direction"
        )
    if found and not found[1]:
        place = file.text.index("Language:", start, end)
        spaces = re.compile(r"Language:[ \t]*").match(file.text, place)
        fixed.append((place, spaces.end() if spaces else place, f"Language: {target}"))
    forms = re.search(r"nplurals\s*=\s*(\d)", text)
    return int(forms[1]) if forms else 2, fixed


def _values(file: Decoded, entry: Entry, forms: int) -> tuple[list[Value], bool]:
    """Return the values of an entry, and whether nobody can tell which of its plural forms is which."""
    context = "; ".join([*([entry.texts["msgctxt"]] if "msgctxt" in entry.texts else []), *entry.comments])
    end = file.newline
    single = value_slots(entry.texts["msgid"], f"line {entry.line}", entry.line, context)
    if "msgid_plural" not in entry.texts:
        start, finish, _ = entry.strings.get(-1, (0, 0, ""))
        return [Value(start, finish, entry.texts["msgid"], single, _writer(end))] if single and finish else [], False
    plural = value_slots(entry.texts["msgid_plural"], f"line {entry.line}, plural", entry.line, context)
    values = list[Value]()
    for form, (start, finish, _) in entry.strings.items():
        first = form == 0 and forms > 1
        slots: tuple[Slot, ...] = single if first else plural
        text = entry.texts["msgid" if first else "msgid_plural"]
        if slots:
            values.append(Value(start, finish, text, slots, _writer(end)))
    return values, forms > 2


def _writer(end: str) -> Callable[[str], str]:
    def write(text: str) -> str:
        lines = text.split("\n")
        parts = [f"{line}\\n" for line in map(_escaped, lines[:-1])] + ([_escaped(lines[-1])] if lines[-1] else [])
        if len(parts) < 2:
            return f'"{"".join(parts)}"'
        return end.join(['""', *(f'"{part}"' for part in parts)])

    return write


def _escaped(text: str) -> str:
    for letter, name in (("\\", "\\"), ('"', '"'), ("\t", "t"), ("\r", "r")):
        text = text.replace(letter, f"\\{name}")
    return text
