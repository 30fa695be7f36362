"""How a graft or an engine carries a text to another language: what is asked, and how answers are put together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Request, Sampling, Span
from lingraft.language.characters import is_blank
from lingraft.language.codes import joins_sentences
from lingraft.language.measures import letter_count
from lingraft.language.sentences import TextPiece, join_text, split_text
from lingraft.translation.markers import Markers
from lingraft.translation.wording import ask

_LABEL = 40
"""Characters at the start of a paragraph among which a label ("Anmerkung:") ends."""

_BETWEEN_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: what blank lines separate."""
    return _BETWEEN_PARAGRAPHS.split(text.strip()) if not is_blank(text) else []


def stops_for(text: str, stops: Sequence[str]) -> tuple[str, ...]:
    """Return the stop strings at which an engine may end the translation of a text: those it cannot hold itself.

    What ends a translation ("Note:" on a line of its own) can stand in that of a manual, whose source says it in
    another language. Only behind the one line of a text of one line it is sure to be the end; the translation of
    another text is cut afterwards, by `without_rationale`.
    """
    one_line = len(_lines(text)) <= 1
    return tuple(stop for stop in stops if one_line and (stop.strip() or stop) not in text)


def without_rationale(text: str, written: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Return the translation of a text, without what was written behind the delimiter, and whether its end is clear.

    Of several places where a stop string stands, the first ends it that has as many paragraphs before it as the text,
    and as many lines or a blank line before it. Where none has, all of it is the translation if it has as many
    paragraphs as the text and the text's own begin as if they were labelled, too; else the last place ends it, and that
    is not clear.

    Args:
        text: that was translated.
        written: by an engine that did not stop at the delimiter, see `stops_for`.
        stops: strings at which a translation ends.
    """
    ends = sorted((hit.start(), stop) for stop in stops for hit in re.finditer(re.escape(stop), written))
    if not ends:
        return written, True
    wanted, seen = paragraphs(text), dict.fromkeys(stops, 0)
    for end, stop in ends:
        before = written[:end]
        # At the start of a line it is told by its place; within a line, by how often the text has it.
        own = 0 if stop.startswith("\n") else text.count(stop.strip() or stop)
        blank_line = before.rstrip(" \t").endswith("\n")
        whole = len(paragraphs(before)) >= len(wanted)
        if whole and seen[stop] >= own and (blank_line or len(_lines(before)) >= len(_lines(text))):
            return before, True
        seen[stop] += 1
    places = {len(paragraphs(written[:end])): stop.strip() for end, stop in ends}
    if len(paragraphs(written)) == len(wanted) and all(
        _labelled(wanted[place], stop) for place, stop in places.items() if place < len(wanted)
    ):
        return written, True
    return written[: ends[-1][0]], False


def _labelled(paragraph: str, core: str) -> bool:
    """Whether a paragraph begins with the sign that tells a delimiter from words: the colon of "Note:", a bracket."""
    sign = next((char for char in core if not (char.isalnum() or char.isspace())), "")
    return sign in unicodedata.normalize("NFKC", paragraph[:_LABEL])


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if not is_blank(line)]


def opened(markers: Markers, source: str, source_lang: str, target_lang: str) -> tuple[Span, ...]:
    """Return the plain text whose continuation is the translation into the target language.

    Args:
        markers: of the vocabulary.
        source: text to translate.
        source_lang: its language code.
        target_lang: language code of the translation.

    Raises:
        UsageError: a language that has no marker.
    """
    try:
        into, from_ = markers.of(target_lang), markers.of(source_lang)
    except KeyError as error:
        raise UsageError(
            f"the language {error.args[0]!r} has no marker; name it under `vocabulary:`, or leave out its pairs"
        ) from error
    return (markers.span(from_), Span(source, "text"), markers.span(into))


def graft_requests(
    id_: str, text: str, lang: str, markers: Markers, *, seed: int, source_lang: str = "en"
) -> Iterator[Request]:
    """Yield what the graft of translation pre-training is asked: each sentence of a text as plain text behind the
    marker of its language, followed by the marker of the language to translate into.

    Args:
        id_: of the text; a request's is `id_:number`, counting the sentences.
        text: of one or more sentences; what needs no translation, such as code, is not asked for.
        lang: language code of the translation.
        markers: of the graft.
        seed: of the sampling.
        source_lang: language code of the text.

    Raises:
        UsageError: a language that has no marker.
    """
    for number, piece in enumerate(_wanted(text, source_lang)):
        # Thai takes 1.8 tokens a character where the tokenizer has no pieces for it, and is about as long as English.
        sampling = Sampling(24 + 2 * len(piece), seed=seed)
        yield Request(f"{id_}:{number}", (), sampling, turn=opened(markers, piece, source_lang, lang))


def engine_requests(
    id_: str, text: str, lang: str, wording: str, *, seed: int, source_lang: str = "en", stop: Sequence[str] = ()
) -> Iterator[Request]:
    """Yield what another model is asked: the whole text, by an instruction.

    Args:
        id_: of the text; the request's is `id_:0`.
        text: a text without letters is not asked for.
        lang: language code of the translation.
        wording: of the instruction, see `check_wording`.
        seed: of the sampling.
        source_lang: language code of the text.
        stop: strings at which its translations end; what comes behind one in the answer is for the reader to cut off,
            with `without_rationale`.
    """
    if letter_count(text):
        sampling = Sampling(64 + 2 * len(text), stop=stops_for(text, stop), seed=seed)
        yield Request(f"{id_}:0", ask(wording, text, source_lang, lang), sampling)


def answered_pieces(
    id_: str, text: str, source_lang: str, generations: Mapping[str, Generation]
) -> tuple[list[TextPiece], list[Generation]]:
    """Return the pieces of a text, and the answers to `graft_requests` for those that were to be translated.

    Args:
        id_: of the text, as given to `graft_requests`.
        text: as given to `graft_requests`.
        source_lang: as given to `graft_requests`.
        generations: request id -> answer.
    """
    pieces = split_text(text, lang=source_lang)
    return pieces, [generations[f"{id_}:{number}"] for number in range(sum(piece.translate for piece in pieces))]


def put_together(pieces: Sequence[TextPiece], translations: Sequence[str], lang: str) -> str:
    """Return the text in another language, each translation on one line.

    Args:
        pieces: of the source text.
        translations: of those pieces that are to be translated, in order.
        lang: language code of the translations; tells whether its sentences are set apart by a space.
    """
    if joins_sentences(lang):
        pieces = [TextPiece("", False) if piece.text == " " else piece for piece in pieces]
    else:  # no space between sentences of such a source
        spaced = [
            [piece, TextPiece(" ", False)] if piece.translate and after and after.translate else [piece]
            for piece, after in zip_longest(pieces, pieces[1:])
        ]
        pieces = [piece for group in spaced for piece in group]
    return join_text(pieces, [" ".join(translation.split()) for translation in translations])


def _wanted(text: str, lang: str) -> list[str]:
    return [piece.text for piece in split_text(text, lang=lang) if piece.translate]
