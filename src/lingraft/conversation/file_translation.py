"""Translate a file with its structure: read, asked in parts that a kill does not lose, verified, written as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.conversation.decoding import TOO_LONG, DecoderChoice, task_of
from lingraft.conversation.document_ladder import MEMORY, TranslatedSegment
from lingraft.conversation.document_work import DocumentWork, longest
from lingraft.conversation.estimates import Estimator, chosen_estimator, estimates
from lingraft.conversation.file_memory import FileMemory
from lingraft.core import __version__
from lingraft.core.errors import DataError, TooLongError, UsageError, suggestion
from lingraft.core.progress import Reporter
from lingraft.core.tasks import NOUNS
from lingraft.data.files import open_file
from lingraft.documents.base import DOCUMENTS, DocumentFormat, Filled, format_named
from lingraft.documents.opened import DocumentHere
from lingraft.metrics.base import OpenMetric
from lingraft.store.disk import explain_os_errors, refuse_output
from lingraft.store.files import write_atomic, write_lines
from lingraft.translation.direct import Translation

if TYPE_CHECKING:
    from lingraft.conversation.open_graft import OpenGraft

MAX_BYTES = 100_000_000
"""Of a file."""
SEGMENTS = ".segments.jsonl"
"""Behind the output's name: its segments, where some are doubtful or lost, or scores were wanted."""
NAMED = 8
"""Lost segments that a message names."""


@dataclass(frozen=True)
class FileOptions:
    """How a file is translated.

    Attributes:
        source: language of its texts; "" for that of the graft's only direction.
        target: language of the translations; likewise.
        format: a name of `list_entries("documents")`; "" for that of the file's name.
        format_params: parameters of the format, such as {"column": "text"}.
        max_new_tokens: longest translation of a segment, in tokens.
        decoder: as for `OpenGraft.translations`.
        retries: how often what lost something is drawn anew, before it is asked for in pieces.
        memory: file of translations (TMX, or any of pairs): a segment that is in it is taken over; where no decoder is
            given, translations of what is near are shown with the others.
        scores: estimates each translation: "model", by the mean log-probability of its tokens, or a metric that needs
            no references, by its name or `kind` and parameters; "": nothing does.
        doubtful_below: score below which a translation is doubtful; None for -1 of "model".
    """

    source: str = ""
    target: str = ""
    format: str = ""
    format_params: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 512
    decoder: DecoderChoice | None = None
    retries: int = 2
    memory: Path | None = None
    scores: Estimator = ""
    doubtful_below: float | None = None


@dataclass(frozen=True)
class TranslatedFile:
    """A translated file.

    Attributes:
        data: what is in it.
        segments: what became of each segment, in the order of the file.
    """

    data: bytes
    segments: Sequence[TranslatedSegment]

    @property
    def lost(self) -> list[TranslatedSegment]:
        """Segments that are left as in the source, since no translation of them kept all that it must."""
        return [one for one in self.segments if one.state == "lost"]

    @property
    def doubtful(self) -> list[TranslatedSegment]:
        """Segments whose estimate is low."""
        return [one for one in self.segments if one.state == "doubtful"]


def chosen_format(file: Path | None, name: str, params: Mapping[str, Any]) -> DocumentFormat:
    """Return the format of a file.

    Args:
        file: its place; None for standard input.
        name: of the format; "" for that of the file's name.
        params: of the format.

    Raises:
        UsageError: no format is named, none has the file's suffix, or there is no such format or parameter.
    """
    if not name:
        kind = format_named(file.name) if file is not None else None
        if kind is None:
            raise UsageError(
                f"the format of {file or 'standard input'} cannot be told from its name; name one of "
                f"{', '.join(DOCUMENTS)}"
            )
        name = kind.name
    if name not in DOCUMENTS:
        raise UsageError(f"there is no format {name!r} of documents{suggestion(name, DOCUMENTS)}")
    return DOCUMENTS.create({"kind": name, **params})


def translate_file(
    opened: OpenGraft,
    file: Path | bytes,
    out: Path | None,
    options: FileOptions,
    reporter: Reporter,
) -> TranslatedFile:
    """Translate a file, and write it when it is whole.

    With `out`, what is translated is kept beside it, segment by segment, until it is written: what was killed goes on
    where it was, with the same result.

    Args:
        opened: translates.
        file: its place, or what is in it.
        out: where the translation is written; None: nowhere.
        options: how it is translated.
        reporter: is told how far it is.

    Raises:
        UsageError: no format, no direction, or a decoder or parameter that does not work here.
        DataError: the file cannot be read, or is not of its format.
        ModelError, EngineError: as `OpenGraft.translations`.
        StoreError: the output cannot be written.
    """
    place = None if isinstance(file, bytes) else file
    kind = chosen_format(place, options.format, options.format_params)
    if out is not None:
        refuse_output(out, "the output", [place] if place else [])
    source, target = opened.direction(options.source, options.target)
    shown = str(place) if place else "standard input"
    data = file if isinstance(file, bytes) else read_document(file)
    document = DocumentHere(kind.parse(data, shown, source, target), kind, source, target)
    memory = None if options.memory is None else FileMemory.read(options.memory, source, target)
    choice = options.decoder if options.decoder is not None or memory is None else memory.decoder
    if task_of(choice) != "translation":
        raise UsageError(
            f"a file with structure is translated segment by segment, and this decoder makes {NOUNS[task_of(choice)]} "
            f"of texts as a whole; give the text alone, as a file of plain text"
        )
    decoder = None if choice is None else opened.decoder(choice, source, target)
    estimator = chosen_estimator(options.scores, options.doubtful_below, source, target) if options.scores else None

    def ask(texts: Mapping[str, str], draw: int) -> Mapping[str, Translation]:
        found: dict[str, Translation] = {}
        most = longest(texts.values(), options.max_new_tokens)
        for one in opened.translations(texts, source, target, most, decoder, draw):
            key = one.request_id if isinstance(one, TooLongError) else one.id
            found[key] = Translation(key, "", 0, TOO_LONG) if isinstance(one, TooLongError) else one
        return found

    parts = None if out is None else out.with_name(f".{out.name}.parts")
    identity = [__version__, kind.name, source, target, options.max_new_tokens, options.retries, opened.identity]
    identity.append(None if decoder is None else [decoder.name, repr(decoder.params)])
    identity.append(memory.identity if memory else None)
    work = DocumentWork(document, ask, source, options.retries, parts, identity, memory)
    with reporter.task("translating", work.count) as task:
        segments = work.done(task.update)
    if estimator is not None:
        segments = _scored(opened, segments, *estimator, source, target)
    filled = {one.id: Filled(one.translation, one.state) for one in segments}
    result = TranslatedFile(document.written(filled), segments)
    if out is not None:
        _write(result, out)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
    return result


def read_document(file: Path) -> bytes:
    """Return what is in a file.

    Raises:
        DataError: it cannot be read, is empty or too large.
    """
    try:
        with open_file(file, str(file)) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; give a file") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{file} holds more than {MAX_BYTES // 1_000_000} MB; translate it in pieces")
    if not data.strip():
        raise DataError(f"{file} holds no text to translate")
    return data


def losses(result: TranslatedFile) -> str:
    """Return a sentence on what was lost; "" if nothing was."""
    if not (lost := result.lost):
        return ""
    named = ", ".join(f"{one.id} ({one.problem})" for one in lost[:NAMED])
    more = f", and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    are = "is" if len(lost) == 1 else "are"
    return (
        f"{len(lost)} of {len(result.segments)} segments {are} left as in the source, since no translation kept all "
        f"that it must: {named}{more}; translate {'it' if len(lost) == 1 else 'them'} by hand"
    )


def _scored(
    opened: OpenGraft,
    segments: Sequence[TranslatedSegment],
    metric: OpenMetric | None,
    below: float,
    source: str,
    target: str,
) -> list[TranslatedSegment]:
    """Return the segments with their scores; those of a memory have none, and are not doubted."""
    wanted = dict.fromkeys((one.source, one.translation) for one in segments if _to_score(one))
    scores = dict(zip(wanted, estimates(opened, metric, list(wanted), source, target), strict=True))
    out = list[TranslatedSegment]()
    for one in segments:
        score = scores[one.source, one.translation] if _to_score(one) else None
        if score is None or not isfinite(score):
            out.append(one)
        else:
            out.append(replace(one, score=round(score, 4), state="doubtful" if score < below else one.state))
    return out


def _to_score(segment: TranslatedSegment) -> bool:
    return segment.state != "lost" and segment.how != MEMORY


def _write(result: TranslatedFile, out: Path) -> None:
    beside = out.with_name(out.name + SEGMENTS)
    with explain_os_errors(out):
        if result.lost or result.doubtful or any(one.score is not None for one in result.segments):
            write_lines(beside, (one.to_json() for one in result.segments))
        else:
            beside.unlink(missing_ok=True)  # of an earlier translation
        write_atomic(out, result.data)
