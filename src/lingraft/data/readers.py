"""Readers: from a declared source to `Row(line, record)` (a Pair, Prompt or Text) or `Rejected`, streaming.

A `Row` carries the place of a good record until the checks are done, because a `Rejected` must name file and line.
What all declared sources have is in `declared_sources.py`; files are opened in `files.py`; the formats are in
`formats.py` (text), `tmx.py` and `hub.py`, the forms of a row in `row_shapes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lingraft.core.code_languages import NAMES
from lingraft.core.errors import UsageError, setting
from lingraft.core.hashing import Ids
from lingraft.core.tasks import Task
from lingraft.data import reasons
from lingraft.data.code_problems import code_pairs, read_code_problems
from lingraft.data.columns import Columns, named_columns, pair_columns
from lingraft.data.corpora import corpus_rows
from lingraft.data.declared_rows import raw_rows, records
from lingraft.data.declared_sources import DeclaredSource, check_fields, human_or_not, known_language
from lingraft.data.files import RawRows, Row, SourcePlace, locate
from lingraft.data.formats import aligned_rows, line_rows
from lingraft.data.inline_codes import Codes
from lingraft.data.po_entries import po_rows
from lingraft.data.records import Pair, Prompt, Rejected, Text
from lingraft.data.remarks import Remarks
from lingraft.data.row_shapes import (
    CHAT_FIELDS,
    PROMPT_FIELDS,
    TEXT_FIELDS,
    RowProblem,
    document_text,
    pair_parts,
    prompt_parts,
    refuse_surrogates,
)
from lingraft.data.sacrebleu_sets import sacrebleu_rows
from lingraft.data.summary_sets import FORMATS, crosssum_rows, wikilingua_rows
from lingraft.data.tmx import tmx_rows
from lingraft.data.xml_rows import wmt_rows, xliff_rows
from lingraft.language.characters import is_blank

PAIR_FIELDS = {"source", "target", "references", "translation", *CHAT_FIELDS, "id", "document"}
_PROMPT_FIELDS = {*PROMPT_FIELDS, *CHAT_FIELDS, "turns", "input", "output", "reference", "id"}


class PairSource(DeclaredSource):
    """Where pairs come from: one entry under `pairs:` of a recipe."""

    source: str = Field(description="Language code (BCP-47) of the source side.")
    target: str = Field(description="Language code (BCP-47) of the target side.")
    target_path: str | None = Field(default=None, description="The second of two aligned text files.")
    format: Literal[
        "auto",
        "jsonl",
        "json",
        "tsv",
        "csv",
        "text",
        "tmx",
        "xliff",
        "po",
        "wmt",
        "parquet",
        "arrow",
        "hub",
        "crosssum",
        "wikilingua",
    ] = Field(default="auto", description="Format; by default told from the file's name; two are sets of summaries.")
    inline_codes: Codes = Field(
        default="drop",
        description="Inline codes of TMX and XLIFF files: drop (with clean spaces; variables such as %s stay), keep, "
        "or placeholder (<1>, </1>, <2/>).",
    )
    both_directions: bool = Field(
        default=False, description="Train on each pair in both directions, or measure both on a development set."
    )
    weight: float = Field(
        default=1.0, gt=0, description="Share of this training source in a mixture with `mixture: balanced`."
    )

    _language = field_validator("source", "target")(known_language)

    @model_validator(mode="after")
    def _consistent(self) -> PairSource:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; a pair needs two languages")
        if self.format == "wikilingua" and self.target_path is None:
            raise ValueError("WikiLingua has a file for each language; give that of the summaries as `target_path`")
        if self.target_path is not None and self.format not in ("auto", "text", "wikilingua"):
            raise ValueError(f"target_path belongs to two aligned text files, but the format is {self.format!r}")
        check_fields(self.fields, PAIR_FIELDS)
        return self


class MeasuredSource(PairSource):
    """Where a test set comes from: one entry under `pairs.test` of a recipe."""

    task: Task = Field(
        default="translation",
        description="What its sources are turned into: `translation`, `summary` (a document's summary in the target "
        "language) or `code` (a program in another language, of a file as HumanEval-X has it: `source` and `target` "
        "are python, java, cpp or javascript); it chooses the metrics, and which decoders can do it.",
    )
    both_directions: bool = Field(
        default=False, description="Measure both directions of translation, which are two test sets of one name."
    )
    reversed: bool = Field(
        default=False,
        description="The file, and `fields`, have it the other way round: what is the target there is translated into "
        "what is the source there. `source` and `target` name the direction that is measured.",
    )
    weight: float = Field(default=1.0, gt=0, description="Of training sources: nothing here.")

    _language = field_validator("source", "target")(human_or_not)

    @model_validator(mode="after")
    def _of_task(self) -> MeasuredSource:
        for name in ("both_directions", "reversed"):
            if not getattr(self, name):
                continue
            if self.task != "translation":
                raise ValueError(f"{name} is of translations, and the task is {self.task!r}; drop it")
            if self.path.startswith("sacrebleu:"):
                raise ValueError(
                    f"{name}: the sets of sacreBLEU have each direction by itself; give an entry for each, or drop it"
                )
        programming = [code for code in (self.source, self.target) if code in NAMES]
        if self.task != "code":
            if programming:
                raise ValueError(f"{programming[0]!r} is a programming language; set `task: code`")
            return self
        if len(programming) < 2:
            raise ValueError(
                f"with `task: code` source and target are programming languages: {', '.join(NAMES)} (given: "
                f"{self.source}, {self.target})"
            )
        for name in ("fields", "target_path", "inline_codes"):
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name} does nothing with `task: code`, whose problems have known columns; drop it")
        return self

    @property
    def ways(self) -> list[MeasuredSource]:
        """The test sets that it stands for: with `both_directions` that of the other direction as well."""
        one = self.model_copy(update={"both_directions": False})
        return [one, one.turned(not self.reversed)] if self.both_directions else [self]

    def turned(self, reversed_: bool) -> MeasuredSource:
        """Return the source of the opposite direction, of a file that has it the other way round or not."""
        return self.model_copy(update={"source": self.target, "target": self.source, "reversed": reversed_})


def directions_of(sources: Iterable[PairSource]) -> list[tuple[str, str]]:
    """Return the (source, target) languages of sources of pairs, each once, the declared ones first."""
    listed = list(sources)
    both = [(one.source, one.target) for one in listed]
    return list(dict.fromkeys([*both, *((one.target, one.source) for one in listed if one.both_directions)]))


class PromptSource(DeclaredSource):
    """Where general prompts come from: one entry under `prompts:` of a recipe."""

    fields_key: ClassVar[str] = "prompts.fields"
    format_key: ClassVar[str] = "prompts.format"

    format: Literal["auto", "jsonl", "json", "tsv", "csv", "text", "parquet", "arrow", "hub"] = Field(
        default="auto", description="Format; by default told from the file's name."
    )
    lang: str = Field(default="en", description="Language code (BCP-47) of the prompts.")
    task: Literal["translation"] | None = Field(
        default=None,
        description="`translation` where they ask for translations: a route's classifier then learns them as such.",
    )

    _language = field_validator("lang")(known_language)

    @model_validator(mode="after")
    def _consistent(self) -> PromptSource:
        check_fields(self.fields, _PROMPT_FIELDS)
        return self


class PromptFile(PromptSource):
    """A file of prompts that an option or a parameter names, with no key for columns or format beside it."""

    fields_key: ClassVar[str] = ""
    format_key: ClassVar[str] = ""


class TextSource(DeclaredSource):
    """Where documents come from: one entry under `texts:` of a recipe."""

    fields_key: ClassVar[str] = "texts.fields"
    format_key: ClassVar[str] = "texts.format"

    format: Literal["auto", "jsonl", "json", "tsv", "csv", "text", "parquet", "arrow", "hub"] = Field(
        default="auto", description="Format; by default told from the file's name. Plain text: one document a line."
    )
    lang: str = Field(description="Language code (BCP-47) of the documents.")

    _language = field_validator("lang")(known_language)

    @model_validator(mode="after")
    def _consistent(self) -> TextSource:
        check_fields(self.fields, {*TEXT_FIELDS, "id"})
        return self


def read_pairs(
    source: PairSource, root: Path = Path(), *, remarks: Remarks | None = None
) -> Iterator[Row[Pair] | Rejected]:
    """Read the pairs of a source, unchecked but for their form; memory does not grow with the file's text.

    A text that no tokenizer can encode (half a surrogate pair) is rejected here.
    An id is the row's own, else `name:line`; an id that occurred before gets `@line` (12 to 24 bytes a row are kept
    for this).

    Args:
        source: what to read.
        root: folder to which relative paths are relative.
        remarks: counts what was read as something else, or left out within rows.

    Raises:
        UsageError: the format cannot be told. Raised at once.
        DataError: missing, unreadable or empty file (raised at once where it can be); first row without the fields of
            a pair, or with several for one side; aligned files of different lengths (raised at the end).
    """
    remarks = Remarks() if remarks is None else remarks
    if isinstance(source, MeasuredSource) and source.reversed:
        turned = read_pairs(source.turned(False), root, remarks=remarks)
        return (row if isinstance(row, Rejected) else replace(row, record=row.record.reversed()) for row in turned)
    if isinstance(source, MeasuredSource) and source.task == "code":
        problems = read_code_problems(source.path, root, source.split, source.subset, source.revision)
        return map(Row, count(1), code_pairs(problems, source.source, source.target, source.path))
    published = source.format in FORMATS
    aligned = source.target_path is not None and not published
    place = locate(source.path, "auto" if published else source.format, root, aligned, source.format_key)
    columns = pair_columns(source.source, source.target, source.fields, source.fields_key)
    if published:
        rows = _summary_rows(source, place, root, columns)
    elif source.target_path is not None:
        rows = aligned_rows(place, locate(source.target_path, "text", root))
    elif place.format == "text":
        raise UsageError(
            f"{source.path}: a text file holds one language; "
            + (f"give the aligned other file: {setting('target_path')}, or, " if source.format_key else "")
            + f"if it is a table, {place.read_as('tsv', '.tsv')}"
        )
    elif place.format == "tmx":
        rows = tmx_rows(place, source.source, source.target, source.inline_codes, remarks)
    elif place.format == "xliff":
        rows = xliff_rows(place, source.source, source.target, source.inline_codes, remarks)
    elif place.format == "wmt":
        rows = wmt_rows(place, source.source, source.target)
    elif place.format == "po":
        rows = po_rows(place)
    elif place.format == "sacrebleu":
        rows = sacrebleu_rows(place, source.source, source.target)
    elif place.format == "corpus":
        rows = corpus_rows(place, source.source, source.target)
    else:
        rows = raw_rows(source, place, columns)

    ids = Ids(source.name)

    def build(line: int, values: Mapping[str, Any]) -> Pair:
        parts = pair_parts({**columns.languages, **values}, source.source, source.target)
        refuse_surrogates(parts.source, parts.target, *parts.references)
        remarks.regions.update(parts.regions)
        remarks.variants.update((*parts.variants, *columns.variants))
        document = values.get("document")
        return Pair(
            ids.unique(None if parts.id_is_text else values.get("id"), line),
            parts.source,
            parts.target,
            source.source,
            source.target,
            str(document) if isinstance(document, str | int) else None,
            parts.references,
        )

    expected = (
        f"'source' and 'target', 'source' and 'references', {source.source!r} and {source.target!r} "
        f"(also inside 'translation'), or 'messages'"
    )
    return records(rows, source, place, build, expected, "{source: ..., target: ...}")


def _summary_rows(source: PairSource, place: SourcePlace, root: Path, columns: Columns) -> RawRows:
    """Return the rows of documents with summaries, in the layout of a published set."""
    if source.target_path is None:
        return crosssum_rows(raw_rows(source, place, columns))
    other = locate(source.target_path, "auto", root)
    rows, others = raw_rows(source, place, columns), raw_rows(source, other, columns)
    return wikilingua_rows(rows, others, source.source, source.target, (place.shown, other.shown))


def read_prompts(source: PromptSource, root: Path = Path()) -> Iterator[Row[Prompt] | Rejected]:
    """Read the prompts of a source; ids, arguments and errors as for `read_pairs`.

    An empty prompt is rejected here too.
    """
    place, rows = _single_rows(
        source,
        root,
        "prompt",
        named_columns(
            "prompt", PROMPT_FIELDS, sorted(_PROMPT_FIELDS - {*PROMPT_FIELDS}), source.fields, source.fields_key
        ),
    )

    ids = Ids(source.name)

    def build(line: int, values: Mapping[str, Any]) -> Prompt:
        parts = prompt_parts(values)
        if is_blank(parts.messages[-1].content):
            raise RowProblem(reasons.EMPTY_PROMPT, "the last user turn has no text")
        refuse_surrogates(*(message.content for message in parts.messages))
        return Prompt(
            ids.unique(values.get("id"), line), parts.messages, source.lang, parts.reference, source.task or ""
        )

    expected = f"one of {', '.join(map(repr, (*CHAT_FIELDS, *PROMPT_FIELDS, 'turns')))}"
    return records(rows, source, place, build, expected, "{prompt: ...}")


def read_texts(source: TextSource, root: Path = Path()) -> Iterator[Row[Text] | Rejected]:
    """Read the documents of a source; ids, arguments and errors as for `read_pairs`.

    An empty document is rejected here too.
    """
    place, rows = _single_rows(
        source, root, "text", named_columns("text", TEXT_FIELDS, ("id",), source.fields, source.fields_key)
    )
    ids = Ids(source.name)

    def build(line: int, values: Mapping[str, Any]) -> Text:
        text = document_text(values)
        if is_blank(text):
            raise RowProblem(reasons.EMPTY_TEXT, "the document has no text")
        refuse_surrogates(text)
        return Text(ids.unique(values.get("id"), line), text, source.lang)

    return records(rows, source, place, build, " or ".join(map(repr, TEXT_FIELDS)), "{text: ...}")


_OF_PAIRS = {
    "tmx": "a TMX file",
    "xliff": "an XLIFF file",
    "po": "a PO file",
    "wmt": "a test set of WMT",
    "sacrebleu": "a test set of sacreBLEU",
    "corpus": "a parallel corpus",
}


def _single_rows(
    source: PromptSource | TextSource, root: Path, column: str, columns: Columns
) -> tuple[SourcePlace, RawRows]:
    """Return where a source of prompts or texts is, and its rows."""
    place = locate(source.path, source.format, root, key=source.format_key)
    if held := _OF_PAIRS.get(place.format):
        raise UsageError(f"{source.path}: {held} holds pairs, not {column}s")
    if place.format == "text":
        return place, line_rows(place, column)
    return place, raw_rows(source, place, columns)
