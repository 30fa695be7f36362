"""How a graft or an engine carries a text to another language: what is asked, and how answers are put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from lingraft.data.languages import base_language
from lingraft.data.records import Generation, Request, Sampling, Span
from lingraft.data.sentences import TextPiece, join_text, split_text
from lingraft.errors import UsageError
from lingraft.instructions import ask
from lingraft.markers import Markers
from lingraft.text import letter_count


def opened(markers: Markers, source: str, source_lang: str, target_lang: str) -> tuple[Span, ...]:
    """Return the plain text whose continuation is the translation into the target language.

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
    id_: str, text: str, lang: str, markers: Markers, seed: int, source_lang: str = "en"
) -> Iterator[Request]:
    """Yield what the graft of translation pre-training is asked: each sentence of a text as plain text behind the
    marker of its language, followed by the marker of the language to translate into."""
    for number, piece in enumerate(_wanted(text)):
        # Thai takes 1.8 tokens a character where the tokenizer has no pieces for it, and is about as long as English.
        sampling = Sampling(24 + 2 * len(piece), seed=seed)
        yield Request(f"{id_}:{number}", (), sampling, turn=opened(markers, piece, source_lang, lang))


def engine_requests(
    id_: str, text: str, lang: str, wording: str, seed: int, source_lang: str = "en", stop: Sequence[str] = ()
) -> Iterator[Request]:
    """Yield what another model is asked: the whole text, by an instruction."""
    if letter_count(text):
        sampling = Sampling(64 + 2 * len(text), stop=tuple(stop), seed=seed)
        yield Request(f"{id_}:0", ask(wording, text, source_lang, lang), sampling)


def answered_pieces(
    id_: str, text: str, generations: Mapping[str, Generation]
) -> tuple[list[TextPiece], list[Generation]]:
    """Return the pieces of a text, and the answers to `graft_requests` for those that were to be translated."""
    pieces = split_text(text)
    return pieces, [generations[f"{id_}:{number}"] for number in range(sum(piece.translate for piece in pieces))]


def put_together(pieces: Sequence[TextPiece], translations: Sequence[str], lang: str) -> str:
    """Return the text in another language, each translation on one line."""
    if base_language(lang) in ("zh", "ja"):  # no space between sentences
        pieces = [TextPiece("", False) if piece.text == " " else piece for piece in pieces]
    else:  # no space between sentences of such a source
        spaced = [
            [piece, TextPiece(" ", False)] if piece.translate and after and after.translate else [piece]
            for piece, after in zip_longest(pieces, pieces[1:])
        ]
        pieces = [piece for group in spaced for piece in group]
    return join_text(pieces, [" ".join(translation.split()) for translation in translations])


def _wanted(text: str) -> list[str]:
    return [piece.text for piece in split_text(text) if piece.translate]
