"""Documents for translation endpoints: read by their format, translated segment by segment, written with their
structure; the code path of `lingraft translate FILE`, within the limits of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath

from lingraft.conversation.decoding import DRAWN
from lingraft.conversation.document_ladder import TranslatedSegment
from lingraft.conversation.document_work import DocumentWork, longest
from lingraft.conversation.writing import Waits, never
from lingraft.core.errors import DataError, UsageError
from lingraft.core.tasks import NOUNS
from lingraft.data.glossary import Glossary
from lingraft.data.records import Sampling
from lingraft.documents.base import DOCUMENTS, DocumentFormat, Filled, decoded, format_named
from lingraft.documents.opened import DocumentHere, OpenDocument
from lingraft.language.placeholders import prose
from lingraft.serving.document_reading import MOST_SEGMENTS, REFUSED, ReadDocument, read_document
from lingraft.serving.languages import IDENTIFIED
from lingraft.serving.plain_text import PlainText
from lingraft.serving.request import MAX_BODY, ApiError
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Translation

MOST_BYTES = 16 * 1024**2
"""Of a document."""


def suffixes() -> list[str]:
    """Return the ends of the names of files that are translated, each with its dot."""
    kinds: list[type[DocumentFormat]] = [PlainText, *map(DOCUMENTS.get, DOCUMENTS)]
    return sorted({suffix for kind in kinds if kind.plain for suffix in kind.suffixes})


@dataclass(frozen=True, kw_only=True)
class DocumentJob:
    """What a request asks for.

    Attributes:
        name: of the file, which tells its format.
        data: what is in it.
        target: code of the language to translate into.
        source: code of its language; "" where it is to be told.
        glossary: terms; None for those of the server's decoder, if any.
    """

    name: str
    data: bytes
    target: str
    source: str = ""
    glossary: Glossary | None = None

    @property
    def sample(self) -> str:
        """Text by which its language can be told, as far as that is to be had without its format."""
        return prose(self.data[: 8 * IDENTIFIED].decode("utf-8", "ignore"))

    @property
    def samples(self) -> Sequence[str]:
        """The same: a document is of one language."""
        return [self.sample]


@dataclass(kw_only=True)
class PreparedDocument:
    """A document that is ready for the model.

    Attributes:
        job: that is asked for.
        document: with its segments.
        source: its language.
        target: that of the translation.
        tokens: about how many it comes to, read and written.
        begun: whether the model is at it.
        done: share of its segments that are done.
    """

    job: DocumentJob
    document: OpenDocument
    source: str
    target: str
    tokens: int
    begun: bool = False
    done: float = 0.0

    @property
    def characters(self) -> int:
        """Of its texts."""
        return sum(len(one.text) for one in self.document.segments)


@dataclass(frozen=True, kw_only=True)
class DocumentOutcome:
    """What came of a document.

    Attributes:
        data: the translated file.
        segments: what became of each.
        source: code of its language.
        read: tokens of all requests.
    """

    data: bytes
    segments: Sequence[TranslatedSegment]
    source: str
    read: int
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """Segments that are left as in the source."""
        return sum(one.state == "lost" for one in self.segments)

    @property
    def tokens(self) -> int:
        """That were written."""
        return sum(one.tokens for one in self.segments)

    @property
    def told(self) -> str:
        """What it is, for the log."""
        return f"a document of {len(self.segments)} segments, {self.lost} lost"


class DocumentService:
    """Translates documents with the model that is served; `prepare` and the languages are for any thread.

    Args:
        translator: asks the model; one of its own, so that texts do not wait for whole documents.
        texts: knows the languages, and how much a request may come to.
        ended: whether the server ends, and waits for nothing any more.
    """

    def __init__(self, translator: Translator, texts: TranslationService, ended: Callable[[], bool] = never) -> None:
        self._translator, self._texts, self.languages = translator, texts, texts.languages
        self._ended = ended

    def close(self) -> None:
        """Close what the decoder has opened."""
        self._translator.close()

    def prepare(self, job: DocumentJob) -> PreparedDocument:
        """Read a document; it takes no model, and any thread.

        Raises:
            ApiError: no format has its name, it is not of the format, has nothing to translate or too much, or a
                direction that is not served.
        """
        if self._texts.task != "translation":
            noun = NOUNS[self._texts.task]
            raise ApiError(400, f"this server answers with {noun} of texts, not of documents; send the text")
        languages = self.languages
        told = bool(job.source)
        first = job.source or next(iter(languages.sources()))
        source, target = languages.direction(first, job.target) if told else (first, job.target)
        read = self._reader(job)
        try:
            document = read(source, target)
            if not told:
                text = "\n".join(prose(one.text) for one in document.segments[:MOST_SEGMENTS])[: 2 * IDENTIFIED]
                source, target = languages.direction(languages.told(text, job.target)[0], job.target)
                document = read(source, target)
        except (DataError, UsageError) as error:
            raise ApiError(400, str(error), code=REFUSED) from error
        texts = [one.text for one in document.segments]
        if not texts:
            raise ApiError(400, "the file holds no text to translate", code=REFUSED)
        if len(texts) > MOST_SEGMENTS:
            raise ApiError(413, f"the file has more than {MOST_SEGMENTS:,} segments; send it in pieces", code=REFUSED)
        self._texts.check_size(texts)
        tokens = self._texts.tokens(dict.fromkeys(texts), [self._translator.with_terms(job.glossary)])
        return PreparedDocument(job=job, document=document, source=source, target=target, tokens=tokens)

    def _reader(self, job: DocumentJob) -> Callable[[str, str], OpenDocument]:
        """Return what reads a file, given its languages, by the format that its name tells.

        Raises:
            ApiError: none.
        """
        if PurePath(job.name).suffix.lower() in PlainText.suffixes:
            return partial(self._plain, job.data)
        found = format_named(job.name)
        if found is None or not found.plain:
            shown = PurePath(job.name).name[-80:]
            known = ", ".join(suffixes())
            raise ApiError(400, f"the file {shown!r} is of no known format; its name ends with one of {known}")
        return partial(read_document, found.name, job.data, given_up=self._ended)

    def _plain(self, data: bytes, source: str, target: str) -> OpenDocument:
        """Read a plain text, which is cut by the model's tokens, in this process: as long as a text may be.

        Raises:
            ApiError: it is longer.
        """
        if len(data) > MAX_BODY:
            message = f"a plain text may have {MAX_BODY:,} bytes; send it in pieces"
            raise ApiError(413, message, code=REFUSED)
        self._texts.check_size([decoded(data, "the file").text])
        plain = PlainText(self._translator.longest_part, self._translator.count)
        return DocumentHere(plain.parse(data, "the file", source, target), plain, source, target)

    def work(
        self, prepared: PreparedDocument, left: Callable[[], bool] = never
    ) -> Generator[DocumentOutcome | Waits, None, None]:
        """Yield at the end what came of a document; nothing where nobody waits for it.

        Args:
            prepared: by `prepare`.
            left: whether nobody waits any more.

        Raises:
            ApiError: as `Translator.run`.
        """
        return self._translator.run(lambda: self._worked(prepared, left), left)

    def _worked(self, prepared: PreparedDocument, left: Callable[[], bool]) -> Iterator[DocumentOutcome]:
        own, read, failures = self._translator, 0, Counter[str]()
        decoder = own.with_terms(prepared.job.glossary)
        source, target = prepared.source, prepared.target
        prepared.begun = True

        def ask(texts: Mapping[str, str], draw: int) -> Mapping[str, Translation]:
            nonlocal read
            most = longest(texts.values(), own.most)
            decoding = own.decoding(decoder, Sampling(most, DRAWN if draw else 0.0, seed=draw))
            found = dict(own.translations(decoding, [(text, source, target) for text in dict.fromkeys(texts.values())]))
            read += decoding.read
            failures.update(one.failure for one in found.values())
            return {id_: replace(found[text, source, target], id=id_) for id_, text in texts.items()}

        document = prepared.document
        if isinstance(document, ReadDocument):
            document.left = left
        work = DocumentWork(document, ask, source)

        def tell(count: int) -> None:
            prepared.done = count / work.count

        segments = work.done(tell)
        filled = {one.id: Filled(one.translation, one.state) for one in segments}
        yield DocumentOutcome(
            data=document.written(filled), segments=segments, source=source, read=read, failures=failures
        )
